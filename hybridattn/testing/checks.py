"""A run of named checks that goes on after a failure, and tells all that failed at its end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from ..checks import nearest
from ..errors import ConfigError

Case = TypeVar("Case")


def run_checks(
    what: str,
    checks: Mapping[str, Callable[[Case], None]],
    case: Case,
    only: Collection[str] | None,
    skip: Collection[str],
) -> None:
    """Call every chosen check with `case`. AssertionError with a line for each that failed; ConfigError for a
    check that is not there. An error of another kind counts as a failure of its check.
    """
    for name in [*(only or ()), *skip]:
        if name not in checks:
            raise ConfigError(f"no check {name!r}{nearest(name, checks)}")
    failed: list[str] = []
    first: Exception | None = None
    for name, check in checks.items():
        if name in skip or (only is not None and name not in only):
            continue
        try:
            check(case)
        except Exception as error:
            said = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            failed.append(f"{name}: {said}")
            first = first or error
    if failed:
        raise AssertionError(f"{what} fails {len(failed)} of its checks\n" + "\n".join(failed)) from first
