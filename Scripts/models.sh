#!/usr/bin/env bash
# models.sh: compares the structures of memory with simple models over a million random steps each (STEPS). The same tests run with
# fewer steps among the unit tests; here they are built optimised, which makes them ten times as fast. Seeds are printed:
# APUS_SEED=… APUS_STEPS=… repeats a run.
#
#   RESULT=FILE      where `passed failed skipped` goes
set -u
cd "$(dirname "$0")/.."
# A dictionary's order is the same in each run: a seed says it all.
export SWIFT_DETERMINISTIC_HASHING=1
export APUS_ROOMS=DataStructures,PhysicalMemory,VirtualMemory APUS_STEPS=${STEPS:-1000000}
LIMIT=1200 Scripts/quietly.sh build/models-build.log swift build --build-tests --scratch-path .build-models \
  -Xswiftc -O -Xswiftc -enforce-exclusivity=unchecked || exit 1
program=$(swift build --scratch-path .build-models --show-bin-path)/ApusPackageTests.xctest

# Names of tests: what the structure is compared with.
declare -A models=(
  [DataStructures]='agrees with'
  [PhysicalMemory]='over random steps|agree with a bitmap'
  [VirtualMemory]='agree with a flat model|where a bitmap says'
)
pids=()
for room in "${!models[@]}"; do
  timeout -k 10 "${LIMIT:-900}" "$program" --testing-library swift-testing \
    --filter "^${room}Tests\\..*(${models[$room]})" >"build/models-$room.log" 2>&1 </dev/null &
  pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=1; done
sed 's/\x1b\[[0-9;]*m//g' build/models-*.log >build/models.log
grep -E 'APUS_SEED=' build/models.log | sed 's/^/  /'
p=$(grep -cE ' Test .* passed after ' build/models.log)
f=$(grep -cE ' Test .* failed after ' build/models.log)
grep -E 'recorded an issue|audit:|stale:|Fatal' build/models.log | head -n 20
[ "$p" -gt 0 ] || status=1
[ -z "${RESULT:-}" ] || echo "$p $f 0" >"$RESULT"
echo "$p models agree, $f do not, over $APUS_STEPS steps each"
exit "$status"
