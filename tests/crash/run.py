"""Stop a whole job at random moments and go on: `python tests/crash/run.py MOMENTS [SEED] [FIGURES.json]`.

A recipe of tiny stages is run once without interruption. Then it is started again and again in a new folder
and stopped at a random time of the work that is left, every second stop by SIGKILL, the others by SIGTERM and
SIGINT in turn, until it has ended; results and weights must equal those of the straight run to the bit. Exit
code 1 where they do not, or where a process ends otherwise than by the signal or with code 0 or 130, or not
within two minutes.

Calls with one FIGURES.json add up in it: stops by signal and by the stage they fell into, runs, faults.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tiny

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT)
RECIPE = """
[teacher]
model = "teacher"
[text]
train = "text.txt"
[mixer]
window = 8
[align]
tokens = 6400
seq_len = 32
[score]
methods = ["kl_replace"]
text = "plain"
tokens = 64
seq_len = 32
[plan]
softmax_layers = 1
random_seeds = 0
[distill]
tokens = 3200
seq_len = 32
finetune_tokens = 1600
models = ["chosen"]
[evaluate]
tokens = 64
lengths = [32]
[measure]
lengths = [8]
decode_tokens = 2
repeats = 1
[samples]
tokens = 2
"""


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    """The command line's own process, one thread, as a user starts it."""
    command = [
        sys.executable,
        "-m",
        "hybridattn",
        "run",
        str(folder / "recipe.toml"),
        "--out",
        str(out),
        "--quiet",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def outcome(out: Path) -> str:
    """A digest of what a run found and made, without its times."""
    report = json.loads((out / "report.json").read_text())
    found = [
        {key: model[key] for key in ("id", "softmax_layers", "before", "after")} for model in report["models"]
    ]
    scores = [each["values"] for each in report["scores"]]
    weights = [p.read_bytes() for p in sorted(out.glob("**/model.safetensors"))]
    digest = hashlib.sha256(json.dumps([found, scores, report["curves"]], sort_keys=True).encode())
    for each in weights:
        digest.update(each)
    return digest.hexdigest()


@dataclasses.dataclass
class Figures:
    """stops: by signal; stages: by the number of stages that had ended; runs: jobs brought to their end."""

    stops: Counter[str] = dataclasses.field(default_factory=Counter)
    stages: Counter[str] = dataclasses.field(default_factory=Counter)
    runs: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)

    def added_to(self, file: Path) -> None:
        """Adds to what the file holds of earlier calls."""
        before = json.loads(file.read_text()) if file.exists() else {}
        sums = {
            "stops": self.stops + Counter(before.get("stops", {})),
            "stages_done_at_the_stop": dict(
                sorted((self.stages + Counter(before.get("stages_done_at_the_stop", {}))).items())
            ),
            "runs": self.runs + before.get("runs", 0),
            "faults": before.get("faults", []) + self.faults,
        }
        file.write_text(json.dumps(sums, indent=1) + "\n")


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Of the straight run: seconds until its first stage had ended, of every stage, and from the last to the
    end of the process.
    """

    before: float
    stages: dict[str, float]
    after: float

    @classmethod
    def of(cls, out: Path, began: float) -> Timeline:
        records = sorted(out.glob("stages/*.json"), key=lambda path: path.stat().st_mtime)
        ends = [path.stat().st_mtime - began for path in records]
        spent = [b - a for a, b in zip([ends[0], *ends], ends)]
        return cls(ends[0], dict(zip([p.name for p in records], spent)), time.time() - began - ends[-1])

    def moment(self, out: Path, rng: random.Random) -> float:
        """When to stop a process that goes on in `out`: mostly within the stages that are left, else early,
        while it starts, or late, while it writes its report.
        """
        left = sum(each for name, each in self.stages.items() if not (out / "stages" / name).exists())
        if rng.random() < 0.1:
            return rng.uniform(0.05, 1.0) * self.before
        return rng.uniform(0.8, 1.0) * self.before + rng.random() * (left or self.after)


def stopped(process: subprocess.Popen[bytes], number: int | None, seconds: float) -> tuple[bool, str]:
    """(whether it had to be stopped, its error text); it is given two minutes to end after the signal."""
    try:
        return False, process.communicate(timeout=seconds if number else None)[1].decode()
    except subprocess.TimeoutExpired:
        assert number is not None
        process.send_signal(number)
    try:
        return True, process.communicate(timeout=120)[1].decode()
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True, f"went on for two minutes after signal {number}"


def crash(moments: int, seed: int = 0) -> Figures:
    """What that many stops found."""
    rng, figures, stops = random.Random(seed), Figures(), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiny.teacher(layers=3).save_pretrained(folder / "teacher")
        (folder / "text.txt").write_text("\n\n".join([tiny.TEXT] * 60), encoding="utf-8")
        (folder / "recipe.toml").write_text(RECIPE)
        began = time.time()
        straight = start(folder, folder / "straight")
        error = straight.communicate()[1]
        if straight.returncode:
            return Figures(faults=[f"the straight run: {straight.returncode}: {error.decode()[-300:]}"])
        timeline, want = Timeline.of(folder / "straight", began), outcome(folder / "straight")
        while stops < moments:
            out = folder / f"out-{figures.runs}"
            figures.runs += 1
            while True:
                process = start(folder, out)
                number = SIGNALS[stops % len(SIGNALS)] if stops < moments else None
                was_stopped, said = stopped(process, number, timeline.moment(out, rng))
                if was_stopped:
                    assert number is not None
                    stops += 1
                    figures.stops[signal.Signals(number).name] += 1
                    figures.stages[f"{len(list(out.glob('stages/*.json'))):02}"] += 1
                if process.returncode == 0:
                    break
                if "went on for" in said or process.returncode not in (130, *(-each for each in SIGNALS)):
                    figures.faults.append(
                        f"seed {seed}, stop {stops}: code {process.returncode}: {said[-300:]}"
                    )
                    break
            if process.returncode == 0 and outcome(out) != want:
                figures.faults.append(f"seed {seed}, run {figures.runs}: other results than the straight run")
    print(f"{dict(figures.stops)} in {figures.runs} runs, {len(figures.faults)} faults")
    return figures


if __name__ == "__main__":
    found = crash(int(sys.argv[1]) if sys.argv[1:] else 20, int(sys.argv[2]) if sys.argv[2:] else 0)
    if sys.argv[3:]:
        found.added_to(Path(sys.argv[3]))
    print("\n".join(found.faults))
    sys.exit(1 if found.faults else 0)
