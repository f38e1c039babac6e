"""A tiny teacher on disk, for the tests of the command line."""

import pytest
import tiny

from hybridattn.cli import main as cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory, one_thread):
    """A teacher, a text, and what align made of them."""
    folder = tmp_path_factory.mktemp("cli")
    tiny.teacher(layers=3).save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text(tiny.TEXT * 2, encoding="utf-8")
    paths = [str(folder / "teacher"), "--text", str(folder / "text.txt"), "--out", str(folder / "probe")]
    size = ["--tokens", "512", "--seq-len", "32", "--batch-size", "4", "--option", "window=8"]
    assert cli.main(["align", *paths, *size, "--quiet"]) == 0
    return folder
