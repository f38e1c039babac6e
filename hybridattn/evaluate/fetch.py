"""GLUE and SQuAD from their official addresses, checked by size and SHA-256.

The sizes and digests are those that the `datasets` library's scripts of `glue`, `squad` and `squad_v2`
recorded for the same addresses.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..checks import check_choice
from ..data.download import Remote
from ..data.download import from_address as download
from ..errors import HybridAttnError
from ..files import atomic_open, atomic_write
from ..lazy import contents
from .glue.tasks import TASKS

__all__ = ["ARCHIVES", "MRPC", "SQUAD", "Remote", "download", "glue", "squad"]
__dir__ = contents(__name__)


_GLUE = "https://dl.fbaipublicfiles.com/glue/data/"
_SENTEVAL = "https://dl.fbaipublicfiles.com/senteval/senteval_data/"
_SQUAD = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"

# archives that hold a folder of the task's name with train.tsv and so on
ARCHIVES = {
    "CoLA": Remote(
        f"{_GLUE}CoLA.zip", 376971, "f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff"
    ),
    "SST-2": Remote(
        f"{_GLUE}SST-2.zip", 7439277, "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa"
    ),
    "STS-B": Remote(
        f"{_GLUE}STS-B.zip", 802872, "e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85"
    ),
    "QQP": Remote(
        f"{_GLUE}QQP-clean.zip", 41696084, "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0"
    ),
    "MNLI": Remote(
        f"{_GLUE}MNLI.zip", 312783507, "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633"
    ),
    "QNLI": Remote(
        f"{_GLUE}QNLIv2.zip", 10627589, "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5"
    ),
    "RTE": Remote(
        f"{_GLUE}RTE.zip", 697150, "6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee"
    ),
    "WNLI": Remote(
        f"{_GLUE}WNLI.zip", 28999, "ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46"
    ),
}
# MRPC as its authors give it, which GLUE splits by a list of ids: training, test, ids of GLUE's dev.tsv
MRPC = (
    Remote(
        f"{_SENTEVAL}msr_paraphrase_train.txt",
        1047044,
        "60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
    ),
    Remote(
        f"{_SENTEVAL}msr_paraphrase_test.txt",
        441275,
        "a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784",
    ),
    Remote(
        f"{_GLUE}mrpc_dev_ids.tsv", 6222, "971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7"
    ),
)
SQUAD = (
    Remote(
        f"{_SQUAD}train-v1.1.json",
        30288272,
        "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955",
    ),
    Remote(
        f"{_SQUAD}dev-v1.1.json",
        4854279,
        "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
    ),
    Remote(
        f"{_SQUAD}train-v2.0.json",
        42123633,
        "68dcfbb971bd3e96d5b46c7177b16c1a4e7d4bdef19fb204502738552dede002",
    ),
    Remote(
        f"{_SQUAD}dev-v2.0.json",
        4370528,
        "80a5225e94905956a6446d296ca1093975c4d3b3260f1d6c8f68bc2ab77182d8",
    ),
)


def glue(
    folder: str | os.PathLike[str], tasks: Iterable[str] | None = None, mirror: str | None = None
) -> list[Path]:
    """GLUE's TSV files in `folder`, a folder a task, of all tasks or these; those that are there are left.
    Returns the folders. `mirror`: see `download`. Raises ConfigError, HybridAttnError.
    """
    known = [*ARCHIVES, "MRPC"]
    made = []
    for name in known if tasks is None else list(tasks):
        check_choice("task", name, known)
        target = Path(folder) / name
        files = {
            file for task in TASKS.values() if task.name.startswith(name) for file in task.files.values()
        }
        missing = sorted(file for file in files if not (target / file).is_file())
        if missing:
            target.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target) as scratch:
                if name == "MRPC":
                    _split_mrpc(target, missing, [download(remote, scratch, mirror) for remote in MRPC])
                else:
                    _unpack(download(ARCHIVES[name], scratch, mirror), name, missing, target)
        made.append(target)
    return made


def squad(folder: str | os.PathLike[str], mirror: str | None = None) -> list[Path]:
    """SQuAD's four JSON files (1.1 and 2.0, train and dev) in `folder`; those that are there are left."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [Path(folder) / Path(remote.url).name for remote in SQUAD]
    return [
        path if path.is_file() else download(remote, folder, mirror)
        for path, remote in zip(paths, SQUAD, strict=True)
    ]


def _unpack(archive: Path, name: str, files: Sequence[str], target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as content:
            for file in files:
                with content.open(f"{name}/{file}") as source, atomic_open(target / file) as out:
                    shutil.copyfileobj(source, out)
    except (KeyError, zipfile.BadZipFile) as error:
        raise HybridAttnError(f"{archive.name}: {' '.join(str(error).split())}") from None


def _split_mrpc(target: Path, files: Sequence[str], sources: Sequence[Path]) -> None:
    """Those of train.tsv, dev.tsv and test.tsv, as GLUE has them."""
    train, test, ids = (_lines(path) for path in sources)
    held = {tuple(line.split("\t")[:2]) for line in ids}
    parts: dict[str, list[str]] = {"train.tsv": [train[0]], "dev.tsv": [train[0]]}
    for line in train[1:]:
        pair = tuple(line.split("\t")[1:3])
        parts["dev.tsv" if pair in held else "train.tsv"].append(line)
    unlabelled = [line.partition("\t")[2] for line in test]
    parts["test.tsv"] = [f"index\t{unlabelled[0]}"]
    parts["test.tsv"] += [f"{i}\t{line}" for i, line in enumerate(unlabelled[1:])]
    for name in files:
        atomic_write(target / name, "".join(f"{line}\n" for line in parts[name]))


def _lines(path: Path) -> list[str]:
    """Not `splitlines`: sentences hold other characters that end lines."""
    lines = path.read_bytes().decode("utf-8-sig").split("\n")
    return [line.rstrip("\r") for line in lines if line.strip()]
