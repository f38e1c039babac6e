"""Ranks over MPI beside threads: bits, speed, bytes, memory, kills, and what many nodes would do.

    python benchmarks/distributed.py bits      20 steps of step 2 on SmolLM2 with 1, 2 and 4 ranks
    python benchmarks/distributed.py speed     two ranks of one thread beside one rank of two threads
    python benchmarks/distributed.py kills     kill -9 of one rank at 30 random moments of a tiny run
    python benchmarks/distributed.py overlap   step 2 on a slow link, gradients sent during the backward pass
    python benchmarks/distributed.py model     2 to 64 nodes, computed on paper from what `speed` measured

Each part adds to the JSON file (--json, default benchmarks/results/distributed.json). It needs the extra
[mpi]. The parts `bits`, `speed` and `overlap` read SmolLM2-135M, which the first use downloads.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import slow_link

HERE = Path(__file__).resolve().parent
SMOLLM2, MIXER = "smollm2-135m", {"kind": "window_linear"}
SHORT, BATCH, STEPS = 64, 4, 20  # of `bits`: tokens of a window, windows of a step
LONG = {"step1": 128, "step2": 512, "scores": 512}  # tokens of a window of `speed`


# ---- jobs, which run on ranks


def smollm2(windows: int, length: int) -> Any:
    from hybridattn import Model, TokenData, load_text
    from hybridattn.data.split import locate

    teacher = Model.from_pretrained(SMOLLM2)
    text = "".join(load_text(locate("wikipedia", "text")))[: 12 * windows * length]
    return teacher, TokenData.from_text(text, teacher.tokenizer, length, windows * length)


def pages(array: np.ndarray) -> int:
    """Bytes of an array that are in memory."""
    page = os.sysconf("SC_PAGESIZE")
    first = array.__array_interface__["data"][0] // page
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(8 * first)
        entries = np.frombuffer(file.read(8 * (array.nbytes // page)), np.uint64)
    return int((entries >> np.uint64(63)).sum()) * page


def job_bits(checkpoint: str, steps: str) -> dict[str, Any]:
    from hybridattn import radlads
    from hybridattn.radlads.teacher import weights_fingerprint

    teacher, data = smollm2(32, SHORT)
    hybrid = teacher.to_probe(MIXER).to_hybrid([3, 9, 15, 21])
    radlads.distill(
        hybrid, teacher, data, steps=int(steps), batch_size=BATCH, progress=False,
        checkpoint=checkpoint if checkpoint != "-" else None, checkpoint_steps=10**6, checkpoint_last=False,
    )  # fmt: skip
    return {"weights": weights_fingerprint(hybrid)}


def job_speed(kind: str, steps: str) -> dict[str, Any]:
    from hybridattn import distributed, radlads, select
    from hybridattn.radlads import steps as of_steps

    world, count = distributed.current(), int(steps)
    teacher, data = smollm2(32, LONG[kind])
    probe = teacher.to_probe(MIXER)
    trainers: list[Any] = []
    trained = None
    make = of_steps.make_distiller
    of_steps.make_distiller = lambda *given: trainers.append(make(*given)) or trainers[-1]
    if kind == "scores":  # warm
        select.score(probe, data.take(slice(0, 2)), "mse", progress=False)
    if world is not None:
        world.barrier()
        world.bytes_sent, world.seconds = 0, 0.0
    started, tokens = time.perf_counter(), BATCH * LONG[kind] * count
    if kind == "step1":  # short steps: how long the second rank waits for its first one counts little
        tokens = LONG[kind] * count
        trained = radlads.align(teacher, MIXER, data, steps=count, batch_size=1, progress=False).train_result
    elif kind == "step2":
        hybrid = probe.to_hybrid([3, 9, 15, 21])
        trained = radlads.distill(hybrid, teacher, data, steps=count, batch_size=BATCH, progress=False)
    else:
        tokens = data.num_tokens
        select.score(probe, data, "mse", progress=False)
    # of training: without the digests of weights that ranks compare once, a second a gigabyte
    seconds = time.perf_counter() - started if trained is None else trained.seconds
    found = {"seconds": seconds, "tokens_per_second": tokens / seconds, "steps": count}
    if trainers:
        found["moment_bytes"] = sum(pages(trainers[-1].arena(kind).numpy()) for kind in ("m", "v"))
        found["parameters"] = int(trainers[-1].arena("m").numpy().size)
    if world is not None:
        found |= {"bytes_sent_a_step": world.bytes_sent / count, "waiting_share": world.seconds / seconds}
    return found


def job_overlap(_megabytes: str, steps: str) -> dict[str, Any]:
    return slow_link.job(*smollm2(32, slow_link.WINDOW), int(steps))


def job_tiny(checkpoint: str, steps: str) -> dict[str, Any]:
    sys.path.insert(0, str(HERE.parent / "tests"))
    import rank_jobs

    return rank_jobs.train(checkpoint, steps)


# ---- starting them


def start(ranks: int, threads: int, *job: str, **more: str) -> subprocess.Popen[str]:
    import mpi4py

    prefix = Path(mpi4py.__file__).parents[4]
    mpiexec = prefix / "bin" / "mpiexec"
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **more}
    if (prefix / "lib/libmpi.so.12").is_file():
        environment.setdefault("MPI4PY_LIBMPI", str(prefix / "lib/libmpi.so.12"))
    program = [sys.executable, __file__, "job", *job]
    launcher = [str(mpiexec) if mpiexec.is_file() else "mpiexec", "-n", str(ranks)] if ranks else []
    return subprocess.Popen(
        [*launcher, *program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result(
    ranks: int, threads: int, *job: str, reduce: str = "tree", overlap: str = "auto"
) -> list[dict[str, Any]]:
    """What each rank found; ranks 0: a plain process."""
    process = start(ranks, threads, *job, REDUCE=reduce, OVERLAP=overlap)
    out, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors)
    return json.loads(out.splitlines()[-1])


def killed(ranks: int, victim: int, delay: float, number: int, *job: str) -> tuple[int, str, float]:
    """A job whose rank gets a signal: (status, what it said, seconds to its end)."""
    with tempfile.TemporaryDirectory() as pids:
        process = start(ranks, 1, *job, PIDS=pids)
        while len(list(Path(pids).iterdir())) < ranks:
            time.sleep(0.01)
        time.sleep(delay)
        if process.poll() is None:
            os.kill(int(Path(pids, str(victim)).read_text()), number)
        sent = time.monotonic()
        errors = process.communicate()[1]
        return process.returncode, errors, time.monotonic() - sent


# ---- parts


def bits(_known: dict[str, Any]) -> dict[str, Any]:
    jobs = ((1, 2), (2, 1), (4, 1))
    found = {str(n): result(n, threads, "bits", "-", str(STEPS))[0]["weights"] for n, threads in jobs}
    with tempfile.TemporaryDirectory() as folder:
        status, errors, _ = killed(2, 1, 12.0, signal.SIGTERM, "bits", folder, str(STEPS))
        assert status and list(Path(folder).iterdir()), errors
        found["stopped on 2, resumed on 3"] = result(3, 1, "bits", folder, str(STEPS))[0]["weights"]
    equal = len(set(found.values())) == 1
    return {"weights": found, "equal": equal, "steps": STEPS, "windows": [BATCH, SHORT]}


def speed(_known: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "windows": {
            "step1": [1, LONG["step1"]],
            "step2": [BATCH, LONG["step2"]],
            "scores": [32, LONG["scores"]],
        }
    }
    for kind, steps in (("step2", "3"), ("step1", "120"), ("scores", "1")):
        runs = {"threads": result(1, 2, "speed", kind, steps), "ranks": result(2, 1, "speed", kind, steps)}
        runs["plain"] = result(0, 2, "speed", kind, steps)
        if kind == "step2":
            runs["fast"] = result(2, 1, "speed", kind, steps, reduce="fast")
        speeds = {name: run[0]["tokens_per_second"] for name, run in runs.items()}
        ours = speeds.pop("ranks")
        found[kind] = {f"ranks_over_{name}": ours / speed for name, speed in speeds.items()} | runs
        print(kind, json.dumps(found[kind]), flush=True)
    return found


def kills(_known: dict[str, Any]) -> dict[str, Any]:
    steps, count, rng = "150", 30, random.Random(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        whole = result(1, 1, "tiny", str(Path(folder, "whole")), steps)[0]
        for number in range(count):
            ranks, place = rng.choice((2, 3)), Path(folder, f"{number // 5}")
            victim, delay = rng.randrange(ranks), rng.uniform(0.0, 1.6)
            job = ("tiny", str(place), steps)
            status, errors, seconds = killed(ranks, victim, delay, signal.SIGKILL, *job)
            named = f"rank {victim} (process" in errors
            rows.append({
                "ranks": ranks, "victim": victim, "delay": delay, "ended": status != 0, "named": named,
                "seconds": seconds,
            })  # fmt: skip
            if number % 5 == 4:  # five kills on one checkpoint, then to the end
                rows[-1]["same_bits"] = result(rng.choice((1, 2, 3)), 1, *job)[0] == whole
                shutil.rmtree(place, ignore_errors=True)
    hit = [row for row in rows if row["ended"]]
    return {
        "kills": len(hit), "named": sum(row["named"] for row in hit),
        "longest_seconds": max(row["seconds"] for row in hit),
        "resumed_to_the_same_bits": [row["same_bits"] for row in rows if "same_bits" in row], "rows": rows,
    }  # fmt: skip


def overlap(known: dict[str, Any]) -> dict[str, Any]:
    return slow_link.part(result, known)


def model(known: dict[str, Any]) -> dict[str, Any]:
    """On paper: a step of 96 windows of 512 tokens, one rank a node, no overlap (see slow_link.paper), full
    duplex, no latency; nodes as fast as the machine of `speed`, and 16 times as fast.
    """
    one, tokens, rows = known["speed"]["step2"]["plain"][0], 96 * 512, []
    for faster in (1, 16):
        for gigabits in (10, 100):
            for nodes in (2, 4, 8, 16, 32, 64):
                compute = tokens / one["tokens_per_second"] / faster / nodes
                bytes_a_rank = 2 * 4 * one["parameters"] * (nodes - 1) / nodes  # gradients, then weights
                network = bytes_a_rank / (gigabits * 1e9 / 8)
                rows.append({
                    "times_as_fast": faster, "gigabits": gigabits, "nodes": nodes,
                    "compute_seconds": compute, "network_seconds": network, "bytes_a_rank": bytes_a_rank,
                    "efficiency": compute / (compute + network),
                })  # fmt: skip
    return {"tokens_a_step": tokens, "from_tokens_per_second": one["tokens_per_second"], "step2": rows}


PARTS = {"bits": bits, "speed": speed, "kills": kills, "overlap": overlap, "model": model}


def run_job(name: str, arguments: list[str]) -> None:
    from hybridattn import distributed

    work = globals()[f"job_{name}"]
    if not distributed.launched():
        print(json.dumps([work(*arguments)]))
        return
    if name == "overlap":
        slow_link.install(float(arguments[0]))
    settings = {"reduce": os.environ.get("REDUCE", "tree"), "overlap": os.environ.get("OVERLAP", "auto")}
    with distributed.world(**settings) as world:
        if "PIDS" in os.environ:
            Path(os.environ["PIDS"], str(world.rank)).write_text(str(os.getpid()))
        found = world.allgather(work(*arguments))
        if world.rank == 0:
            print(json.dumps(found))


def main() -> None:
    if sys.argv[1:2] == ["job"]:
        run_job(sys.argv[2], sys.argv[3:])
        return
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--json", default=str(HERE / "results" / "distributed.json"))
    args = parser.parse_args()
    path = Path(args.json)
    known = json.loads(path.read_text()) if path.exists() else {}
    for part in args.parts:
        known[part] = PARTS[part](known)
        path.write_text(json.dumps(known, indent=1) + "\n")
        print(part, json.dumps(known[part], indent=1))


if __name__ == "__main__":
    main()
