"""What was measured of a saved model stands in its card, and goes along when it is exported."""

from __future__ import annotations

import tiny

from hybridattn.cli.main import main
from hybridattn.model.card import NAME, add_measured, evaluation_rows, measured_of
from hybridattn.model.model import Model

EVALUATED = {
    "512": {"kl": 0.23109329, "perplexity": 31.07323, "tokens": 4096},
    "2048": {"kl": 0.37319, "perplexity": 30.3176, "tokens": 4096},
}
ROWS = {
    "KL from the teacher, windows of 512": "0.2311 nats a token, 4,096 held-out tokens in windows of 512",
    "perplexity, windows of 512": "31.07, 4,096 held-out tokens in windows of 512",
    "KL from the teacher, windows of 2048": "0.3732 nats a token, 4,096 held-out tokens in windows of 2048",
    "perplexity, windows of 2048": "30.32, 4,096 held-out tokens in windows of 2048",
}


def saved(folder) -> Model:
    model = tiny.teacher().to_probe({"kind": "gated_delta"}).to_hybrid([1])
    model.save_pretrained(folder)
    return model


def test_rows_stand_at_the_end_of_the_table_once(tmp_path):
    saved(tmp_path)
    assert measured_of(tmp_path) == {}
    before = (tmp_path / NAME).read_text()
    assert evaluation_rows(EVALUATED) == ROWS
    for _ in range(2):
        add_measured(tmp_path, ROWS)
        text = (tmp_path / NAME).read_text()
        assert text == before + "".join(f"| {key} | {value} |\n" for key, value in ROWS.items())
    assert measured_of(tmp_path) == ROWS
    add_measured(tmp_path, {"perplexity, windows of 512": "30"})
    assert measured_of(tmp_path) == {**ROWS, "perplexity, windows of 512": "30"}
    Model.from_pretrained(tmp_path).save_pretrained(tmp_path)  # other weights may be in it now
    assert measured_of(tmp_path) == {}


def test_a_card_of_the_users_own_stays_as_it_is(tmp_path):
    saved(tmp_path)
    for text in ("# mine\n", None):
        (tmp_path / NAME).unlink()
        if text is not None:
            (tmp_path / NAME).write_text(text)
        add_measured(tmp_path, ROWS)
        assert (tmp_path / NAME).exists() == (text is not None)
        assert measured_of(tmp_path) == {}
    (tmp_path / NAME).write_text("# mine\n")
    add_measured(tmp_path, ROWS)
    assert (tmp_path / NAME).read_text() == "# mine\n"


def test_it_goes_along_with_an_export(tmp_path, capsys):
    saved(tmp_path / "hybrid")
    add_measured(tmp_path / "hybrid", ROWS)
    main(["export", str(tmp_path / "hybrid"), "--to", "qwen3_5", "--out", str(tmp_path / "out")])
    capsys.readouterr()
    expected = {key: f"{value}, before it was exported" for key, value in ROWS.items()}
    assert measured_of(tmp_path / "out") == expected
