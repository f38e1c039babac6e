#!/usr/bin/env bash
# The fuzzer on a core that gcc built with AddressSanitizer and UBSan: tests/fuzz/sanitized.sh PYTHON ARGUMENTS...
#
# The package is built below build/asan and found there first. Leaks are not looked for: Python keeps objects to
# its end. PYTHONMALLOC=malloc lets the sanitizer see Python's and NumPy's own memory, too.
set -eu
cd "$(dirname "$0")/../.."
python=$1
shift
CC=${CC_ASAN:-gcc} HYBRIDATTN_SANITIZE=address,undefined \
    "$python" setup.py -q build --build-base build/asan --build-lib build/asan/lib
core=$(ls build/asan/lib/hybridattn/_core*.so)
nm -D "$core" | grep -q __asan_init || { echo "$core was built without the sanitizer" >&2; exit 1; }

preload=
for library in libasan.so libubsan.so libstdc++.so; do # the last before Rust's and C++'s exceptions are met
    preload="$preload $(${CC_ASAN:-gcc} -print-file-name=$library)"
done
# stack_use_after_return: see tests/c/Makefile on vectors of 64 bytes
exec env LD_PRELOAD="$preload" PYTHONPATH=build/asan/lib PYTHONMALLOC=malloc OMP_NUM_THREADS=1 \
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0 \
    UBSAN_OPTIONS=print_stacktrace=1 "$python" tests/fuzz/run.py "$@"
