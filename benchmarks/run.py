"""All benchmarks one after the other, results in build/bench/*.json.

python benchmarks/run.py [--peer-python PATH] [--quick] [--text FILE]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peer-python",
        default=os.environ.get("HYBRIDATTN_PEER_PYTHON", sys.executable),
        help="the interpreter whose environment has torch and transformers (default: this one)",
    )
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "bench")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, one short sequence for the steps")
    parser.add_argument("--text", type=Path, help="a text file for parity.py; without one it is left out")
    options = parser.parse_args()
    rounds = ["--repeat", "3"] if options.quick else []
    peer = ["--peer-python", options.peer_python]
    jobs = {"ops": [*peer, *rounds], "steps": [*peer, *rounds, *(["--batch", "1"] if options.quick else [])]}
    if options.text:
        jobs["parity"] = [str(options.text), *peer]
    code = 0
    for name, extra in jobs.items():
        print(f"== {name}", flush=True)
        command = [
            sys.executable,
            str(HERE / f"{name}.py"),
            *extra,
            "--json",
            str(options.out / f"{name}.json"),
        ]
        code = subprocess.run(command).returncode or code
    return code


if __name__ == "__main__":
    sys.exit(main())
