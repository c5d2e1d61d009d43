#!/usr/bin/env bash
# soak.sh: ordinary programs for a long time, in several sandboxes at once, beside a busy host. Nothing may be killed, and memory returns.
#
#   MINUTES=5        how long
#   BOXES=4          sandboxes at once, of 1, 2 and 4 CPUs
#   LOAD=4           busy processes of the host beside them
#   APUS=build/apus  the program under test
#   RESULT=FILE      where `passed failed skipped` goes
#
# Each sandbox runs Tests/Soak/programs.sh, which checks what every program says and its status, and compares memory at rest. The
# run fails when a program fails or is killed, when the log tells of a kill or a bug, or when a sandbox ends otherwise.
set -u
cd "$(dirname "$0")/.."
apus=${APUS:-$PWD/build/apus}
minutes=${MINUTES:-5}
boxes=${BOXES:-4}
load=${LOAD:-4}
out=$PWD/build/soak
rm -rf "$out"
mkdir -p "$out"

busy=()
cleanup() { [ "${#busy[@]}" -eq 0 ] || kill "${busy[@]}" 2>/dev/null; }
trap cleanup EXIT
for ((i = 0; i < load; i++)); do
  (while :; do :; done) &
  busy+=($!)
done

runs=()
for ((i = 0; i < boxes; i++)); do
  cpus=$((1 << i % 3))
  # What only a hang reaches: the time of the rounds is measured inside, between rounds.
  timeout -k 10 $((minutes * 60 + 1800)) "$apus" run --log --cpus "$cpus" --memory 1G --timeout $((minutes * 60 + 1700)) \
    --bind "$PWD/Tests/Soak:/mnt:ro" --cwd / --env "SECONDS_TO_RUN=$((minutes * 60))" -- bash /mnt/programs.sh >"$out/$i.log" 2>&1 </dev/null &
  runs+=($!)
done
passed=0 failed=0
for ((i = 0; i < boxes; i++)); do
  wait "${runs[i]}"
  status=$?
  why=
  [ "$status" -eq 0 ] || why="status $status"
  if grep -qaE 'kernel bug|[Pp]anic|SIGKILL| killed| kills ' "$out/$i.log"; then why="${why:+$why, }the log tells of a kill or a bug"; fi
  if [ -z "$why" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  printf '  %-5s sandbox %d: %s\n' "$([ -z "$why" ] && echo pass || echo FAIL)" "$i" "${why:-$(tail -n 1 "$out/$i.log")}"
  [ -z "$why" ] || grep -aE 'FAULT|bug|anic|kill' "$out/$i.log" | head -n 5 | cut -c 1-200 | sed 's/^/        | /'
done
[ -z "${RESULT:-}" ] || echo "$passed $failed 0" >"$RESULT"
[ "$failed" -eq 0 ]
