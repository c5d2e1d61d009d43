#!/usr/bin/env bash
# conformance.sh [NAME…]: runs each program of Tests/Conformance natively and then in Apus on 1, 2 and 4 CPUs, and
# compares output and exit status. A NAME selects programs and shell cases by their beginning.
#
#   CPUS="1 2 4"     the machine sizes to run
#   TIMEOUT=180      seconds for one run
#   BUDGET=2400      seconds for everything; what does not fit counts as failed
#   NATIVE_ONLY=1    only the native run
#   SMALL=1          the machine has 16 MiB, with swap, and its kernel uses SLOB
#   OPTIONS="…"      more options for `apus run`
#   RESULT=FILE      where `passed failed skipped` goes
#
# A program must pass on native Linux first: one that fails there tests nothing and is counted as failed.
set -u
cd "$(dirname "$0")/.."
cpus=${CPUS:-1 2 4}
limit=${TIMEOUT:-180}
budget=${BUDGET:-2400}
read -ra options <<<"${OPTIONS:-}"
out=$PWD/build/conformance
apus=$PWD/build/apus
# Natively a program sees all files: so it does in Apus.
export APUS_HOST_VIEW=all
mkdir -p "$out"
passed=0 failed=0 skipped=0

# What cannot be in so small a memory, and why.
too_large() { # NAME
  [ -n "${SMALL:-}" ] || return 1
  case $1 in
    hugepages) echo "its pool of huge pages alone has 16 MiB" ;;
    *) return 1 ;;
  esac
}
if [ -n "${SMALL:-}" ]; then options+=(--memory 16M --append slob --swap "$out/swap:256M"); fi

# A kernel that does not start makes every run wait for its time limit: find out once.
if [ -z "${NATIVE_ONLY:-}" ] && ! timeout -k 5 70 "$apus" run "${options[@]}" --timeout 60 -- busybox true </dev/null >"$out/smoke" 2>&1; then
  echo "  FAIL: apus run -- busybox true"
  head -n 20 "$out/smoke"
  [ -z "${RESULT:-}" ] || echo "0 1 0" >"$RESULT"
  exit 1
fi

wanted() { # NAME SELECTION…
  local name=$1
  shift
  [ $# -eq 0 ] && return 0
  local one
  for one; do [[ $name == "$one"* ]] && return 0; done
  return 1
}

# run FILE COMMAND…: standard output and the exit status to FILE, standard error to FILE.err.
run() {
  local file=$1 status
  shift
  timeout -k 5 "$limit" "$@" >"$file" 2>"$file.err" </dev/null
  status=$?
  echo "exit status $status" >>"$file"
}

report() { # RESULT NAME DETAIL
  printf '  %-5s %-34s %s\n' "$1" "$2" "${3:-}"
}

# compare NAME COMMAND…: native, then each machine.
compare() {
  local name=$1 base n ok=1 where="" reason
  shift
  if reason=$(too_large "$name"); then
    report SKIP "$name:" "$reason"
    skipped=$((skipped + 1))
    return
  fi
  base=$out/$name
  run "$base.native" "$@"
  if grep -q '^NOT OK\|^FATAL' "$base.native" || { [ "${EXPECT_ZERO:-1}" = 1 ] && ! tail -n 1 "$base.native" | grep -q 'exit status 0'; }; then
    report FAIL "$name" "natively"
    grep -n '^NOT OK\|^FATAL\|^exit status' "$base.native" | head -n 10
    head -n 5 "$base.native.err"
    failed=$((failed + 1))
    return
  fi
  if [ -n "${NATIVE_ONLY:-}" ]; then
    report pass "$name" "natively"
    passed=$((passed + 1))
    return
  fi
  for n in $cpus; do
    if [ "$SECONDS" -gt "$budget" ]; then
      ok=0 where="$where $n(time)"
      failed=$((failed + 1))
      continue
    fi
    run "$base.apus$n" "$apus" run --cpus "$n" "${options[@]}" --timeout "$limit" -- "$@"
    if ! cmp -s "$base.native" "$base.apus$n"; then
      ok=0
      where="$where $n"
      failed=$((failed + 1))
    else
      passed=$((passed + 1))
    fi
  done
  if [ "$ok" = 1 ]; then
    report pass "$name" "natively and on $cpus CPUs"
  else
    report FAIL "$name" "on$where CPUs"
    n=${where##* }
    [ -e "$base.apus$n" ] || return
    diff "$base.native" "$base.apus$n" | head -n "${DIFF_LINES:-12}" | sed 's/^/        /'
    head -n 4 "$base.apus$n.err" | sed 's/^/        ! /'
  fi
}

flags="-w -O1 -static -pthread"
for source in Tests/Conformance/programs/*.c; do
  name=$(basename "$source" .c)
  wanted "$name" "$@" || continue
  if [ ! "$out/$name" -nt "$source" ] || [ ! "$out/$name" -nt Tests/Conformance/conformance.h ]; then
    # shellcheck disable=SC2086
    gcc $flags "$source" -o "$out/$name" || { failed=$((failed + 1)); continue; }
  fi
  EXPECT_ZERO=1 compare "$name" "$out/$name"
done

# The same programs once more as Debian links them: position independent, with ld.so and shared libraries.
for name in files threads signals; do
  wanted "dynamic-$name" "$@" || continue
  # shellcheck disable=SC2086
  gcc ${flags/-static/} "Tests/Conformance/programs/$name.c" -o "$out/dynamic-$name" || { failed=$((failed + 1)); continue; }
  cpus=${CPUS:-2} EXPECT_ZERO=1 compare "dynamic-$name" "$out/dynamic-$name"
done
if wanted static-pie "$@"; then
  gcc -w -O1 -static-pie -pthread Tests/Conformance/programs/entries.c -o "$out/static-pie" &&
    cpus=${CPUS:-2} EXPECT_ZERO=1 compare static-pie "$out/static-pie"
fi

# Shell cases: blocks of a file, each begun by `## NAME [PROGRAM]`, run by that shell.
mkdir -p "$out/shell"
for file in Tests/Conformance/shell/*.sh; do
  awk -v out="$out/shell" -v room="$(basename "$file" .sh)" '
    /^## / { name = room "-" $2; shell = $3 ? $3 : "bash"; target = out "/" name; print name, shell; printf "" > target; next }
    target { print >> target }' "$file"
done >"$out/shell/list"
while read -r name shell; do
  wanted "$name" "$@" || continue
  case $shell in
    bash) command=(bash "$out/shell/$name") ;;
    busybox) command=(busybox sh "$out/shell/$name") ;;
    *) command=("$shell" "$out/shell/$name") ;;
  esac
  if ! command -v "${command[0]}" >/dev/null; then
    report skip "$name" "no ${command[0]}"
    skipped=$((skipped + 1))
    continue
  fi
  cpus=${CPUS:-2} EXPECT_ZERO=0 compare "$name" "${command[@]}"
done <"$out/shell/list"

printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ -z "${RESULT:-}" ] || echo "$passed $failed $skipped" >"$RESULT"
[ "$failed" -eq 0 ]
