"""Peak memory and time of step 2 on SmolLM2-135M, 4 windows of 512 tokens, with and without a budget.

    python benchmarks/memory.py [--budget 2GiB] [--steps 2] [--threads 2] [--json FILE]

Every side has a process of its own, whose peak is VmHWM: models read, settings chosen, `--steps` steps.
The student has 8 softmax and 22 gated_delta layers. Time is that of the steps, the first included.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# side -> (type in which the teacher is kept, whether there is a budget)
SIDES = {"float32": ("float32", False), "teacher as in its file": ("auto", False), "budget": ("auto", True)}


def peak() -> int:
    """Bytes that this process held at most."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) << 10


def serve(folder: Path, dtype: str, budget: str | None, options: argparse.Namespace) -> dict:
    """One side, in this process."""
    import numpy as np

    from hybridattn import _core, radlads
    from hybridattn.data.tokens import TokenData
    from hybridattn.model.model import Model

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    _core.set_num_threads(options.threads)
    hybrid = Model.from_pretrained(folder / "hybrid")
    teacher = Model.from_pretrained(options.model, dtype=dtype)
    count = options.batch * options.steps
    tokens = np.random.default_rng(0).integers(0, 49_152, options.length * count).astype(np.int32)
    start = np.arange(count, dtype=np.int64) * options.length
    data = TokenData(tokens, np.stack([start, start + options.length], -1))
    result = radlads.distill(
        hybrid, teacher, data, options.steps, options.batch, memory=budget, progress=False
    )
    return {
        "seconds_per_step": result.seconds / options.steps,
        "peak_bytes": peak(),
        "losses": result.losses[:, 0].tolist(),
        "isa": _core.show_config(),
    }


def measure(folder: Path, options: argparse.Namespace) -> list[dict]:
    """All sides, one after the other."""
    rows = []
    for side, (dtype, limited) in SIDES.items():
        budget = options.budget if limited else ""
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--serve", str(folder), dtype, budget],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{side}: {done.stderr}")
        said = [line for line in done.stderr.splitlines() if " within " in line]
        rows.append(
            {"side": side, "budget": budget, "said": said, **json.loads(done.stdout.splitlines()[-1])}
        )
        row = rows[-1]
        ratio, mib = row["seconds_per_step"] / rows[0]["seconds_per_step"], row["peak_bytes"] / 2**20
        print(f"{side:24s} {mib:8,.0f} MiB {row['seconds_per_step']:7.2f} s/step {ratio:5.2f}", flush=True)
        print("   losses", row["losses"], *said, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--budget", default="2GiB")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "bench")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        folder, dtype, budget = options.serve
        print(json.dumps(serve(Path(folder), dtype, budget or None, options)))
        return
    folder = options.folder / options.model
    if not (folder / "hybrid").is_dir():
        subprocess.run(
            [sys.executable, HERE / "our_steps.py", "--prepare", folder, options.model, "8"], check=True
        )
    rows = measure(folder, options)
    if options.json:
        settings = {name: getattr(options, name) for name in ("steps", "batch", "length", "threads")}
        options.json.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
