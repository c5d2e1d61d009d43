#!/usr/bin/env bash
# run.sh [FILTER]: builds the benchmarks, runs those whose name matches, and prints a table for each target.
#
# A benchmark's name is "operation, …, alternative": rows are what comes before the last comma, columns what comes behind.
# A benchmark does a thousand operations in each iteration (scalingFactor: .kilo) and has the metrics wallClock and
# throughput; the table has the minimum per operation, which other load on the machine changes least.
set -euo pipefail
cd "$(dirname "$0")"
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
# Only the rooms that are measured.
export APUS_ROOMS=PhysicalMemory
swift package -c release --allow-writing-to-directory "$results" benchmark ${1:+--filter "$1"} \
  --format jmh --path "$results" --no-progress >"$results/log" 2>&1 || { tail -n 20 "$results/log" >&2; exit 1; }
python3 tables.py "$results"/*.jmh.json
