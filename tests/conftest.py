"""Fixtures that several test files share."""

import os

import pytest

# Before the core is loaded: threads that wait go to sleep, so that the tests share a busy machine well.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@pytest.fixture(scope="module")
def one_thread():
    """One thread. Tiny models have nothing to share, and on a busy machine threads that wait for each other
    cost far more than they win.
    """
    from hybridattn import get_num_threads, set_num_threads

    before = get_num_threads()
    set_num_threads(1)
    yield
    set_num_threads(before)
