"""Public functions name every option with its default, and a typo is told by the nearest name."""

import inspect
from dataclasses import fields

import pytest
import tiny

import hybridattn as ha
from hybridattn.model.generate import OptionKeywords, Options, generate, stream
from hybridattn.radlads.settings import SettingKeywords, Settings
from hybridattn.select import registry
from hybridattn.tasks import finetune
from hybridattn.tasks.train import BERT_BETAS

TRAINING = [ha.align, ha.distill, ha.finetune, finetune]
WRITING = [generate, stream, ha.Model.generate, ha.Model.stream]


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


@pytest.mark.parametrize("function", [*TRAINING, *WRITING, ha.score])
def test_every_option_is_named(function):
    kinds = {each.kind for each in inspect.signature(function).parameters.values()}
    assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    assert inspect.Parameter.empty not in defaults(function).values()


@pytest.mark.parametrize(
    "functions, settings, other",
    [
        (TRAINING[:3], Settings, {}),
        (TRAINING[3:], Settings, {"betas": BERT_BETAS, "warmup_steps": None}),
        (WRITING, Options, {}),
    ],
)
def test_defaults_are_those_of_the_settings(functions, settings, other):
    expected = {field.name: field.default for field in fields(settings)} | other
    for function in functions:
        assert {name: defaults(function)[name] for name in expected} == expected


@pytest.mark.parametrize("keywords, settings", [(SettingKeywords, Settings), (OptionKeywords, Options)])
def test_keywords_for_type_checkers_are_the_fields(keywords, settings):
    types = {name: hint.__forward_arg__ for name, hint in keywords.__annotations__.items()}
    assert types == {field.name: field.type for field in fields(settings)}


def test_score_names_the_options_of_all_methods():
    methods = {**registry._TEXT, **registry._FIXED}
    own = {name for _, function in methods.values() for name in registry._options_of(function)}
    assert own == set(defaults(ha.score)) - {"progress", "options"}


@pytest.mark.parametrize(
    "call, wrong, right",
    [
        (lambda m, o: m.generate([1], **o), "max_new_token", "max_new_tokens"),
        (lambda m, o: m.stream([1], **o), "temprature", "temperature"),
        (lambda m, o: generate(m, [1], **o), "topk", "top_k"),
        (lambda m, o: ha.align(m, {"kind": "linear"}, None, 1, 1, **o), "sede", "seed"),
        (lambda m, o: ha.distill(m, m, None, 1, 1, **o), "lr_mixer", "lr_mixers"),
        (lambda m, o: ha.finetune(m, None, 1, 1, **o), "micro_batches", "micro_batch"),
        (lambda m, o: finetune(m, None, **o), "epoch", "epochs"),
        (lambda m, o: ha.score(m, None, **o), "swap", "swaps"),
    ],
)
def test_a_typo_is_told(call, wrong, right):
    with pytest.raises(TypeError, match=rf"\(\) has no argument '{wrong}'; did you mean \"{right}\"\?"):
        call(tiny.teacher(), {wrong: 1})


def test_a_name_like_no_other_lists_all():
    with pytest.raises(TypeError, match="'qqq'; allowed: probe, data, method, alpha"):
        ha.score(tiny.teacher(), None, qqq=3)
