"""What a run's numbers depend on besides its recipe: versions, the processor, how the C core uses it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any


def versions() -> dict[str, str]:
    """Versions of this package and of what its numbers depend on."""
    from .._core import show_config

    found = {"python": platform.python_version(), "hybridattn": str(show_config()["version"])}
    for package in ("numpy", "tokenizers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """The processor, its cores, and how the C core uses it."""
    from .._core import show_config

    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }
    core = show_config()
    return found | {key: value for key, value in core.items() if isinstance(value, (str, int, float))}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
