#!/usr/bin/env bash
# stamp.sh PROGRAM: writes the commit that the source is at into PROGRAM, in the place that CMonitor's version.c has for it;
# "-changed" behind it says that files differ from the commit. Outside of a repository the place stays empty.
set -eu
cd "$(dirname "$0")/.."
mark=apus-commit=
top=$(git rev-parse --show-toplevel 2>/dev/null) || exit 0
[ "$top" = "$(pwd -P)" ] || exit 0
commit=$(git rev-parse --short=12 HEAD 2>/dev/null) || exit 0
git diff --quiet HEAD -- 2>/dev/null || commit+=-changed
place=$(LC_ALL=C grep -abo "$mark" "$1" | head -n 1 | cut -d : -f 1)
printf '%s\0' "$mark$commit" | dd of="$1" bs=1 seek="$place" conv=notrunc status=none
