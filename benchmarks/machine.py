"""The machine a measurement was taken on, and its limits: peaks by type, bandwidth, BLIS alone.

    python benchmarks/machine.py

The limits come from probe.c, compiled here into a temporary folder. Without a C compiler there are none, and
no rooflines.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))


class Probe:
    """The compiled probe; `limits` and, while `with` lasts, `blis_linear`."""

    def __init__(self, threads: int = 2):
        self.threads, self.process, self.path = threads, None, None
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name, "probe")
        try:
            import find_blis

            blis = find_blis.find()
            flags = [*blis.cflags], [*blis.libs]
            self.blis_source = blis.source
        except Exception as error:
            print(f"BLIS alone is not measured: {str(error).splitlines()[0]}", file=sys.stderr)
            flags, self.blis_source = (["-DNO_BLIS"], []), None
        command = [
            *shlex.split(os.environ.get("CC", "cc")),
            "-w",
            "-O3",
            "-march=native",
            "-fopenmp",
            *flags[0],
            str(HERE / "probe.c"),
            "-o",
            str(path),
            *flags[1],
        ]
        try:
            subprocess.run(command, check=True, capture_output=True)
            self.path = path
        except (OSError, subprocess.CalledProcessError) as error:
            print(
                f"the machine's limits are not measured: {shlex.join(command)} failed: {error}",
                file=sys.stderr,
            )

    def limits(self) -> dict:
        """fma_gflops_1, fma_gflops, read_gbs, triad_gbs, gemm_gflops, blis, blis_kernels, and where the
        processor has such instructions bfloat16_gflops(_1) and int8_gops(_1); empty without a compiler.
        """
        if self.path is None:
            return {}
        return json.loads(
            subprocess.run([self.path, str(self.threads)], check=True, capture_output=True, text=True).stdout
        )

    def blis_linear(self, rows: int, out: int, width: int, times: int = 1) -> list[float] | None:
        """Seconds of BLIS' X W^T alone, in a process of its own that stays up between calls."""
        if self.path is None or self.blis_source is None:
            return None
        if self.process is None:
            self.process = subprocess.Popen(
                [self.path, str(self.threads), "serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self.process.stdin.write(f"{rows} {out} {width} {times}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
        self.folder.cleanup()


def warn_if_busy() -> None:
    """Other work on the cores makes even ratios worthless: spinning threads wait for ones that do not run."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.7:
        print(
            f"warning: the load is {load:.1f} before this run starts; its figures will not hold",
            file=sys.stderr,
        )


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def flags() -> list[str]:
    """The instruction sets of interest that the processor reports."""
    wanted = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "sve")
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [w for w in wanted if w in words]


def facts() -> dict:
    """What does not need measuring: processor, cores, memory, system, load, our build."""
    out = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "isa": flags(),
        "system": platform.platform(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        out["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    try:
        sys.path.insert(0, str(HERE.parent))
        from hybridattn import show_config

        out["hybridattn"] = show_config()
    except ImportError as error:
        out["hybridattn"] = f"not built: {error}"
    return out


def write_json(path: Path, report: dict) -> None:
    """The whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1))
    os.replace(temporary, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    probe = Probe(options.threads)
    print(json.dumps(facts() | {"limits": probe.limits(), "threads": options.threads}, indent=1))
    probe.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
