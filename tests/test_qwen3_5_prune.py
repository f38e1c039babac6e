"""A Qwen3.5 model, a hybrid from the start, loses more of its softmax layers: only those are aligned, scored
and planned.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
from golden import recipe

from hybridattn import _core, errors, radlads, select
from hybridattn.cli.main import main
from hybridattn.families import config_from_hf
from hybridattn.model.base import linear_mixer, switchable
from hybridattn.model.model import Model
from hybridattn.model.plan import Plan
from hybridattn.select import elastic, plan

LINEAR, SOFTMAX = "linear_attention", "full_attention"
KINDS = [LINEAR, SOFTMAX, LINEAR, SOFTMAX, SOFTMAX]
HF = dict(
    recipe.FAMILIES["qwen3_5"],
    num_hidden_layers=5,
    layer_types=KINDS,
    vocab_size=257,
    eos_token_id=256,
    max_position_embeddings=256,
)
OWN = {"heads": 4, "key_heads": 2, "head_dim": 8, "conv": 4, "bias": 0, "qk_norm": 0}
TOKENS = (np.arange(60, dtype=np.int32)[None] * 37) % 256


@pytest.fixture(scope="module")
def teacher() -> Model:
    model = Model(config_from_hf(HF), tokenizer=tiny.tokenizer())
    tiny.randomize(model, 3)
    for name, array in model.arrays().items():
        if "A_log" in name or "dt_bias" in name:
            array -= 1.5
    return model


@pytest.fixture(scope="module")
def probe(teacher) -> Model:
    return radlads.align(teacher, {"kind": "gated_delta"}, tiny.text_data(), 30, 2, progress=False)


def test_only_softmax_layers_get_a_mixer(teacher, probe):
    assert switchable(probe) == [1, 3, 4]
    assert [len(specs) for specs in probe.layers] == [1, 2, 1, 2, 2]
    assert {key: linear_mixer(probe)[key] for key in OWN} == OWN  # as the linear layers that it has
    np.testing.assert_array_equal(probe.logits(TOKENS), teacher.logits(TOKENS))
    for name, array in teacher.arrays().items():
        np.testing.assert_array_equal(probe.arrays()[name], array, err_msg=name)
    losses = probe.train_result.losses
    assert (losses[-5:, [1, 3, 4]].mean(0) < losses[:5, [1, 3, 4]].mean(0)).all()
    assert not losses[:, [0, 2]].any()


@pytest.mark.parametrize("method", [m for m in select.selectors() if m != "kl_restore_distilled"])
def test_every_method_scores_its_softmax_layers(probe, method, tmp_path):
    length = 250 if method.startswith("diagnostic") else 24
    scores = select.score(probe, tiny.text_data(length, 750), method, progress=False)
    assert scores.num_layers == 3 and scores.numbers == (1, 3, 4)
    scores.save(tmp_path / "scores.json")
    again = select.LayerScores.load(tmp_path / "scores.json")
    chosen = plan.make(again, k=1)
    assert chosen.num_layers == 5 and set(chosen.softmax_layers) <= {1, 3, 4} and chosen.k == 1
    hybrid = probe.to_hybrid(chosen)
    kinds = [specs[0]["kind"] for specs in hybrid.layers]
    assert [i for i, kind in enumerate(kinds) if kind == "softmax"] == list(chosen.softmax_layers)


def test_scores_are_the_kl_of_these_hybrids(teacher, probe):
    data = tiny.text_data(24, 200)
    scores = select.score(probe, data, "kl_replace", progress=False)
    for value, layer in zip(scores.values, scores.numbers, strict=True):
        hybrid = probe.to_hybrid([i for i in (1, 3, 4) if i != layer])
        p, q = (
            m.logits(data.tokens[None, slice(*data.windows[0])])[0].astype(np.float64)
            for m in (teacher, hybrid)
        )
        p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (p, q))
        kl = (np.exp(p) * (p - q)).sum(-1).mean()
        assert scores.per_sequence[scores.numbers.index(layer), 0] == pytest.approx(kl, rel=1e-4)
        assert value > 0


def test_distilled_candidates_too(probe):
    more = {"train": tiny.text_data(24, 400), "steps": (1, 2), "k": 1}
    scores = select.score(probe, tiny.text_data(24, 200), "kl_restore_distilled", progress=False, **more)
    assert scores.numbers == (1, 3, 4)


def test_distilled_saved_and_exported(teacher, probe, tmp_path):
    """To the layout of its own family: what was softmax is one of its linear layers then."""
    hybrid = probe.to_hybrid([3])
    data, kl = tiny.text_data(), []
    for steps in (20, 0):
        kl.append(_core.KLScorer(hybrid, teacher).kl(data.tokens, data.windows).mean())
        if steps:
            radlads.distill(hybrid, teacher, data, steps, 2, lr_mixers=1e-3, progress=False)
    assert kl[1] < 0.95 * kl[0]
    hybrid.save_pretrained(tmp_path / "hybrid")
    again = Model.from_pretrained(tmp_path / "hybrid")
    np.testing.assert_array_equal(again.logits(TOKENS), hybrid.logits(TOKENS))
    assert again.model_config == hybrid.model_config
    hybrid.export(tmp_path / "out", "qwen3_5")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["layer_types"] == [LINEAR, LINEAR, LINEAR, SOFTMAX, LINEAR]
    back = Model.from_pretrained(tmp_path / "out")
    ours = hybrid.logits(TOKENS)
    np.testing.assert_allclose(back.logits(TOKENS), ours, rtol=0, atol=1e-5 * np.abs(ours).max())
    assert back.model_config.native_layers[1]["kind"] == "gated_delta"


def test_step_by_step_on_the_command_line(teacher, tmp_path, capsys):
    def run(*words):
        main([str(word) for word in words])
        return capsys.readouterr().out

    folder = {name: tmp_path / name for name in ("teacher", "probe", "scores.json", "plan.json", "hybrid")}
    teacher.save_pretrained(folder["teacher"])
    (tmp_path / "your.txt").write_text(tiny.TEXT, encoding="utf-8")
    text = ("--text", tmp_path / "your.txt", "--seq-len", 32, "--quiet")
    run(
        "align", folder["teacher"], "--mixer", "gated_delta", *text, "--tokens", 128, "--out", folder["probe"]
    )
    shown = run("score", folder["probe"], *text, "--tokens", 64, "--out", folder["scores.json"])
    assert {line.split()[0] for line in shown.splitlines() if line[:1].isdigit()} == {"1", "3", "4"}
    shown = run("plan", folder["scores.json"], "--layers", 1, "--out", folder["plan.json"])
    assert shown.count("■") == 1 and shown.count("·") == 4
    more = ("--plan", folder["plan.json"], "--tokens", 128, "--out", folder["hybrid"])
    run("distill", folder["probe"], *text, *more)
    run("export", folder["hybrid"], "--to", "qwen3_5", "--out", tmp_path / "out")
    kept = Plan.load(folder["plan.json"]).softmax_layers
    kinds = json.loads((tmp_path / "out" / "config.json").read_text())["layer_types"]
    assert tuple(i for i, kind in enumerate(kinds) if kind == SOFTMAX) == kept and set(kept) <= {1, 3, 4}


def test_what_it_cannot_be(teacher, probe, tmp_path):
    with pytest.raises(errors.ConfigError, match=r"layer 0 is.*gated_delta"):
        probe.to_hybrid([0, 1])
    with pytest.raises(errors.ConfigError, match="linear in some layers for good"):
        elastic.make(probe, select.score(probe, tiny.text_data(24, 100), progress=False))
    with pytest.raises(errors.ConfigError, match=r"key_heads is 3, allowed are divisors of heads \(4\)"):
        teacher.to_probe({"kind": "gated_delta", "key_heads": 3})
    with pytest.raises(errors.ConfigError, match="qk_norm is 1"):
        teacher.to_probe({"kind": "gated_delta", "qk_norm": 1})
    with pytest.raises(errors.PlanError, match="num_layers"):
        probe.to_hybrid(Plan((1,), 3, "explicit"))
    other = teacher.to_probe({"kind": "window_linear", "window": 8}).to_hybrid([1, 3])
    with pytest.raises(errors.ExportError, match="layer 4: window_linear"):
        other.export(tmp_path / "no", "qwen3_5")
    with pytest.raises(errors.ExportError, match=r"layer 4.*head_dim"):
        teacher.to_probe({"kind": "gated_delta", "heads": 2, "head_dim": 16}).to_hybrid([1, 3]).export(
            tmp_path / "no", "qwen3_5"
        )


WRONG = {
    "layer_types": (["sliding_attention"] * 5, "full_attention and linear_attention"),
    "linear_num_key_heads": (3, "divisor of linear_num_value_heads"),
    "linear_value_head_dim": (4, "linear_key_head_dim is 8 and linear_value_head_dim is 4"),
    "attn_output_gate": (False, "attn_output_gate is False"),
    "text_config": ([], "text_config"),
    "hidden_act": ("gelu", "hidden_act"),
}


@pytest.mark.parametrize("key", WRONG)
def test_settings_that_are_refused(key):
    value, message = WRONG[key]
    with pytest.raises(errors.ConfigError, match=message):
        config_from_hf({**HF, key: value})
