#!/bin/sh
# Links the image from the static library that SwiftPM built, with the vDSO inside.
# usage: link-kernel.sh LIBRARY OUTPUT
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
swift_bin=$(dirname "$(readlink -f "$(command -v swiftc)")")
embedded=$swift_bin/../lib/swift/embedded/x86_64-unknown-none-elf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/Scripts/build-vdso.sh" "$work/vdso.so"
(cd "$work" && "$swift_bin/ld.lld" -r -m elf_x86_64 --format=binary vdso.so -o vdso.o)
"$swift_bin/ld.lld" -pie --no-dynamic-linker -z text -z norelro -z max-page-size=4096 --gc-sections --apply-dynamic-relocs \
  -T "$here/kernel.ld" -e _start --whole-archive "$1" --no-whole-archive "$work/vdso.o" \
  "$embedded/libswiftUnicodeDataTables.a" -o "$2"
