#!/bin/sh
# BLIS as a static library, for wheels: wheels/blis.sh PREFIX [SOURCE]
#
# Builds the kernels of every processor of this architecture and chooses among them at run time, with OpenMP
# as hybridattn needs it. SOURCE is an unpacked BLIS; without one the release below is cloned. cibuildwheel runs
# this in its container; elsewhere it serves where the distribution has no libblis.a:
#
#     sh wheels/blis.sh $PWD/build/blis && HYBRIDATTN_BLIS_PREFIX=$PWD/build/blis make wheel
set -eu
prefix=${1:?the folder to install into}
source=${2:-}
version=0.9.0

if [ -z "$source" ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    source=$scratch/blis
    git clone -q --depth 1 --branch $version https://github.com/flame/blis "$source"
fi
case $(uname -m) in
x86_64) family=x86_64 ;;
aarch64) family=arm64 ;;
*) family=generic ;;
esac
cd "$source"
CFLAGS=-fPIC ./configure --prefix="$prefix" --enable-threading=openmp --enable-static --disable-shared \
    --disable-blas --disable-cblas $family >configure.log
make -s -j"${HYBRIDATTN_JOBS:-$(nproc)}" libs >make.log
make -s install >install.log
ls -l "$prefix/lib/libblis.a"
