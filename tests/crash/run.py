"""Stop a whole job at random moments and go on: `python tests/crash/run.py MOMENTS [SEED]`.

A recipe of tiny stages is run once without interruption. Then it is started again and again in a new folder
and stopped after a random time by SIGKILL, SIGTERM or SIGINT in turn, until it has ended; results and weights
must equal those of the straight run to the bit. Exit code 1 where they do not, or where a process ends
otherwise than by the signal or with code 0 or 130.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tiny

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
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


def crash(moments: int, seed: int = 0) -> list[str]:
    """Faults found by that many stops; an empty list where there was none."""
    rng, faults, stops = random.Random(seed), [], 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiny.teacher(layers=3).save_pretrained(folder / "teacher")
        (folder / "text.txt").write_text("\n\n".join([tiny.TEXT] * 60), encoding="utf-8")
        (folder / "recipe.toml").write_text(RECIPE)
        began = time.monotonic()
        straight = start(folder, folder / "straight")
        error = straight.communicate()[1]
        if straight.returncode:
            return [f"the straight run ended with {straight.returncode}: {error.decode()[-300:]}"]
        seconds, want, round_ = time.monotonic() - began, outcome(folder / "straight"), 0
        while stops < moments:
            out, round_ = folder / f"out-{round_}", round_ + 1
            while True:
                process = start(folder, out)
                number = SIGNALS[stops % len(SIGNALS)] if stops < moments else None
                try:
                    error = process.communicate(timeout=rng.uniform(0.05, 1.0) * seconds if number else None)[
                        1
                    ]
                except subprocess.TimeoutExpired:
                    assert number is not None
                    process.send_signal(number)
                    error = process.communicate(timeout=60)[1]
                    stops += 1
                if process.returncode == 0:
                    break
                if process.returncode not in (130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
                    faults.append(f"stop {stops}: code {process.returncode}: {error.decode()[-300:]}")
                    break
            if process.returncode == 0 and outcome(out) != want:
                faults.append(f"round {round_}, {stops} stops: other results than the straight run")
    print(f"{stops} stops in {round_} runs, {len(faults)} faults")
    return faults


if __name__ == "__main__":
    found = crash(int(sys.argv[1]) if sys.argv[1:] else 20, int(sys.argv[2]) if sys.argv[2:] else 0)
    print("\n".join(found))
    sys.exit(1 if found else 0)
