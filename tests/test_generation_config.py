"""What generation_config.json says beyond end tokens: stop texts end a text, the rest is named."""

import json
import warnings

import pytest
import tiny

from hybridattn import Model
from hybridattn.errors import ConfigError


def saved(folder, **generation):
    tiny.teacher(layers=1).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return Model.from_pretrained(folder)


@pytest.mark.parametrize("form", [str, lambda text: [text, "never there"]])
def test_its_stop_texts_end_a_text(tmp_path, form):
    free = saved(tmp_path).generate("the mill", max_new_tokens=30)
    stop = free[7:9]
    model = saved(tmp_path, stop_strings=form(stop))
    want = free[: free.index(stop)]
    assert model.generate("the mill", max_new_tokens=30) == want
    assert "".join(model.stream("the mill", max_new_tokens=30)) == want
    assert model.generate("the mill", max_new_tokens=30, stop=free[2:4]) == free[: free.index(free[2:4])]
    model.to_probe(tiny.MIXERS[0]).to_hybrid([0]).save_pretrained(tmp_path / "h")
    assert Model.from_pretrained(tmp_path / "h").generate("the mill", max_new_tokens=30) == want


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repetition_penalty", 1.1),
        ("no_repeat_ngram_size", 3),
        ("num_beams", 4),
        ("suppress_tokens", [5]),
        ("bad_words_ids", [[5, 6]]),
        ("forced_eos_token_id", 3),
        ("min_new_tokens", 5),
        ("do_sample", True),
    ],
)
def test_what_would_give_another_text_is_named(tmp_path, name, value):
    model = saved(tmp_path, **{name: value})
    with pytest.warns(UserWarning, match=f"generation_config.json has {name}=.* not applied"):
        model.generate([1, 2], max_new_tokens=2)
    with pytest.warns(UserWarning, match=name):
        "".join(model.stream("a", max_new_tokens=2))


def test_options_of_sampling_are_named_where_it_is_on(tmp_path):
    with pytest.warns(UserWarning, match="do_sample=True, temperature=0.6, top_p=0.9"):
        saved(tmp_path, do_sample=True, temperature=0.6, top_p=0.9).generate([1], max_new_tokens=1)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": False, "temperature": 0.6, "top_p": 0.9},
        {"repetition_penalty": 1.0, "num_beams": 1, "no_repeat_ngram_size": 0, "suppress_tokens": []},
        {"bos_token_id": 1, "pad_token_id": 0, "max_length": 4096, "transformers_version": "4.57.6"},
        {"forced_eos_token_id": None, "stop_strings": None, "something_new": 1},
    ],
)
def test_nothing_is_said_where_nothing_differs(tmp_path, settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved(tmp_path, **settings).generate([1, 2], max_new_tokens=2)


@pytest.mark.parametrize("value", [3, [""], [None], {"a": 1}, True, ["a", 1]])
def test_stop_texts_that_are_none(tmp_path, value):
    with pytest.raises(ConfigError, match=r"generation_config.json: stop_strings is"):
        saved(tmp_path, stop_strings=value)
