"""The notebooks, cell by cell, on a tiny model of as many layers and a short text."""

import json
from pathlib import Path

import pytest
import tiny

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parent.parent
PRINTED = {
    "quickstart": ("KL-chosen", "all linear", "held-out KL", "hybrid ("),
    "choose_layers": ("a set on other windows shares",),
    "export_elsewhere": ("sliding_window", "config.json", "bytes of cache a token"),
    "own_selector": ("all checks pass: numbers", "finds_damage: layer 2", "rank correlation with kl_gate"),
    "own_mixer": ("window_linear", "loss of step 1", "all linear", "8 softmax layers", "MiB of state"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_notebook_runs(name, tmp_path, monkeypatch):
    """A folder of the teacher's name comes before the built-in one, and the text is in the cache already."""
    tiny.teacher(layers=30, max_position_embeddings=1024).save_pretrained(tmp_path / "smollm2-135m")
    (tmp_path / "wikipedia").mkdir()
    for file, text in (("wikipedia", tiny.TEXT * 2), ("wikipedia-heldout", tiny.TEXT[:1100])):
        line = json.dumps({"text": text}) + "\n"
        (tmp_path / "wikipedia" / f"{file}.jsonl").write_text(line, encoding="utf-8")
    monkeypatch.setenv("HYBRIDATTN_CACHE", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3",
                            resources={"metadata": {"path": str(tmp_path)}}).execute()  # fmt: skip
    printed = "".join(
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream" and output["name"] == "stdout"
    )
    for line in PRINTED[name]:
        assert line in printed
    assert (tmp_path / "hybrid" / "config.json").is_file() == (name in ("quickstart", "export_elsewhere"))
