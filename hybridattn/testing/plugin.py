"""The pytest plugin: the fixture `hybrid_regression` and the flag `--hybrid-update`.

pytest loads this file in every session where the package is installed, so it imports nothing of the package
at its top.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .regression import HybridRegression

_UPDATED = pytest.StashKey[dict[str, list[str]]]()
FOLDER = "pinned"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--hybrid-update`."""
    parser.getgroup("hybridattn").addoption(
        "--hybrid-update",
        action="store_true",
        help="write the figures that tests with the fixture hybrid_regression measure, in the place of the "
        "pinned ones",
    )


@pytest.fixture
def hybrid_regression(request: pytest.FixtureRequest) -> HybridRegression:
    """Pins figures of a test in pinned/MODULE/TEST.json beside it: `kl`, `perplexity`, `layers`, `text`,
    `losses`, `number`. See `hybridattn.testing.regression.HybridRegression`.
    """
    from .regression import HybridRegression  # slow: 0.3 s, otherwise of every pytest session

    test = re.sub(r"[^\w.=-]+", "_", request.node.name).strip("_")
    path = Path(request.node.path)
    return HybridRegression(
        path.parent / FOLDER / path.stem / f"{test}.json", bool(request.config.getoption("--hybrid-update"))
    )


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Compare after the test's own lines, so that a moved figure is a failure of the test."""
    result = yield
    regression: Any = pyfuncitem.funcargs.get("hybrid_regression")
    if regression is not None:
        __tracebackhide__ = True
        regression.finish()
        if regression.said:
            pyfuncitem.config.stash.setdefault(_UPDATED, {})[str(regression.path)] = regression.said
    return result


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What an update has changed."""
    for path, said in config.stash.get(_UPDATED, {}).items():
        terminalreporter.write_sep("-", f"hybridattn: wrote {path}")
        for line in said:
            terminalreporter.write_line(line)
