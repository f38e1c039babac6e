"""The recipe: defaults that hold together, TOML there and back, refusals that name key and value."""

import pytest

from hybridattn.errors import ConfigError, PlanError
from hybridattn.pipeline.lengths import fitted
from hybridattn.pipeline.recipe import PARTS, Recipe
from hybridattn.pipeline.recipe_keys import keys
from hybridattn.pipeline.recipe_toml import merge, parse_setting


def load(tmp_path, text, **overrides):
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return Recipe.load(path, overrides)


def test_the_built_in_recipe_is_valid():
    recipe = Recipe()
    recipe.check()
    assert recipe.method in recipe.score.methods
    assert max(recipe.evaluate.lengths) > recipe.distill.seq_len  # a longer length is always reported


def test_toml_round_trip(tmp_path):
    recipe = Recipe.from_dict(
        {
            "seed": 3,
            "mixer": {"kind": "gated_delta", "rope": True},
            "align": {"lr": 1},
            "score": {"methods": "kl_gate"},
            "samples": {"prompt": 'a "quote"\nand é'},
        }
    )
    again = load(tmp_path, recipe.to_toml())
    assert again == recipe
    assert again.mixer == {"kind": "gated_delta", "rope": 1}
    assert again.align.lr == 1.0 and again.score.methods == ("kl_gate",)
    assert again.method == "kl_gate" and Recipe().method == "kl_replace"  # the first


def test_every_key_says_what_it_is_for(tmp_path):
    recipe = Recipe.from_dict({"mixer": {"kind": "gated_delta", "rope": 1}, "plan": {"ratio": 0.5}})
    written = recipe.to_toml(explain=True)
    assert load(tmp_path, written) == recipe
    lines = written.splitlines()
    for table, part in PARTS.items():
        start = lines.index(f"[{table}]")
        assert lines[start - 1].startswith("# ")
        for line, (name, field) in zip(lines[start + 1 :], keys(part).items(), strict=False):
            assert field.metadata["help"]
            assert line.startswith(f"{name} = ") and field.metadata["help"] in line.partition("  # ")[2]


def test_every_number_has_a_check():
    for part in PARTS.values():
        for field in keys(part).values():
            if isinstance(field.default, (int, float)) and not isinstance(field.default, bool):
                assert field.metadata["check"], f"{part.__name__}.{field.name}"


def test_what_toml_has_to_escape(tmp_path):
    prompt = 'moon \N{FULL MOON SYMBOL} \x7f \x01 \u2028 "\\'
    recipe = Recipe.from_dict({"samples": {"prompt": prompt}})
    assert load(tmp_path, recipe.to_toml()) == recipe


def test_how_many_layers_stay():
    assert Recipe().softmax_layers(30) == 8
    assert Recipe.from_dict({"plan": {"ratio": 0.5}}).softmax_layers(30) == 15
    assert Recipe.from_dict({"plan": {"softmax_layers": 3}}).softmax_layers(30) == 3
    for plan, message in (
        ({"ratio": 1.0}, "plan.ratio is 1.0, which keeps 30; allowed: 1 to 29"),
        ({"ratio": 0.01}, "plan.ratio is 0.01, which keeps 0; allowed"),
        ({"softmax_layers": 30}, "plan.softmax_layers is 30; allowed: 1 to 29"),
    ):
        with pytest.raises(PlanError, match=message):
            Recipe.from_dict({"plan": plan}).softmax_layers(30)


def test_a_recipe_that_is_no_text(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"[samples]\nprompt = 'caf\xe9'\n")
    with pytest.raises(ConfigError, match="byte 23 is not UTF-8 text"):
        Recipe.load(tmp_path / "latin.toml")
    with pytest.raises(ConfigError, match=r"samples\.prompt is .* it must be UTF-8 text"):
        Recipe.from_dict({"samples": {"prompt": "caf\udce9"}})


def test_overrides_win(tmp_path):
    recipe = load(tmp_path, "align.tokens = 4096\nalign.lr = 0.01\nmixer.window = 32", align={"tokens": 8192})
    assert (recipe.align.tokens, recipe.align.lr) == (8192, 0.01)
    assert recipe.mixer == {"kind": "window_linear", "window": 32}


def test_another_mixer_kind_drops_the_options_of_the_old_one():
    base = {"mixer": {"kind": "window_linear", "window": 32}}
    assert merge(base, {"mixer": {"kind": "gated_delta"}})["mixer"] == {"kind": "gated_delta"}
    wanted = {"kind": "window_linear", "window": 32, "sinks": 2}
    assert merge(base, {"mixer": {"sinks": 2}})["mixer"] == wanted


def test_paths_are_relative_to_the_recipe(tmp_path):
    (tmp_path / "text.txt").write_text("hello")
    recipe = load(tmp_path, '[text]\ntrain = "text.txt"\n[teacher]\nmodel = "owner/name"')
    assert recipe.text.train == str(tmp_path / "text.txt")
    assert recipe.teacher.model == "owner/name"
    recipe = load(tmp_path, '[tasks]\nsquad = ["disfl_qa", "text.txt"]\nglue_data = "."')
    assert recipe.tasks.squad == ("disfl_qa", str(tmp_path / "text.txt"))
    assert recipe.tasks.glue_data == str(tmp_path)


def test_paths_of_the_command_line_are_not_relative_to_the_recipe(tmp_path):
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "recipe.toml").write_text("seed = 1")
    recipe = Recipe.load(tmp_path / "recipe.toml", {"text": {"train": "text.txt"}})
    assert recipe.text.train == "text.txt"


@pytest.mark.parametrize(
    "text, message",
    [
        ("distil.tokens = 1", 'unknown key "distil"; did you mean "distill"?'),
        ("[align]\ntoken = 1", 'recipe [align]: unknown key "token"; did you mean "tokens"?'),
        ("[align]\nzzz = 1", 'unknown key "zzz"; allowed: tokens, seq_len'),
        ("align = 3", "align must be a table"),
        ("[align]\ntokens = 'many'", "align.tokens is 'many'; it must be a whole number"),
        ("[align]\ntokens = 1.5", "align.tokens is 1.5; it must be a whole number"),
        ("[align]\nlayerwise = 1", "align.layerwise is 1; it must be true or false"),
        ("[align]\ntokens = true", "align.tokens is True; it must be a whole number"),
        ("[align]\ntokens = 100", "align.tokens is 100, less than one step"),
        ("[align]\nlr = -1.0", "align.lr is -1.0; it must be 0 or more"),
        ("[evaluate]\nlengths = []", "evaluate.lengths is []"),
        ("[evaluate]\ntokens = 600", "evaluate.tokens is 600, less than the longest"),
        ("[score]\ntext = 'novel'", 'score.text is "novel"; allowed: recall, plain, mix'),
        (
            "[plan]\nmethod = 'mse'",
            'plan.method is "mse"; allowed: one of score.methods: kl_replace, kl_gate',
        ),
        ("[plan]\nratio = 1.5", "plan.ratio is 1.5"),
        (
            "[plan]\nratio = 0.5\nsoftmax_layers = 8",
            "plan.softmax_layers is 8 and plan.ratio is 0.5; give one",
        ),
        ("[align]\ntokens = 99999999999", "align.tokens is 99999999999; it must be at most 2147483647"),
        ("[distill]\nfinetune_tokens = 100", "distill.finetune_tokens is 100, less than one step"),
        ("[distill]\nmodels = ['uniform']", 'distill.models must hold "chosen"'),
        ("[distill]\nmodels = ['chosen', 'best']", 'distill.models is "best"'),
        ("[distill]\nschedule = 'linear'", 'distill.schedule is "linear"'),
        ("[mixer]\nwindow = 'wide'", "mixer.window is 'wide'"),
        ("seed = 'one'", "seed is 'one'"),
        ("seed 1", "not valid TOML"),
    ],
)
def test_refusals(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; write one, or use --demo"):
        Recipe.load(tmp_path / "no.toml")


@pytest.mark.parametrize(
    "text, table",
    [
        ("align.tokens=1000", {"align": {"tokens": 1000}}),
        ("seed = 3", {"seed": 3}),
        ("mixer.kind=gated_delta", {"mixer": {"kind": "gated_delta"}}),
        ("evaluate.lengths=[64, 128]", {"evaluate": {"lengths": [64, 128]}}),
        ("text.train=a/b c.txt", {"text": {"train": "a/b c.txt"}}),
    ],
)
def test_settings(text, table):
    assert parse_setting(text) == table


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"write it as table\.key=value"):
        parse_setting("align.tokens")


@pytest.mark.parametrize(
    ("positions", "want"),
    [(8192, (2048, 512, 512, (512, 2048), (512, 2048))), (2048, (2048, 512, 512, (512, 2048), (512, 2032))),
     (1024, (1024, 512, 512, (512, 1024), (512, 1008))), (256, (256, 256, 256, (256,), (240,)))],
)  # fmt: skip
def test_usual_lengths_follow_the_teacher(positions, want):
    lines = []
    made = fitted(Recipe(), positions, lines.append)
    got = (
        made.align.seq_len,
        made.score.seq_len,
        made.distill.seq_len,
        made.evaluate.lengths,
        made.measure.lengths,
    )
    assert got == want and len(lines) == (positions < 2064)


def test_chosen_lengths_stay():
    recipe = Recipe.from_dict({"align": {"seq_len": 4096}, "measure": {"lengths": [4096]}})
    made = fitted(recipe, 1024, lambda line: None)
    assert (
        made.align.seq_len == 4096
        and made.measure.lengths == (4096,)
        and made.evaluate.lengths == (512, 1024)
    )
