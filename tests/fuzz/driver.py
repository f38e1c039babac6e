"""The fuzzer's loop: blocks of inputs by reader, in turn, so that all get equal shares of the time.

A block has its own seed, and damages one file of one folder again and again, which is put right at its end.
Input n of a block is made again by drawing the n before it.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz import calls, data_readers, model_readers
from fuzz.reader import Reader, Source

CORPUS = Path(__file__).parent / "corpus"
BLOCK, TURN_SECONDS = 200, 1.0
SLOW_SECONDS, HANG_SECONDS, MOST_BYTES = 10.0, 120.0, 2 << 30
Try = Callable[[random.Random], bool]  # one input; False for one that was refused


@dataclass
class Figures:
    """counts: by reader, inputs, how many were refused, blocks, processor seconds and faults. file: where
    they are kept, if anywhere.
    """

    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    file: Path | None = None

    @classmethod
    def of(cls, file: Path | None) -> Figures:
        """What earlier calls found. A block that one of them began and never ended is a fault."""
        found = cls(json.loads(file.read_text()) if file and file.exists() else {}, file)
        for each in found.counts.values():
            if each.pop("begun", None) is not None:
                each["faults"].append(f"block {each['blocks']}: the process ended")
                each["blocks"] += 1
        return found

    def named(self, name: str) -> dict[str, Any]:
        empty = {"inputs": 0, "refused": 0, "blocks": 0, "seconds": 0.0, "faults": []}
        return self.counts.setdefault(name, empty)

    def save(self) -> None:
        if self.file:
            other = self.file.with_name(f"{self.file.name}.new")
            other.write_text(json.dumps(self.counts, indent=1) + "\n")
            os.replace(other, self.file)

    @property
    def inputs(self) -> int:
        return sum(each["inputs"] for each in self.counts.values())

    def table(self) -> str:
        rows = [f"{'reader':18}  {'inputs':>9}  {'refused':>8}  {'a second':>8}  {'faults':>6}"]
        for name, each in self.counts.items():
            share, speed = (
                each["refused"] / max(each["inputs"], 1),
                each["inputs"] / max(each["seconds"], 1e-9),
            )
            rows.append(f"{name:18}  {each['inputs']:9}  {share:8.1%}  {speed:8.0f}  {len(each['faults']):6}")
            kinds = dict.fromkeys(line.partition(": ")[2] for line in each["faults"])
            rows += [f"    {line}" for line in kinds]
        seconds = sum(each["seconds"] for each in self.counts.values())
        return "\n".join(
            [*rows, f"{'all':18}  {self.inputs:9}  {'':8}  {self.inputs / max(seconds, 1e-9):8.0f}"]
        )


class Driver:
    """seed: of all input. names: the readers and calls that take part; all by default."""

    def __init__(self, seed: int, names: Sequence[str], figures: Figures) -> None:
        warnings.simplefilter("ignore")
        memory = Path("/dev/shm")  # files that never reach a disk
        self.folder = Path(
            tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None, prefix="fuzz-")
        )
        self.readers = {**model_readers.readers(self.folder), **data_readers.readers(self.folder)}
        self.calls = calls.calls()
        unknown = set(names) - set(self.readers) - set(self.calls)
        if unknown:
            raise SystemExit(f"no reader {sorted(unknown)}; there are {[*self.readers, *self.calls]}")
        self.names = [name for name in (*self.readers, *self.calls) if not names or name in names]
        self.seed, self.figures = seed, figures
        self._peak = _peak()
        gc.collect()
        gc.freeze()  # what the readers start from is no garbage, and need not be looked through

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *exc: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        for each in self.figures.counts.values():
            each.pop("begun", None)  # this process has not crashed
        self.figures.save()
        shutil.rmtree(self.folder)

    def run(self, seconds: float | None, inputs: int | None, least: int = 0) -> None:
        """Turns of one reader after the other, until the time is over or there are so many inputs."""
        until = time.monotonic() + (seconds if seconds is not None else 1e9)
        turn = TURN_SECONDS if seconds is None else min(TURN_SECONDS, seconds / len(self.names) / 2)
        while time.monotonic() < until:
            short = [name for name in self.names if self.figures.named(name)["inputs"] < least]
            if inputs is not None and self.figures.inputs >= inputs and not short:
                break
            for name in short if inputs is not None and self.figures.inputs >= inputs else self.names:
                faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
                end = time.monotonic() + turn
                while time.monotonic() < end:
                    self.block(name)

    def block(self, name: str) -> None:
        """One block of inputs of a reader."""
        counts = self.figures.named(name)
        counts["begun"] = True
        self.figures.save()
        began, spent, number = time.monotonic(), time.process_time(), counts["blocks"]
        rng, attempt, done = self._begin(name, number)
        for at in range(BLOCK):
            try:
                counts["refused"] += not attempt(rng)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a panic of Rust code is no Exception
                counts["faults"].append(f"block {number} input {at}: {described(error)}")
            if at % 20 == 19 and time.monotonic() - began > SLOW_SECONDS:
                counts["faults"].append(
                    f"block {number} input {at}: {time.monotonic() - began:.0f} s for the block"
                )
                break
        done()
        grown = _peak() - self._peak
        if grown > MOST_BYTES:
            counts["faults"].append(f"block {number}: memory grew by {grown >> 20} MiB")
            self._peak += grown
        counts["inputs"] += at + 1
        counts["blocks"] += 1
        counts["seconds"] += time.process_time() - spent
        counts.pop("begun", None)

    def again(self, name: str, block: int, number: int) -> str:
        """One input once more, and what became of it."""
        rng, attempt, done = self._begin(name, block)
        answer = ""
        for _ in range(number + 1):
            try:
                answer = "read" if attempt(rng) else "refused"
            except BaseException:  # of a panic too
                answer = traceback.format_exc()
        kept = Path(tempfile.mkdtemp(prefix="fuzz-")) / "input"
        if name in self.readers:
            shutil.copytree(self.folder, kept)
        done()
        return f"{answer}\nfolder: {kept}"

    def corpus(self) -> None:
        """Whole input, which every reader must read, and every input that once failed:
        corpus/READER/FILE--WHAT is read in the place of FILE.
        """
        for name in self.names:
            for each in self.readers[name].sources if name in self.readers else ():
                assert _read(self.readers[name], each), f"{name}: {each.folder.name}/{each.file} is refused"
        for path in sorted(CORPUS.glob("*/*--*")):
            name, file = path.parent.name, path.name.partition("--")[0]
            if name not in self.names:
                continue
            counts = self.figures.named(name)
            for each in self.readers[name].sources:
                if Path(each.file).name == file:
                    (each.folder / each.file).write_bytes(path.read_bytes())
                    try:
                        _read(self.readers[name], each)
                    except BaseException as error:
                        counts["faults"].append(f"corpus {path.name}: {described(error)}")
                    (each.folder / each.file).write_bytes(each.whole)

    def _begin(self, name: str, number: int) -> tuple[random.Random, Try, Callable[[], Any]]:
        rng = random.Random(f"{self.seed} {name} {number}")
        if name in self.calls:
            listed = self.calls[name]
            return rng, lambda rng: _call(rng.choice(listed), rng), lambda: None
        reader = self.readers[name]
        source = rng.choice(reader.sources)
        descriptor = os.open(source.folder / source.file, os.O_WRONLY)

        def attempt(rng: random.Random) -> bool:
            data = source.damage(rng)
            os.pwrite(descriptor, data, 0)
            os.ftruncate(descriptor, len(data))
            return _read(reader, source)

        def done() -> None:
            os.close(descriptor)
            (source.folder / source.file).write_bytes(source.whole)

        return rng, attempt, done


def described(error: BaseException) -> str:
    """Kind, text and place of an exception that should not have come."""
    inside = [each for each in traceback.extract_tb(error.__traceback__) if "hybridattn/" in each.filename]
    where = f"{Path(inside[-1].filename).name}:{inside[-1].lineno}" if inside else "?"
    return f"{type(error).__name__}: {str(error)[:80]} ({where})"


def _read(reader: Reader, source: Source) -> bool:
    try:
        reader.read(source.folder)
    except reader.answers:
        return False
    return True


def _call(call: calls.Call, rng: random.Random) -> bool:
    try:
        calls.odd(call, rng)
    except calls.ANSWERS:
        return False
    return True


def _peak() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (10 if sys.platform == "linux" else 0)
