#!/usr/bin/env bash
# run.sh [FILTER]: builds the benchmarks, runs those whose names match FILTER, and prints a table for each target.
#
# A figure's name is "…, alternative.operation": rows are the operation with what comes before the alternative, columns are
# alternatives. Tables have the least figure, which other load on the machine changes least. Each suite, which is what comes
# before the dot, has three processes of its own (RUNS): it fills its table once, finds the heap as no other one left it, and
# where that lies in the caches changes some figures by a factor of three.
set -euo pipefail
cd "$(dirname "$0")"
filter=${1:-.}
# Only the rooms that are measured.
export APUS_ROOMS=VirtualMemory
mkdir -p .build
swift build -c release >.build/run.log 2>&1 || { grep error: .build/run.log >&2; exit 1; }

# timed NAME UNIT: a table of the times that the target takes with swift-benchmark. Suites that fail are missing.
timed() {
  local program=.build/release/$1Benchmarks suite
  # No iterations: names only.
  "$program" --quiet --format csv --columns name --iterations 0 --filter "$filter" | sed '1d; s/^"//; s/\..*//' | uniq |
    while read -r suite; do
      for _ in $(seq "${RUNS:-3}"); do
        "$program" --quiet --format csv --columns name,each --filter "^(?=$suite\.).*($filter)" | sed 1d ||
          echo "$1: $suite: failed" >&2
      done
    done | python3 tables.py "$1" "$2"
}

# counted NAME UNIT SUITE…: a table of what the target counts, of suites whose names match.
counted() {
  local name=$1 unit=$2 suite
  shift 2
  for suite; do
    grep -qiE -- "$filter" <<<"$suite" || continue
    ".build/release/${name}Benchmarks" "$suite" || echo "$name: $suite: failed" >&2
  done | python3 tables.py "$name" "$unit"
}

timed RadixTree "ns per operation"
timed Frames "ns for allocating and freeing"
timed Objects "ns for allocating and freeing"
counted Overhead "memory above what was asked for, %" "slab caches" SLOB
counted Fragmentation "256 MiB, 50 hours" nothing "eviction by order" compaction
