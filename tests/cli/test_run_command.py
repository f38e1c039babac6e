"""`hybridattn run`: the recipe it shows, and the one it must not write over."""

from command import call


def test_show_recipe_is_a_recipe(capsys, tmp_path):
    code, out, _ = call(capsys, "run", "--demo", "--set", "seed=5", "--show-recipe")
    (tmp_path / "r.toml").write_text(out)
    assert code == 0 and out.startswith("seed = 5  # ")
    assert call(capsys, "run", tmp_path / "r.toml", "--show-recipe")[1] == out


def test_the_recipe_that_is_read_is_not_written_over(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = f'# mine\n[teacher]\nmodel = "{folder / "teacher"}"\n'
    (tmp_path / "recipe.toml").write_text(recipe)
    code, _, err = call(capsys, "run", "recipe.toml", "--out", ".")
    assert code == 1 and "would write over the recipe 'recipe.toml'" in err
    assert (tmp_path / "recipe.toml").read_text() == recipe


def test_the_demo_evaluates_on_less_text(capsys):
    assert "tokens = 4096" in call(capsys, "run", "--demo", "--show-recipe")[1]
    shown = call(capsys, "run", "--set", "seed=0", "--show-recipe")[1]
    assert "tokens = 16384" in shown and "lr = 0.0  # the one of window_linear: 0.01" in shown
    shown = call(capsys, "run", "--mixer", "gated_delta", "--show-recipe")[1]
    assert "# the one of gated_delta: 0.006" in shown
    assert call(capsys, "run", "x.toml", "--demo", "--out", "y")[0] == 2
