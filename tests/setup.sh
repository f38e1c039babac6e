#!/usr/bin/env bash
# Set-up for the Makefile and .ci/run, from the project's top folder. Safe to run twice.
#
#   tests/setup.sh venv EXTRAS   system packages, .venv, and hybridattn with these extras, editable
#   tests/setup.sh sanitizers    ThreadSanitizer of gcc and UBSan of clang, for `make ctest`
#
# A missing system package is installed through apt when that needs no password; otherwise the command is
# printed and nothing is done. PYTHON chooses the interpreter (default python3), CC the compiler.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

say() { printf '== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

install_packages() {
    local root=()
    command -v apt-get >/dev/null || die "missing system packages; install what Debian calls: $*"
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || die "missing system packages. Run this, then the same command again:

    sudo apt-get update && sudo apt-get install $*
"
        root=(sudo -n)
    fi
    say "installing system packages: $*"
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
    "${apt[@]}" update >/dev/null || true # an old list may still do
    "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null || die "this failed:

    sudo apt-get update && sudo apt-get install $*
"
}

# Sets `missing` to the Debian packages that the build lacks.
look_for_missing() {
    missing=()
    if ! command -v "$PYTHON" >/dev/null; then
        missing+=(python3 python3-venv python3-dev)
    else
        "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
        local include
        include=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
        [ -f "$include/Python.h" ] || missing+=(python3-dev)
    fi
    if ! printf '#include <stdio.h>\nint main(void) { return 0; }\n' |
        ${CC:-gcc} -fopenmp -x c - -o /dev/null 2>/dev/null; then
        missing+=(gcc libc6-dev)
    fi
    "$PYTHON" find_blis.py >/dev/null 2>&1 || missing+=(libblis-openmp-dev)
}

system_packages() {
    look_for_missing
    if [ ${#missing[@]} != 0 ]; then
        install_packages "${missing[@]}"
        look_for_missing
        "$PYTHON" find_blis.py >/dev/null || exit 1
        [ ${#missing[@]} = 0 ] || die "$PYTHON and ${CC:-gcc} still lack: ${missing[*]}. Try PYTHON=/usr/bin/python3"
    fi
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$($PYTHON --version) is too old: hybridattn needs 3.11 or newer. Set PYTHON=python3.X"
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# pip_install ARGS...: in .venv; says so when what is missing is the network
pip_install() {
    local log status
    log=$(mktemp)
    { # through a pipe, which is read to its end: a process substitution would still be writing the log
        .venv/bin/python -m pip install -qq --disable-pip-version-check "$@" 2>&1 >&3 | tee "$log" >&2
        status=${PIPESTATUS[0]}
    } 3>&1
    if [ "$status" != 0 ]; then
        local unreachable='NewConnectionError|ConnectTimeout|ProxyError|name resolution|No matching distribution'
        if grep -qE "$unreachable" "$log"; then
            rm -f "$log"
            die "pip cannot reach the Python package index. Go online and run the same command again, or name a
mirror or a folder of wheels: PIP_INDEX_URL=URL, or PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR"
        fi
        rm -f "$log"
        die "pip install $* failed; the reason is above"
    fi
    rm -f "$log"
}

make_venv() {
    system_packages
    local wanted found
    wanted=$(version_of "$PYTHON")
    found=$(version_of .venv/bin/python) || found=
    if [ "$found" != "$wanted" ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
        say "creating .venv with Python $wanted${found:+ (it was made with $found)}"
        rm -rf .venv
        "$PYTHON" -m venv .venv
    fi
    say "installing Python packages and building the C core"
    pip_install 'setuptools>=77' 'numpy>=1.26'
    # without isolation: the core is built against the NumPy it will run with, and objects are reused
    pip_install --no-build-isolation -e ".[$1]"
}

sanitizers_work() {
    local program='int main(void) {\n#pragma omp parallel\n;\nreturn 0; }\n'
    printf "$program" | ${CC_TSAN:-gcc} -fsanitize=thread -x c - -o /dev/null 2>/dev/null &&
        printf "$program" | ${CLANG:-clang} -fopenmp -fsanitize=undefined -x c - -o /dev/null 2>/dev/null
}

case "${1:-}" in
venv) make_venv "${2:?which extras?}" ;;
sanitizers)
    sanitizers_work || install_packages gcc libtsan2 clang llvm libclang-rt-dev libomp-dev
    sanitizers_work || die "${CC_TSAN:-gcc} cannot link with -fsanitize=thread, or ${CLANG:-clang} with -fopenmp -fsanitize=undefined"
    ;;
*) die "usage: tests/setup.sh venv EXTRAS | sanitizers" ;;
esac
