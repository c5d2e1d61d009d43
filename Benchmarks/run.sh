#!/usr/bin/env bash
# run.sh [FILTER]: builds the benchmarks, runs those whose names contain FILTER, and prints a table for each target.
#
# A figure's name is "operation, …, alternative": rows are what comes before the last comma, columns what comes behind.
# Tables have the least figure, which other load on the machine changes least.
set -euo pipefail
cd "$(dirname "$0")"
filter=${1:-}
# Only the rooms that are measured.
export APUS_ROOMS=VirtualMemory
mkdir -p .build
swift build -c release >.build/run.log 2>&1 || { grep error: .build/run.log >&2; exit 1; }

# target NAME UNIT: a table of the target's figures. Those that fail are missing.
target() {
  local program=.build/release/$1Benchmarks name
  $program | { grep -F -- "$filter" || true; } | while read -r name; do
    "$program" "$name" || echo "$1: $name: failed" >&2
  done | python3 tables.py "$1" "$2"
}

target RadixTree "ns per operation"
target Frames "ns for allocating and freeing"
target Objects "ns for allocating and freeing"
target Overhead "memory above what was asked for, %"
target Fragmentation "256 MiB, 50 hours"
