"""Threads on a machine that has other work, or fewer cores than threads: seconds of one prefill.

    python benchmarks/busy.py [--threads 1 2 3 4 8] [--loads idle busy ...] [--json build/bench/busy.json]

A Llama of SmolLM2-135M's shape with random weights reads one prompt. Columns are what else goes on: `idle`
nothing of ours, `busy` one process at 100% of a core, `one core` the process held to a single core by
affinity, `quota 1` and `quota 0.5` a cgroup with so many processors (version 1 or 2, where one may be made,
as root). Every cell is a process of its own: the median of its rounds, the best in the JSON. A cell that
takes longer than --limit seconds is given up and shown as such.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
SHAPE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152, "hidden_size": 576,
    "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}  # fmt: skip
LOADS = ("idle", "busy", "one core", "quota 1", "quota 0.5")
SPIN = "while True: pass"


def cell(tokens: int, rounds: int) -> None:
    """In the child: one line with the seconds of each round, after one that does not count."""
    import numpy as np

    import hybridattn as ha
    from hybridattn.families import config_from_hf
    from hybridattn.model.generate import prefill

    model = ha.Model(config_from_hf(SHAPE))
    rng = np.random.default_rng(0)
    for array in model.arrays().values():
        values = rng.standard_normal(array.shape, np.float32)
        array[...] = 1.0 if array.ndim == 1 else values * array.shape[-1] ** -0.5
    prompt = [rng.integers(0, SHAPE["vocab_size"], tokens).tolist()]
    times = []
    for _ in range(rounds + 1):
        cache = model.cache(1)
        begun = time.perf_counter()
        prefill(model, prompt, cache)
        times.append(time.perf_counter() - begun)
    print(json.dumps(times[1:]))


@contextlib.contextmanager
def quota(processors: float):
    """A cgroup of so many processors: the file that takes process ids, or None where none can be made."""
    name, period = f"hybridattn-busy-{os.getpid()}", 100_000
    old, new = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    folder = (old if (old / "cpu.cfs_quota_us").exists() or (old / "cgroup.procs").exists() else new) / name
    made = False
    try:
        folder.mkdir()
        made = True
        if folder.parent == old:
            (folder / "cpu.cfs_period_us").write_text(str(period))
            (folder / "cpu.cfs_quota_us").write_text(str(int(processors * period)))
        else:
            (folder / "cpu.max").write_text(f"{int(processors * period)} {period}")
        yield folder / "cgroup.procs"
    except OSError:
        yield None
    finally:
        if made:
            folder.rmdir()


def run(threads: int, load: str, args: argparse.Namespace) -> dict:
    """One cell: its times, or why there are none."""
    command = [sys.executable, str(HERE / "busy.py"), "--cell", "--tokens", str(args.tokens)]
    command += ["--rounds", str(args.rounds)]
    env = os.environ | {"HYBRIDATTN_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(quota(float(load.split()[1]))) if load.startswith("quota") else None
        if load.startswith("quota") and group is None:
            return {"threads": threads, "load": load, "skipped": "no cgroup can be made"}
        if load == "busy":
            other = subprocess.Popen([sys.executable, "-c", SPIN])
            stack.callback(other.wait)
            stack.callback(other.kill)

        def confine():
            if load == "one core":
                os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            if group is not None:
                group.write_text(str(os.getpid()))

        child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, preexec_fn=confine)
        try:
            out, _ = child.communicate(timeout=args.limit)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            return {"threads": threads, "load": load, "seconds": None, "limit": args.limit}
    if child.returncode:
        raise SystemExit(f"the cell of {threads} threads, {load}, failed")
    times = json.loads(out.splitlines()[-1])
    return {"threads": threads, "load": load, "seconds": median(times), "best": min(times), "all": times}


def table(rows: list[dict], loads: list[str]) -> str:
    """Threads down, loads across, seconds."""
    lines = ["| threads | " + " | ".join(loads) + " |", "| ---: |" + " ---: |" * len(loads)]
    for threads in dict.fromkeys(row["threads"] for row in rows):
        shown = []
        for load in loads:
            row = next((r for r in rows if (r["threads"], r["load"]) == (threads, load)), {})
            if "limit" in row:
                shown.append(f"> {row['limit']:.0f}")
            else:
                shown.append(f"{row['seconds']:.2f}" if row.get("seconds") else "-")
        lines.append(f"| {threads} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, cores, cores + 1, 2 * cores, 4 * cores])
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--limit", type=float, default=120, help="seconds a cell may take")
    parser.add_argument("--json", type=Path, default=Path("build/bench/busy.json"))
    parser.add_argument("--cell", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        return cell(args.tokens, args.rounds)
    from machine import facts, write_json

    rows = [run(threads, load, args) for threads in args.threads for load in args.loads]
    settings = {"tokens": args.tokens, "rounds": args.rounds, "limit": args.limit}
    write_json(args.json, {"machine": facts(), "settings": settings, "rows": rows})
    print(f"{args.tokens} tokens, seconds, median of {args.rounds}, {cores} cores\n")
    print(table(rows, args.loads))


if __name__ == "__main__":
    main()
