#!/bin/sh
# Builds the vDSO.
# usage: build-vdso.sh OUTPUT
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
swift_bin=$(dirname "$(readlink -f "$(command -v swiftc)")")
object=$1.o
"$swift_bin/clang" --target=x86_64-unknown-linux-gnu -O2 -fPIC -ffreestanding -fno-stack-protector -fvisibility=hidden -fno-builtin \
  -fno-jump-tables -fasynchronous-unwind-tables -Wall -Wno-builtin-requires-header -Wno-incompatible-library-redeclaration -c "$here/Sources/vDSO/vdso.c" -o "$object"
"$swift_bin/ld.lld" -shared -soname linux-vdso.so.1 --hash-style=both -z max-page-size=4096 --build-id=none -Bsymbolic \
  -T "$here/Sources/vDSO/vdso.lds" --eh-frame-hdr "$object" -o "$1"
rm -f "$object"
