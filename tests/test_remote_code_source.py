"""The files of a `remote_code` folder as text: no torch is needed to write them, nor to know what they
hold.
"""

from __future__ import annotations

import ast
import json

import pytest
import tiny

import hybridattn as ha
from hybridattn.errors import ExportError
from hybridattn.export import export, fits, source


def test_every_mixer_of_decoders_is_served():
    kinds = tiny.built_in_mixers()
    served = {kind for kind, about in kinds.items() if "causal" in about["masks"]}
    assert set(source.kinds()) == served


def test_one_module_that_stands_alone():
    files = source.files()
    assert set(files) == {"configuration_hybridattn.py", "modelling_hybridattn.py"}
    for name, text in files.items():
        tree = ast.parse(text, name)
        outside = {
            alias.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        froms = {
            (node.level, (node.module or "").split(".")[0])
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
        }
        assert outside <= {"dataclasses", "math", "torch"}
        assert froms <= {
            (0, "__future__"),
            (0, "dataclasses"),
            (0, "typing"),
            (0, "torch"),
            (0, "transformers"),
            (1, "configuration_hybridattn"),
        }
        # parts are joined: no name of one may hide another's
        defined = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        defined += [
            ast.unparse(t) for node in tree.body if isinstance(node, ast.Assign) for t in node.targets
        ]
        assert len(set(defined)) == len(defined)
        assert max(len(line) for line in text.splitlines()) <= 120


def test_names_that_the_module_uses_are_there():
    """Every name that is read at module level or in a function is defined, imported or built in."""
    import builtins

    tree = ast.parse(source.files()["modelling_hybridattn.py"])
    known = set(dir(builtins)) | {"__name__"}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            known.add(node.name)
        elif isinstance(node, ast.alias):
            known.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.add(node.id)
    read = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    assert read <= known


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_reads_back_to_the_bit(tmp_path, dtype):
    hybrid = tiny.teacher(tied=False).to_probe({"kind": "window_linear", "window": 5}).to_hybrid([1])
    export(hybrid, tmp_path / "out", layout="remote_code", dtype=dtype)
    hybrid.save_pretrained(tmp_path / "saved", dtype=dtype)
    back, plain = (ha.Model.from_pretrained(tmp_path / name) for name in ("out", "saved"))
    tiny.assert_same_weights(tiny.weights(back), tiny.weights(plain))
    assert back.layers == hybrid.layers
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    for module in config["auto_map"].values():
        assert (tmp_path / "out" / f"{module.split('.')[0]}.py").is_file()
    assert config["hybridattn"]["body"]["rope_inv_freq"] == list(hybrid.model_config.rope_inv_freq)


def test_what_is_read_back_is_written_as_a_plain_hybrid(tmp_path):
    """The code stays with the folder: a config.json never names a file that is not beside it."""
    hybrid = tiny.teacher().to_probe({"kind": "gsa"}).to_hybrid([2])
    export(hybrid, tmp_path / "out", layout="remote_code")
    hybrid.save_pretrained(tmp_path / "saved")
    ha.Model.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert "auto_map" not in config
    assert config["hybridattn"] == json.loads((tmp_path / "saved" / "config.json").read_text())["hybridattn"]


def test_stored_blocks_leave_as_numbers(tmp_path):
    """q8_0 has no safetensors type: float32 of what the blocks say."""
    hybrid = tiny.teacher(intermediate_size=64).to_probe({"kind": "delta"}).to_hybrid([1]).astype("q8_0")
    made = export(hybrid, tmp_path / "out", layout="remote_code")
    assert made.dtype == "float32"
    back = ha.Model.from_pretrained(tmp_path / "out")
    for name, array in hybrid.arrays().items():
        assert (back.arrays()[name] == array).all(), name


def test_what_does_not_fit_is_refused_by_layer(tmp_path):
    teacher = tiny.teacher()
    probe = teacher.to_probe({"kind": "gla"})
    assert "layers 0 to 2: it holds softmax and gla" in refusal(probe, tmp_path)
    assert "all its layers are softmax" in refusal(teacher, tmp_path)
    encoder = tiny.teacher(bidirectional=True).to_probe({"kind": "gla"}).to_hybrid([0])
    assert "it is bidirectional" in refusal(encoder, tmp_path)
    assert not list(tmp_path.iterdir())
    assert fits(probe.to_hybrid([0]))["remote_code"] == []


def refusal(model, folder) -> str:
    with pytest.raises(ExportError) as error:
        export(model, folder / "out", layout="remote_code")
    return str(error.value)
