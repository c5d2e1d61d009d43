#!/usr/bin/env bash
# test.sh all|unit: runs the steps below, one line each with its time, and ends with `N passed, M failed, K skipped`.
# A step that cannot even start, crashes, or does not end (a build error, a trap in a test, a time limit) counts as one
# failure at least; a build that succeeds counts as nothing. Nothing here waits for ever: each step has a time limit, so that
# the last line always comes.
set -u
cd "$(dirname "$0")/.."
mkdir -p build
passed=0 failed=0 skipped=0
started=$SECONDS

# step TITLE COMMAND…: the command leaves `passed failed skipped` as the last line of build/step.result.
step() {
  local title=$1 begin=$SECONDS status counts
  shift
  : >build/step.result
  "$@"
  status=$?
  counts=$(tail -n 1 build/step.result)
  read -r p f s <<<"${counts:-0 0 0}"
  if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  printf '[%4d s] %-22s %4d s   %d passed, %d failed, %d skipped\n' \
    $((SECONDS - started)) "$title" $((SECONDS - begin)) "$p" "$f" "$s"
  [ "$status" -eq 0 ]
}

finish() {
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ]
  exit
}

unit_tests() {
  LIMIT=2400 Scripts/quietly.sh build/unit-build.log \
    swift build --build-tests --explicit-target-dependency-import-check error || return 1
  # Each room's tests run in a process of their own: rooms share the fake machine's memory and counters, and tests that trap
  # or hang take only their room's along.
  local tests room status=0 p=0 f=0 s=0
  tests=$(swift build --show-bin-path)/ApusPackageTests.xctest
  : >build/unit.log
  for room in Tests/*Tests; do
    room_tests "$tests" "$(basename "$room")" || status=1
  done
  echo "$p $f $s" >build/step.result
  return "$status"
}

# room_tests PROGRAM ROOM: adds to p, f and s. A process that does not end by itself with its summary is a failure.
room_tests() {
  local log=build/unit-$2.log status begin=$SECONDS counts
  timeout -k 10 "${UNIT_LIMIT:-300}" "$1" --testing-library swift-testing --filter "^$2\\." >"$log" 2>&1 </dev/null
  status=$?
  # Swift Testing reports each test on a line of its own; the summary line is "Test run with …".
  counts=$(awk '
    { gsub(/\033\[[0-9;]*m/, "") }
    / Test run with / { ended = 1; next }
    / Test case / { next }
    / Test .* passed after / { p++ }
    / Test .* failed after / { f++ }
    / Test .* skipped/ { s++ }
    END { print p + 0, f + 0, s + 0, ended + 0 }' "$log")
  cat "$log" >>build/unit.log
  read -r tp tf ts ended <<<"$counts"
  if [ "$ended" -eq 0 ]; then
    tf=$((tf + 1))
    [ "$status" -ne 0 ] || status=1
    echo "$2: did not come to its end (status $status); begun and not finished:"
    awk '
      { gsub(/\033\[[0-9;]*m/, "") }
      match($0, / Test (".*"|[^ ]+\(.*\)) started/) { begun[substr($0, RSTART + 6, RLENGTH - 14)] = 1 }
      match($0, / Test (".*"|[^ ]+\(.*\)) (with [0-9]+ test cases? )?(passed|failed) after/) {
        name = substr($0, RSTART + 6, RLENGTH); sub(/ (with [0-9]+ test cases? )?(passed|failed) after$/, "", name); delete begun[name]
      }
      END { for (name in begun) print "  " name }' "$log" | head -n 10
    tail -n 5 "$log"
  elif [ "$status" -ne 0 ]; then
    [ "$tf" -gt 0 ] || tf=1
    echo "$2:"
    grep -E 'recorded an issue|error:|Fatal' "$log" | head -n 20
  fi >&2
  p=$((p + tp)) f=$((f + tf)) s=$((s + ts))
  [ "$((SECONDS - begin))" -lt 30 ] || echo "         $2: $((SECONDS - begin)) s"
  return "$status"
}

lint() {
  # Undeclared imports are an error in the builds of this script anyhow.
  SKIP_IMPORTS=1 timeout -k 10 600 Scripts/lint.sh >build/lint.log
  local status=$?
  grep -v ' ok$' build/lint.log
  echo "$(grep -c ' ok$' build/lint.log) $status 0" >build/step.result
  return "$status"
}

conformance() { RESULT=build/step.result BUDGET=1500 timeout -k 10 1700 Scripts/conformance.sh; }
file_conformance() {
  KINDS="bind root read-only" IDENTITIES="root host-user" RESULT=build/step.result timeout -k 10 1300 Scripts/conformance-files.sh
}
small_conformance() {
  SMALL=1 CPUS=2 RESULT=build/step.result BUDGET=600 timeout -k 10 700 Scripts/conformance.sh
}
attacks() { RESULT=build/step.result BUDGET=1200 timeout -k 10 1600 Scripts/attacks.sh; }
fuzz() { RESULT=build/step.result timeout -k 10 1600 Scripts/fuzz.sh; }
soak() { RESULT=build/step.result MINUTES=0 BOXES=3 LOAD=2 timeout -k 10 1600 Scripts/soak.sh; }
command_line() { RESULT=build/step.result timeout -k 10 1800 Scripts/command-line-test.sh; }
# A slice of `make check-locks`: what takes most kinds of locks, on two CPUs.
check_locks() {
  LIMIT=900 make --no-print-directory checked-image || return 1
  KERNEL=build/checked/kernel.elf CPUS=2 RESULT=build/step.result BUDGET=150 timeout -k 10 240 Scripts/conformance.sh \
    forked_memory memory_model shared_descriptors splice write_back
}
coverage() { Scripts/coverage.sh --check && echo "1 0 0" >build/step.result; }
models() { RESULT=build/step.result timeout -k 10 2000 Scripts/models.sh >build/models-summary.log; }
build() { make --no-print-directory "$1"; }

case ${1:-all} in
  unit)
    step "dependencies" Scripts/dependencies.sh && step "unit tests" unit_tests
    ;;
  all)
    step "dependencies" Scripts/dependencies.sh || finish
    step "lint" lint
    step "host build" build host
    step "kernel image" build image
    step "unit tests" unit_tests
    step "models" models
    step "coverage is current" coverage
    if [ -x build/apus ]; then step "command line" command_line; fi
    if [ -x build/apus ] && [ -e build/kernel.elf ]; then
      step "conformance" conformance
      step "conformance in 16 MiB" small_conformance
      step "files of the host" file_conformance
      step "order of locks" check_locks
      step "attacks" attacks
      step "fuzzers" fuzz
      step "soak" soak
    fi
    ;;
  *)
    echo "usage: test.sh all|unit" >&2
    exit 2
    ;;
esac
finish
