#!/usr/bin/env bash
# fuzz.sh [NAME…]: runs the fuzzers of Tests/Fuzz, each in the sandboxes of a list (Tests/Fuzz/README.md). A NAME selects fuzzers by
# their beginning: syscalls, frames, settings, executables, options.
#
#   SEED=1           what the random numbers begin with; a seed, the number of a round and the sandbox repeat it
#   SECONDS_EACH=N   run each fuzzer in each sandbox for so many seconds, instead of
#   ROUNDS=N         for so many rounds (the slice of CI without it)
#   JOBS=1           sandboxes at once
#   APUS=build/apus  the program under test
#   OPTIONS="…"      more options for `apus run`, such as --kernel build/checked/kernel.elf
#   TIMEOUT=900      seconds beyond SECONDS_EACH after which a run counts as hung
#   RESULT=FILE      where `passed failed skipped` goes
#
# A run fails when its status is not 0, when the kernel's log reports a bug, or when Apus itself ends.
set -u
cd "$(dirname "$0")/.."
apus=${APUS:-$PWD/build/apus}
seed=${SEED:-1}
jobs=${JOBS:-1}
read -ra more <<<"${OPTIONS:-}"
limit=$((${TIMEOUT:-900} + ${SECONDS_EACH:-0}))
out=$PWD/build/fuzz
mkdir -p "$out"

# Lines: fuzzer, rounds of the CI slice, name of the sandbox, options of `apus run`, `--`, options of the fuzzer. `%`: a directory of
# the host.
plan="
syscalls 5 root-2      --cpus 2 --memory 128M -- --workers 2
syscalls 5 small-1     --cpus 1 --memory 16M -- --workers 2
syscalls 5 users-4     --cpus 4 --memory 64M -- --user 1000 --workers 4
syscalls 5 writable-2  --cpus 2 --memory 64M --bind %:/srv -- --directory /srv --workers 2
frames   1 root-2      --cpus 2 --memory 128M --
frames   1 small-1     --cpus 1 --memory 32M --
settings 1 root-2      --cpus 2 --memory 64M --disk %/disk --
settings 1 small-1     --cpus 1 --memory 24M --
executables 4 root-2   --cpus 2 --memory 128M --
executables 4 small-1  --cpus 1 --memory 24M --
"

wanted() { # NAME SELECTION…
  local name=$1 one
  shift
  [ $# -eq 0 ] && return 0
  for one; do [[ $name == "$one"* ]] && return 0; done
  return 1
}

compile() { # NAME
  [ "$out/programs/$1" -nt "Tests/Fuzz/$1.c" ] && [ -z "$(find Tests/Fuzz -newer "$out/programs/$1" -name '*.h')" ] && return 0
  mkdir -p "$out/programs"
  gcc -Wall -Wno-unused-result -Wno-unused-function -O1 -fno-stack-protector -static -pthread -ISources/Monitor/CUserMachine -ITests/Attacks \
    "Tests/Fuzz/$1.c" -o "$out/programs/$1"
}

# campaign FUZZER ROUNDS SANDBOX WORD…: one run; its output to a log, its verdict to a file beside it.
campaign() {
  local fuzzer=$1 rounds=${ROUNDS:-$2} log=$out/$1-$3.log scratch=$out/$1-$3.scratch sandbox=() words=() word seen= status why= begin=$SECONDS
  shift 3
  for word; do
    word=${word//%/$scratch}
    if [ "$word" = -- ]; then seen=1; elif [ -n "$seen" ]; then words+=("$word"); else sandbox+=("$word"); fi
  done
  words+=(--seed "$seed" --rounds "$rounds")
  [ -z "${SECONDS_EACH:-}" ] || words+=(--seconds "$SECONDS_EACH")
  rm -rf "$scratch"
  mkdir -m 777 "$scratch"
  truncate -s 4M "$scratch/disk"
  timeout -k 10 $((limit + 30)) "$apus" run --log --user 0:0 --timeout "$limit" "${more[@]}" "${sandbox[@]}" --bind "$out/programs:/mnt:ro" --cwd / -- \
    "/mnt/$fuzzer" "${words[@]}" >"$log" 2>&1 </dev/null
  status=$?
  rm -rf "$scratch"
  [ "$status" -eq 0 ] || why="status $status"
  if grep -qaE 'kernel bug|[Pp]anic' "$log"; then why="${why:+$why, }the kernel reports a bug"; fi
  printf '  %-5s %-22s %5d s  %s\n' "$([ -z "$why" ] && echo pass || echo FAIL)" "$(basename "$log" .log)" $((SECONDS - begin)) \
    "${why:-$(grep -aE ' (calls|attempts|programs) in ' "$log" | tail -n 1)}"
  [ -z "$why" ] || grep -aE 'FAULT|kernel bug|[Pp]anic' "$log" | head -n 5 | cut -c 1-200 | sed 's/^/        | /'
  echo "${why:-ok}" >"$log.verdict"
}

# compare_executables: what the host runs, runs in Apus too. Apus may run more: Linux finds some faults only when the old program is gone.
compare_executables() {
  local log=$out/executables-native.log rounds=${ROUNDS:-4} why=
  "$out/programs/executables" --list 1 --rounds "$rounds" --seed "$seed" >"$out/executables.native" 2>"$log"
  timeout -k 10 $((limit + 30)) "$apus" run --log --user 0:0 --cpus 2 --memory 4G --timeout "$limit" "${more[@]}" --bind "$out/programs:/mnt:ro" --cwd / -- \
    /mnt/executables --list 1 --rounds "$rounds" --seed "$seed" >"$out/executables.apus" 2>>"$log" </dev/null || why="status $?"
  diff <(sed 's/ (.*//' "$out/executables.native") <(sed 's/ (.*//' "$out/executables.apus") | grep '^< .* ran' >>"$log" &&
    why="${why:+$why, }programs that the host runs and Apus does not"
  [ "$(grep -c ' ran, status 42' "$out/executables.native")" -gt 50 ] || why="${why:+$why, }the host runs none"
  printf '  %-5s %-22s          %s\n' "$([ -z "$why" ] && echo pass || echo FAIL)" executables-native "${why:-$(wc -l <"$out/executables.native") programs}"
  [ -z "$why" ] || head -n 5 "$log" | sed 's/^/        | /'
  echo "${why:-ok}" >"$log.verdict"
}

rm -f "$out"/*.verdict
failed=0
while read -r fuzzer rounds sandbox words; do
  [ -n "$fuzzer" ] && wanted "$fuzzer-$sandbox" "$@" || continue
  compile "$fuzzer" || { failed=$((failed + 1)); continue; }
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
  # shellcheck disable=SC2086
  campaign "$fuzzer" "$rounds" "$sandbox" $words &
done <<<"$plan"
wait
if wanted executables-native "$@"; then compile executables && compare_executables; fi
if wanted options "$@"; then
  if python3 Tests/Fuzz/options.py "$apus" "$seed" "${OPTION_RUNS:-25}" >"$out/options.log" 2>&1; then word=pass; else word=FAIL; fi
  printf '  %-5s %-22s          %s\n' "$word" options "$(tail -n 1 "$out/options.log")"
  if [ "$word" = pass ]; then echo ok; else cat "$out/options.log"; fi >"$out/options.verdict"
fi
passed=$(grep -lx ok "$out"/*.verdict 2>/dev/null | wc -l)
failed=$((failed + $(grep -Lx ok "$out"/*.verdict 2>/dev/null | wc -l)))
calls=$(grep -ahoE '^[0-9]+ calls in ' "$out"/syscalls-*.log 2>/dev/null | awk '{ n += $1 } END { print n + 0 }')
echo "seed $seed: $passed campaigns without fault, $failed with; $calls system calls"
[ -z "${RESULT:-}" ] || echo "$passed $failed 0" >"$RESULT"
[ "$failed" -eq 0 ]
