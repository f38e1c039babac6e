"""Which lines of the package the fuzzed readers reach, by coverage.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import coverage

from fuzz.driver import Driver

MANY = 0.3  # share of a module's statements from which on it counts as read by a reader


def covered(driver: Driver, seconds: float) -> str:
    """A table: by reader, the modules that it reads and the share of their statements that input has reached.
    Statements that run at import are reached before it starts, and count for nobody.
    """
    package = Path(__import__("hybridattn").__file__).parent
    rows = []
    for name in driver.names:
        watch = coverage.Coverage(include=[f"{package}/*"], data_file=None, messages=False)
        watch.start()
        until = time.monotonic() + seconds / len(driver.names)
        while time.monotonic() < until:
            driver.block(name)
        watch.stop()
        found = ", ".join(f"{module} {share:.0%}" for module, share in _shares(watch, package))
        rows.append(f"{name:18}  {found}")
    return "\n".join(rows)


def _shares(watch: coverage.Coverage, package: Path) -> Iterator[tuple[str, float]]:
    """(module, share of the statements within its functions that ran), the most first."""
    data, shares = watch.get_data(), {}
    for file in data.measured_files():
        inside = set(_within_functions(file))
        reached = inside & set(data.lines(file) or ())
        if reached and len(reached) >= MANY * len(inside):
            shares[Path(file).relative_to(package).as_posix()] = len(reached) / len(inside)
    yield from sorted(shares.items(), key=lambda item: -item[1])


def _within_functions(file: str) -> Iterator[int]:
    """Numbers of the lines that hold code of a function."""
    codes = [compile(Path(file).read_text(encoding="utf-8"), file, "exec")]
    while codes:
        code = codes.pop()
        inner = [each for each in code.co_consts if hasattr(each, "co_code")]
        codes += inner
        if code.co_flags & 1:  # CO_OPTIMIZED: a function, not a module or a class
            yield from {line for *_, line in code.co_lines() if line and line != code.co_firstlineno}
