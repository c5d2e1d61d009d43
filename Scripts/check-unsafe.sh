#!/usr/bin/env bash
# Unsafe Swift stays where the architecture says: in files named *+Unsafe.swift, and in the rooms whose subject is
# memory itself. Every file with unsafe code says in a `// SAFETY:` line which invariant makes it sound; in the rooms whose
# subject is memory that may stand in the README. `nonisolated(unsafe)` is no memory access and is not counted.
# `--count` prints the table of uses instead.
set -u
cd "$(dirname "$0")/.."

# Files where the keyword `unsafe` may stand: the monitor's part of the machine is C behind Swift signatures.
allowed='(\+Unsafe\.swift$|^Sources/Machine/|^Sources/Monitor/(UserMachine|Boot)/|^Sources/Kernel/(DataStructures|PhysicalMemory)/|^Sources/Kernel/VirtualMemory/UserMemory)'

uses() { # file:line of each line that uses the keyword, comments and strings of documentation left out
  git ls-files 'Sources/*.swift' | xargs -r grep -nE '(^|[^A-Za-z_.`(])unsafe([^A-Za-z_)]|$)' | grep -vE '^[^:]+:[0-9]+: *//'
}

if [ "${1:-}" = --count ]; then
  uses | cut -d: -f1 | sed -E 's,/[^/]+$,,' | sort | uniq -c | awk '{ printf "| %s | %d |\n", $2, $1; sum += $1 } END { printf "| total | %d |\n", sum }'
  exit 0
fi

status=0
outside=$(uses | while IFS= read -r line; do
  [[ ${line%%:*} =~ $allowed ]] || echo "$line"
done)
if [ -n "$outside" ]; then
  echo "unsafe outside its rooms:"
  echo "$outside" | head -n 40
  status=1
fi

# A SAFETY line covers the uses below it in the same declaration; a file with unsafe and none at all is a fault.
for file in $(uses | cut -d: -f1 | sort -u); do
  [[ $file =~ ^Sources/(Machine|Kernel/DataStructures|Kernel/PhysicalMemory)/ ]] && continue
  grep -qE 'SAFETY( \([^)]*\))?:' "$file" || {
    echo "no SAFETY line: $file"
    status=1
  }
done
exit "$status"
