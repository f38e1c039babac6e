"""How many threads there are and why, and that more of them than cores cost little."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

import hybridattn
from hybridattn import _core

TESTS = Path(__file__).parent
SHOW = "import hybridattn as h; c = h.show_config(); print(c['threads'], c['threads_from'], sep='|')"
WORK = "import numpy as np, tiny; tiny.teacher().hidden(np.zeros((1, 200), np.int32)); " + SHOW


def python(code, *flags, **variables):
    """A child process with these variables and none of ours from outside."""
    env = {k: v for k, v in os.environ.items() if not re.match("OMP_|HYBRIDATTN_(NUM|ISA)", k)}
    env |= {"PYTHONPATH": str(TESTS), **variables}
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def told(**variables):
    child = python(WORK, **variables)
    assert child.returncode == 0, child.stderr
    threads, why = child.stdout.strip().split("|")
    return int(threads), why, child.stderr


def test_the_processors_are_the_default():
    threads, why, _ = told()
    assert 1 <= threads <= len(os.sched_getaffinity(0))
    assert "affinity" in why


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_affinity_counts():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); " + SHOW
    assert python(code).stdout == "1|processors by affinity\n"


def test_our_variable_goes_before_openmp():
    assert told(OMP_NUM_THREADS="3")[:2] == (3, "OMP_NUM_THREADS")
    assert told(OMP_NUM_THREADS="2,5")[:2] == (2, "OMP_NUM_THREADS")
    assert told(OMP_NUM_THREADS="3", HYBRIDATTN_NUM_THREADS="5")[:2] == (5, "HYBRIDATTN_NUM_THREADS")
    assert told(OMP_NUM_THREADS="3", HYBRIDATTN_NUM_THREADS="")[:2] == (3, "OMP_NUM_THREADS")


@pytest.mark.parametrize("value", ["0", "-2", "2.5", "two", "1025", "99999999999999999999", "2,2", " "])
def test_our_variable_is_refused(value):
    child = python(SHOW, HYBRIDATTN_NUM_THREADS=value)
    assert child.returncode == 1
    wanted = f"ValueError: HYBRIDATTN_NUM_THREADS is '{value}', allowed are 1 to 1024"
    assert child.stderr.rstrip().endswith(wanted)


@pytest.mark.parametrize("value", ["100000", "1025", "4294967297", "99999999999999999999", "2147483648,2"])
def test_far_too_many_openmp_threads_are_held(value):
    threads, why, said = told(OMP_NUM_THREADS=value)
    assert (threads, why) == (1024, f"OMP_NUM_THREADS={value}, held to 1024")
    assert f"RuntimeWarning: OMP_NUM_THREADS={value}, held to 1024 threads" in said


@pytest.mark.parametrize("value", ["0", "-1", "many", "2x"])
def test_openmp_threads_that_are_no_number_are_ignored(value):
    _, why, said = told(OMP_NUM_THREADS=value)
    assert "affinity" in why
    assert f"RuntimeWarning: OMP_NUM_THREADS={value} is ignored: allowed are whole numbers from 1" in said


def test_set_num_threads_says_so():
    before = hybridattn.get_num_threads()
    try:
        hybridattn.set_num_threads(3)
        config = hybridattn.show_config()
        assert (config["threads"], config["threads_from"]) == (3, "set_num_threads")
        assert config["processors"] >= 1
    finally:
        hybridattn.set_num_threads(before)


def test_an_instruction_set_that_does_not_exist_is_refused():
    child = python(SHOW, HYBRIDATTN_ISA="avx521")
    assert child.returncode == 1
    wanted = "ValueError: HYBRIDATTN_ISA is 'avx521', allowed on this processor are generic"
    assert wanted in child.stderr.splitlines()[-1]
    code = "import hybridattn as h; print(h.show_config()['isa'])"
    assert python(code, HYBRIDATTN_ISA="generic").stdout == "generic\n"


@pytest.mark.parametrize("value", ["999", "haswell ", "-7", "3x"])
def test_kernels_that_blis_does_not_have_are_refused(value):
    """BLIS itself ends the process."""
    child = python(SHOW, BLIS_ARCH_TYPE=value)
    assert child.returncode == 1 and "libblis" not in child.stderr
    said = child.stderr.splitlines()[-1]
    assert said.startswith(f"ValueError: BLIS_ARCH_TYPE is '{value}', allowed by BLIS ")
    number, name = re.search(r"here are .*?(\d+) \((\w+)\)", said).groups()
    code = "import hybridattn as h; print(h.show_config()['blis_kernels'])"
    assert python(code, BLIS_ARCH_TYPE=number).stdout == f"{name}\n"
    assert python(code, BLIS_ARCH_TYPE="").stdout == python(code).stdout


def test_more_threads_than_cores_cost_little():
    """A bound that no busy machine breaks and spinning breaks by far: it was a factor of 50 to 250."""
    model = tiny.teacher(layers=2, hidden_size=256, intermediate_size=512, num_attention_heads=8)
    tokens, before, best = np.zeros((1, 300), np.int32), hybridattn.get_num_threads(), {}
    try:
        for _ in range(5):
            for threads in (1, 8):
                hybridattn.set_num_threads(threads)
                model.hidden(tokens)
                begun = time.perf_counter()
                model.hidden(tokens)
                best[threads] = min(best.get(threads, 1e9), time.perf_counter() - begun)
    finally:
        hybridattn.set_num_threads(before)
    assert best[8] < 3 * best[1]


@pytest.mark.skipif(not shutil.which("nm"), reason="needs nm")
def test_regions_run_on_our_own_team():
    """What core/openmp.c does not know would go to a runtime that does not know our threads."""
    symbols = subprocess.run(["nm", _core.__file__], capture_output=True, text=True, check=True).stdout
    if " GOMP_parallel" not in symbols:
        pytest.skip("stripped, or not built by gcc")
    assert re.findall(r" U (?:GOMP|omp)_\w+", symbols) == []
