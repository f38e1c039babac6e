"""What a run's numbers depend on besides its recipe: versions, the processor, how the C core uses it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from .._core import show_config
from ..evaluate.latency import processor


def versions() -> dict[str, str]:
    """Versions of this package and of what its numbers depend on."""
    found = {"python": platform.python_version(), "hybridattn": str(show_config()["version"])}
    for package in ("numpy", "tokenizers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """The processor, its cores, and how the C core uses it."""
    found: dict[str, Any] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }
    core = show_config()
    return found | {key: value for key, value in core.items() if isinstance(value, (str, int, float))}
