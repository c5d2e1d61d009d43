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
#   KERNEL=FILE      another kernel than the one beside `apus`
#   KIND=…           the kind of directory that programs about files work in: overlay, tmpfs, bind, root (`--writable --root`) or
#                    read-only; only programs run that name the kind in a line `// directory: KIND…`
#   IDENTITY=…       with KIND, who runs them: root, user (of the sandbox), host-user (the monitor has no privileges either)
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
if [ -n "${KERNEL:-}" ]; then options+=(--kernel "$KERNEL"); fi
kind=${KIND:-} identity=${IDENTITY:-root}
native=(env) start=("$apus" run)
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

# The kinds of directories. The sandbox has a root of its own, with the host's /usr and /etc, so that nothing depends on what of
# the host it sees; natively the programs work in a directory beside it, on the same kind of file system.
if [ -n "$kind" ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  chmod 755 "$scratch"
  root=$scratch/root
  mkdir -p "$root"/{usr,etc,proc,sys,dev,programs} "$scratch/bin"
  for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
  cp "$apus" "${apus%/*}/kernel.elf" "$scratch/bin/"
  mkdir "$root/tmp" "$root/work" "$scratch/work" "$scratch/native"
  chmod 1777 "$root/tmp"
  chmod 777 "$root/work" "$scratch/work" "$scratch/native"
  start=("$scratch/bin/apus" run)
  options+=(--root "$root" --bind /usr:/usr:ro --bind /etc:/etc:ro --cwd /)
  native_place=$scratch/native place=/work
  case $kind in
    overlay) ;;
    root) options+=(--writable) ;;
    bind) options+=(--bind "$scratch/work:/work") ;;
    tmpfs) native_place=/dev/shm place=/dev/shm ;;
    read-only)
      options+=(--bind "$scratch/native:/work:ro")
      native=(unshare -m sh -c "mount --bind '$native_place' '$native_place' && mount -o remount,ro,bind '$native_place' && exec \"\$@\"" sh)
      ;;
    *) echo "conformance.sh: no such KIND: $kind" >&2; exit 2 ;;
  esac
  become=(setpriv --reuid 1000 --regid 1000 --clear-groups)
  case $identity in
    root) ;;
    user) native+=("${become[@]}") options+=(--user 1000:1000) ;;
    host-user) native+=("${become[@]}") start=("${become[@]}" "${start[@]}") ;;
    *) echo "conformance.sh: no such IDENTITY: $identity" >&2; exit 2 ;;
  esac
  if [ "$identity" != root ]; then chown -R 1000:1000 "$root/work" "$scratch/work" "$scratch/native" "$root/programs"; fi
  native+=(env "CONFORMANCE_DIRECTORY=$native_place")
  options+=(--env "CONFORMANCE_DIRECTORY=$place")
fi

# A kernel that does not start makes every run wait for its time limit: find out once.
if [ -z "${NATIVE_ONLY:-}" ] && ! timeout -k 5 70 "${start[@]}" "${options[@]}" --timeout 60 -- busybox true </dev/null >"$out/smoke" 2>&1; then
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

finish() {
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ -z "${RESULT:-}" ] || echo "$passed $failed $skipped" >"$RESULT"
  [ "$failed" -eq 0 ]
  exit
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
  base=$out/${kind:+$kind-$identity-}$name
  run "$base.native" "${native[@]}" "${@/#\/programs/${root:-}/programs}"
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
    run "$base.apus$n" "${start[@]}" --cpus "$n" "${options[@]}" --timeout "$limit" -- "$@"
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
  # Programs for other kinds of directories than the default root's.
  kinds=$(sed -n 's|^// directory: ||p' "$source")
  if [ -z "$kind" ] && [ -n "$kinds" ] && [[ " $kinds " != *" overlay "* ]]; then continue; fi
  if [ -n "$kind" ] && [[ " $kinds " != *" $kind "* ]]; then continue; fi
  if [ ! "$out/$name" -nt "$source" ] || [ ! "$out/$name" -nt Tests/Conformance/conformance.h ]; then
    # shellcheck disable=SC2086
    gcc $flags "$source" -o "$out/$name" || { failed=$((failed + 1)); continue; }
  fi
  if [ -z "$kind" ]; then
    EXPECT_ZERO=1 compare "$name" "$out/$name"
  else
    install -m 755 "$out/$name" "$root/programs/"
    if [ "$kind" = read-only ]; then CONFORMANCE_DIRECTORY=$native_place "$out/$name" prepare; fi
    EXPECT_ZERO=1 compare "$name" "/programs/$name"
  fi
done
if [ -n "$kind" ]; then finish; fi

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

finish
