"""Wheels on every CPython, with the oldest and the newest packages that pyproject.toml allows.

    python benchmarks/wheels.py PYTHON[@ROOT] ... [--wheels dist] [--json FILE]
    python benchmarks/wheels.py --tables benchmarks/results/wheels.json

Each interpreter gets an environment into which pip puts the wheel and uv (on PATH) puts what it depends on,
wheels alone: all the oldest, all the newest, and each NumPy between. wheels/smoke.py then runs the whole job.
With @ROOT this happens in a chroot, so as root: the folder of a system without a compiler and without BLIS,
as `debootstrap --variant=minbase --include=libffi8,libssl3 bookworm ROOT` makes it. An interpreter that it
lacks is mounted there with its prefix.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NUMPY = ("1.26", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5")
IMPORTS = {"import hybridattn": "import hybridattn", "hybridattn.Model": "import hybridattn as h; h.Model"}


def requirements(extra: str = "gguf") -> list[str]:
    """What a user's installation asks for: the dependencies and those of an extra."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    return [*project["dependencies"], *project["optional-dependencies"][extra]]


@dataclass(frozen=True)
class Place:
    """An interpreter, and the system that it runs in."""

    python: str
    root: Path  # "/" for this system
    scratch: Path  # a folder of this system; where it is seen from inside: `inside`

    @property
    def inside(self) -> str:
        return "/" + str(self.scratch.relative_to(self.root))

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command with nothing but its own environment."""
        settings = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "OMP_NUM_THREADS": "2"} | environment
        line = ["env", "-i", *(f"{name}={value}" for name, value in settings.items()), *command]
        if self.root != Path("/"):
            mounted = ["/proc"]
            if not Path(str(self.root) + self.python).exists():
                mounted.append(str(Path(self.python).parent.parent))
            script = ""
            for folder in mounted:
                pair = shlex.quote(folder), shlex.quote(str(self.root) + folder)
                script += "mkdir -p {1} && mount --bind {0} {1} && ".format(*pair)
            script += f"exec chroot {shlex.quote(str(self.root))} {shlex.join(line)}"
            line = ["unshare", "--mount", "sh", "-c", script]
        return subprocess.run(line, capture_output=True, text=True)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
    return lines[-1][:300]


def packages(version: str, resolution: str, asked: list[str], target: Path) -> str | None:
    """Put what `asked` needs for that CPython into `target`; what stands in the way, or None."""
    shutil.rmtree(target, ignore_errors=True)
    command = ["uv", "pip", "install", "-q", "--target", str(target), "--python-version", version]
    command += ["--python-platform", "x86_64-manylinux_2_34", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--resolution", resolution, *asked], capture_output=True, text=True, cwd=target.parent
    )
    if done.returncode == 0:
        return None
    return "no wheel" if "No solution found" in done.stderr else last_line(done)


def cases() -> Iterator[tuple[str, str, list[str]]]:
    """(name, uv's resolution, requirements) of every row of an interpreter."""
    yield "oldest", "lowest-direct", requirements()
    yield "newest", "highest", requirements()
    for minor in NUMPY:
        yield f"numpy {minor}", "highest", [*requirements(), f"numpy=={minor}.*"]


def module_bytes(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return max(entry.file_size for entry in archive.infolist())


def audit(wheel: Path) -> dict[str, Any]:
    """What auditwheel says of a wheel, in one paragraph, and its sizes."""
    done = subprocess.run([sys.executable, "-m", "auditwheel", "show", wheel], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"auditwheel: {last_line(done)}")
    return {
        "wheel": wheel.name,
        "bytes": wheel.stat().st_size,
        "module_bytes": module_bytes(wheel),
        "auditwheel": " ".join(done.stdout.split()),
    }


def import_times(place: Place, python: str, path: str, rounds: int = 7) -> dict[str, list[float]]:
    """Milliseconds that a process needs more than one that imports nothing, by what it imports, sorted."""
    code = "import subprocess, sys, time; start = time.perf_counter(); "
    code += "subprocess.run([sys.executable, '-c', {0!r}], check=True); print(time.perf_counter() - start)"
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(rounds):
        seconds = [
            float(place.run(python, "-c", code.format(text), PYTHONPATH=path).stdout)
            for text in ("pass", *IMPORTS.values())
        ]
        for name, more in zip(IMPORTS, seconds[1:]):
            times[name].append(round(1000 * (more - seconds[0]), 1))
    return {name: sorted(values) for name, values in times.items()}


def measure(place: Place, folder: Path) -> dict[str, Any]:
    """All rows of one interpreter. Stops where not even the wheel can be installed."""
    asked = place.run(place.python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    if asked.returncode:
        sys.exit(f"{place.python}: {last_line(asked)}")
    version = asked.stdout.strip()
    [wheel] = folder.glob(f"hybridattn-*-cp{version.replace('.', '')}-*manylinux*.whl")
    for path in (wheel, ROOT / "wheels" / "smoke.py"):
        shutil.copy(path, place.scratch)
    python = f"{place.inside}/env/bin/python"
    for command in (
        (place.python, "-m", "venv", f"{place.inside}/env"),
        (python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", f"{place.inside}/{wheel.name}"),
    ):
        done = place.run(*command)
        if done.returncode:
            sys.exit(f"{shlex.join(command)}: {last_line(done)}")
    bare = ["--bare"] if place.root != Path("/") else []
    inside = f"{place.inside}/packages"
    found: dict[str, Any] = {"python": version, **audit(wheel), "rows": []}
    for name, resolution, wanted in cases():
        problem = packages(version, resolution, wanted, place.scratch / "packages")
        row: dict[str, Any] = {"packages": name, "result": problem}
        if problem is None:
            done = place.run(python, f"{place.inside}/smoke.py", *bare, PYTHONPATH=inside)
            row["result"] = last_line(done) if done.returncode else "ok"
            row["versions"] = json.loads(done.stdout) if done.returncode == 0 else {}
            if name == "newest" and done.returncode == 0:
                found["import_ms"] = import_times(place, python, inside)
        print(f"{version}, {name}: {row['result']}", flush=True)
        found["rows"].append(row)
    return found | {"bare": bool(bare)}


def by_python(results: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for found in results["pythons"]:
        yield found, {row["packages"]: row for row in found["rows"]}


def tables(results: dict[str, Any]) -> str:
    """The tables of docs/versions.md."""
    columns = [*(f"numpy {minor}" for minor in NUMPY), "oldest", "newest"]
    lines = [
        "| CPython | " + " | ".join(name.replace("numpy", "NumPy") for name in columns) + " |",
        "| --- " * (len(columns) + 1) + "|",
    ]
    for found, rows in by_python(results):
        lines.append(f"| {found['python']} | " + " | ".join(rows[name]["result"] for name in columns) + " |")
    lines += ["", "| CPython | tag | wheel, MB | module, MB | import, ms | with `Model`, ms |"]
    lines.append("| --- " * 6 + "|")
    for found, _ in by_python(results):
        tag = re.search(r"manylinux_\d+_\d+_\w+?(?=\.|$)", found["wheel"])
        measured = found.get("import_ms", {})
        times = [f"{statistics.median(measured[name]):.0f}" if name in measured else "" for name in IMPORTS]
        sizes = [f"{found[name] / 1e6:.1f}" for name in ("bytes", "module_bytes")]
        lines.append(f"| {found['python']} | " + " | ".join([tag[0] if tag else "", *sizes, *times]) + " |")
    names = ("numpy", "safetensors", "ml_dtypes", "tokenizers", "jinja2", "tqdm", "gguf")
    lines += ["", "| packages | CPython | " + " | ".join(names) + " |", "| --- " * (len(names) + 2) + "|"]
    for which in ("oldest", "newest"):
        for found, rows in by_python(results):
            versions = rows[which].get("versions", {})
            cells = [versions.get(name, "") for name in names]
            lines.append(f"| {which} | {found['python']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", metavar="PYTHON[@ROOT]")
    parser.add_argument("--wheels", type=Path, default=ROOT / "dist", help="where `make wheel` put them")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tables", type=Path, help="print the tables of a result and do nothing else")
    options = parser.parse_args()
    if options.tables:
        print(tables(json.loads(options.tables.read_text())))
        return 0
    results: dict[str, Any] = {"pythons": []}
    for argument in options.pythons:
        python, _, root = argument.partition("@")
        base = Path(root or "/").resolve()
        os.makedirs(base / "tmp", exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base / "tmp") as scratch:
            results["pythons"].append(measure(Place(python, base, Path(scratch)), options.wheels))
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(tables(results))
    rows = [row["result"] for found in results["pythons"] for row in found["rows"]]
    return int(not set(rows) <= {"ok", "no wheel"})


if __name__ == "__main__":
    sys.exit(main())
