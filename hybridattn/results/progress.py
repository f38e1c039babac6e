"""Bars of long calls: by `tqdm.auto`, so that a notebook draws its own, and quiet with one switch.

HYBRIDATTN_PROGRESS=0 in the environment, or `quiet()`, silences all of them, whatever `progress=` says; of
the ranks of a world the first one shows them. What is no progress goes through `logging`, under the name
"hybridattn".
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any

from ..distributed.state import is_writer

log = logging.getLogger("hybridattn")
log.addHandler(logging.NullHandler())
_DELAY = 1.0  # seconds before a bar appears
_quiet = os.environ.get("HYBRIDATTN_PROGRESS", "").lower() in ("0", "off", "no", "false")


def quiet(on: bool = True) -> None:
    """No bars from here on, in this process; quiet(False): as each call says."""
    global _quiet
    _quiet = bool(on)


def is_quiet() -> bool:
    """Whether all bars are off."""
    return _quiet


def bar(parts: Iterable[Any] | None, what: str, progress: bool | None = None, **options: Any) -> Any:
    """`parts` with a bar called `what`, see tqdm; None for a bar that is moved by hand. It appears after a
    second of work and is gone at the end. progress None: where somebody watches, in a terminal or a notebook.
    """
    if progress is None:
        progress = sys.stderr.isatty() or "ipykernel" in sys.modules
    with warnings.catch_warnings():  # that a notebook lacks ipywidgets: it then draws a bar of text
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm  # here: its warning is the one that is caught

    settings = {"delay": _DELAY, "leave": False, "desc": what, **options}
    return tqdm(parts, disable=_quiet or not progress or not is_writer(), **settings)
