#!/usr/bin/env bash
# Tests of the command itself: options, exit statuses, standard streams, roots, limits, and everything that can be wrong
# with them. Each check runs `apus` once and compares exit status and text. A NAME selects sections by their beginning.
set -u
cd "$(dirname "$0")/.."
apus=$PWD/build/apus
export CPUS=${CPUS:-2}
# Seconds after which a run counts as hung, on however busy a host.
limit=${LIMIT:-300}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0 skipped=0
only=("$@")

section() { # NAME: whether it was asked for
  [ "${#only[@]}" -eq 0 ] && return 0
  local one
  for one in "${only[@]}"; do [[ $1 == "$one"* ]] && return 0; done
  return 1
}

ok() { passed=$((passed + 1)); }
wrong() {
  failed=$((failed + 1))
  printf '  FAIL %s\n' "$1"
  shift
  printf '       %s\n' "$@"
}

# verify TITLE STATUS OUTPUT-PATTERN ERROR-PATTERN COMMAND…  (patterns of bash; '' is nothing at all, '*' anything)
verify() {
  local title=$1 status=$2 out=$3 err=$4 got
  shift 4
  timeout -k 2 $((limit + 10)) "$@" >"$scratch/out" 2>"$scratch/err"
  got=$?
  # shellcheck disable=SC2053
  if [ "$got" -eq "$status" ] && [[ $(<"$scratch/out") == $out ]] && [[ $(<"$scratch/err") == $err ]]; then
    ok
  else
    wrong "$title" "status $got, expected $status" "output: $(head -c 300 "$scratch/out")" "errors: $(head -c 300 "$scratch/err")"
  fi
}
# The same for a command inside the sandbox.
inside() { # TITLE STATUS OUT ERR [OPTION…] -- COMMAND…
  local title=$1 status=$2 out=$3 err=$4
  shift 4
  verify "$title" "$status" "$out" "$err" "$apus" run --cpus "$CPUS" --timeout "$limit" "$@" </dev/null
}
holds() { # TITLE COMMAND…
  local title=$1
  shift
  if "$@" >"$scratch/out" 2>&1; then ok; else wrong "$title" "$(head -c 300 "$scratch/out")"; fi
}

if section options; then
  verify "no arguments" 0 '*SUBCOMMANDS*' '' "$apus"
  verify "--help" 0 '*USAGE: apus <subcommand>*' '' "$apus" --help
  verify "run --help" 0 '*--trace-file <file>*' '' "$apus" run --help
  verify "--version" 0 'apus [0-9]* (VMI [0-9]*), *' '' "$apus" --version
  # The commit is a part of the program, not of its build: stamping it again says another.
  copied=$scratch/other
  cp -r Scripts "$scratch/" && cp "$apus" "$copied"
  holds "a program outside of a repository" bash -c "'$scratch/Scripts/stamp.sh' '$copied' && '$apus' --version | cmp - <('$copied' --version)"
  git -C "$scratch" init -q && git -C "$scratch" -c user.name=n -c user.email=e commit -q --allow-empty -m x
  holds "a program of another commit" bash -c "'$scratch/Scripts/stamp.sh' '$copied' && '$copied' --version | grep -q \"commit $(git -C "$scratch" rev-parse --short=12 HEAD)\$\""
  rm -rf "$scratch/.git" "$scratch/Scripts" "$copied"
  verify "info" 0 '*host kernel*Landlock*' '' "$apus" info
  holds "info --json is JSON" bash -c "'$apus' info --json | python3 -m json.tool"
  verify "an unknown subcommand" 125 '' 'apus: Unexpected argument*' "$apus" fly
  verify "no command" 125 '' 'apus: no command given*' "$apus" run
  verify "an empty command" 125 '' 'apus: the command is an empty string*' "$apus" run -- ''
  verify "an unknown option" 125 '' "apus: Unknown option '--fly'*" "$apus" run --fly -- true
  verify "memory 1" 125 '' "*'1' is out of range: the memory of a sandbox is from 16M to 1T*" "$apus" run --memory 1 -- true
  verify "memory 1E" 125 '' "*'1E' is no size*" "$apus" run --memory 1E -- true
  verify "memory without value" 125 '' "*Missing value for '--memory*" "$apus" run --memory
  verify "no processes" 125 '' 'apus: --pids-limit: 0 is not between 1 and 16384*' "$apus" run --pids-limit 0 -- true
  verify "too many processes" 125 '' 'apus: --pids-limit: 16385 is not between*' "$apus" run --pids-limit 16385 -- true
  verify "a limit of processes" 0 '*threads-max 40*' '' "$apus" run --pids-limit 40 -- sh -c 'echo threads-max $(cat /proc/sys/kernel/threads-max)'
  # The keeper of the control group must not depend on which descriptors it gets.
  verify "the control group goes with the sandbox, also with closed streams" 0 '' '' bash -c '
    for closed in "0<&-" "1>&-" "0<&- 1>&-"; do
      group=$(eval "\"$0\" run --log -- true $closed" 2>&1 >/dev/null | sed -n "s/^apus: control group //p")
      for ((i = 0; i < 1000; i++)); do [ -n "$group" ] && [ -d "$group" ] || continue 2; sleep 0.01; done
      echo "$closed leaves $group"; exit 1
    done' "$apus"
  verify "info tells of control groups" 0 '*control group*' '' "$apus" info
  verify "cpus 0" 125 '' 'apus: --cpus: 0 is not between 1 and 64*' "$apus" run --cpus 0 -- true
  verify "cpus 65" 125 '' 'apus: --cpus: 65 is not between 1 and 64*' "$apus" run --cpus 65 -- true
  verify "a root that is no directory" 125 '' "apus: --root: '/etc/passwd' is not a directory*" "$apus" run --root /etc/passwd -- true
  verify "a root that is missing" 125 '' "apus: --root: '/none': No such file*" "$apus" run --root /none -- true
  verify "a bind without destination" 125 '' "*'/tmp' is not SRC:DST*" "$apus" run --bind /tmp -- true
  verify "a bind over the kernel's /proc" 125 '' "*'/tmp:/proc': /proc is made by the sandbox's own kernel*--bind /tmp:/mnt*" \
    "$apus" run --bind /tmp:/proc -- true
  verify "a bind over the kernel's /dev" 125 '' "*/dev is made by*--disk FILE*" "$apus" run --bind /tmp://dev/ -- true
  verify "an environment variable without a name" 125 '' "*'=x' is not KEY or KEY=value*" "$apus" run --env =x -- true
  verify "an environment variable with a newline in its name" 125 '' '*no control characters*' "$apus" run --env $'A\nB=x' -- true
  inside "an environment variable with a newline in its value" 0 $'a\nb' '' --env A=$'a\nb' -- busybox sh -c 'echo "$A"'
  verify "kernel options that are too long" 125 '' '*of more than 2048 characters*' \
    "$apus" run --append "$(printf %02048d 0)" -- true
  verify "kernel options that cannot be printed" 125 '' '*printable characters*' "$apus" run --append $'slob\n' -- true
  inside "long kernel options" 0 'alive' '' --append "$(printf x%02046d 0)" -- echo alive
  verify "another machine" 125 '' "*Please provide one of 'auto' and 'user'*" "$apus" run --machine kvm -- true
  verify "a missing kernel" 125 '' "apus: --kernel: '/none': No such file*" "$apus" run --kernel /none -- true
  verify "a kernel that is no ELF file" 125 '' 'apus: *' "$apus" run --kernel /etc/passwd -- true
  verify "a kernel that is another program" 125 '' 'apus: *' "$apus" run --kernel /bin/true -- true
  for size in 0 1 63 64 1000 100000; do
    head -c "$size" build/kernel.elf >"$scratch/kernel.elf"
    verify "a kernel cut off at $size bytes" 125 '' 'apus: *' "$apus" run --kernel "$scratch/kernel.elf" -- true
  done
fi

# A kernel that does not start makes every run wait for its time limit: find out once.
if ! timeout -k 5 70 "$apus" run --timeout 60 -- busybox true </dev/null >"$scratch/out" 2>&1; then
  wrong "apus run -- busybox true" "$(head -c 500 "$scratch/out")"
  only=(nothing-more)
fi

if section status; then
  inside "the command's status" 7 '' '' -- busybox sh -c 'exit 7'
  inside "status 255" 255 '' '' -- busybox sh -c 'exit 255'
  inside "a signal" $((128 + 9)) '' '' -- busybox sh -c 'kill -9 $$'
  inside "another signal" $((128 + 15)) '' '' -- busybox sh -c 'kill $$'
  inside "a missing command" 127 '' '*no-such-command*' -- no-such-command
  inside "a missing path" 127 '' '*/no/such*' -- /no/such
  inside "a file that is not executable" 126 '' '*/etc/passwd*' -- /etc/passwd
  inside "a directory" 126 '' '*/etc*' -- /etc
  printf '#!/no/interpreter\n' >"$scratch/script"
  chmod +x "$scratch/script"
  inside "a script with a missing interpreter" 127 '' '*' -- "$scratch/script"
  head -c 100 /bin/true >"$scratch/cut"
  chmod +x "$scratch/cut"
  inside "a truncated program" 126 '' '*' -- "$scratch/cut"
  inside "options of the command are the command's" 0 '*--help*' '*' -- busybox echo --help
  inside "without --" 0 'x' '' busybox echo x
  verify "a time limit" 124 '' '*' "$apus" run --timeout 0.5 -- sleep 30
  verify "a time limit for a busy program" 124 '' '*' "$apus" run --timeout 0.5 -- busybox sh -c 'while :; do :; done'
fi

if section bugs; then
  # A bug of the kernel (on request) costs the process in whose context it happens, with a report that names functions.
  inside "an oops" 0 'status 137' '*kernel bug: runtime check failed*Procfs*SystemCallDispatcher*is killed*' -- \
    busybox sh -c 'busybox sh -c "echo c >/proc/sysrq-trigger"; echo status $?'
  inside "an oops is for the administrator to ask" 1 '' '*' --user 1000 -- busybox sh -c 'echo c >/proc/sysrq-trigger'
fi

if section streams; then
  verify "standard input" 3 '' '' "$apus" run -- busybox sh <<<'exit 3'
  verify "a pipe" 0 '500000' '' bash -c "head -c 500000 /dev/zero | '$apus' run -- wc -c"
  verify "a file as input" 0 "$(wc -l </etc/passwd)" '' bash -c "'$apus' run -- wc -l </etc/passwd"
  verify "output and errors apart" 0 'out' 'err' "$apus" run -- busybox sh -c 'echo out; echo err >&2'
  verify "closed input" 0 'done' '*' bash -c "'$apus' run -- busybox sh -c 'cat; echo done' <&-"
  verify "closed output" 0 '' '*' bash -c "'$apus' run -- busybox sh -c 'echo x; exit 0' >&-"
  verify "everything closed" 0 '' '' bash -c "'$apus' run -- true <&- >&- 2>&-"
  verify "a broken pipe" 0 'y' '*' bash -c "'$apus' run -- yes | head -n 1"
  verify "a full device" 1 '' '*No space left*' bash -c "'$apus' run -- echo x >/dev/full"
  verify "much output" 0 '20000000' '' bash -c "'$apus' run -- head -c 20000000 /dev/zero | wc -c"
fi

if section full; then
  # Standard error is a full pipe that nobody reads: runs end all the same, by themselves or at their time limit.
  full() { # SECONDS OPTION… -- COMMAND…: prints the exit status, or "hangs"
    python3 -c '
import os, subprocess, sys
apus, seconds, *arguments = sys.argv[1:]
reading, writing = os.pipe()
os.set_blocking(writing, False)
for size in (4096, 1):
    try:
        while True: os.write(writing, b"x" * size)
    except BlockingIOError: pass
os.set_blocking(writing, True)
run = subprocess.Popen([apus, "run", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writing)
try: print(run.wait(float(seconds)))
except subprocess.TimeoutExpired:
    run.kill()
    print("hangs")' "$apus" "$@"
  }
  export -f full
  export apus
  verify "statistics for nobody" 0 '0' '' bash -c 'full 60 --statistics -- true'
  verify "a log for nobody" 0 '124' '' bash -c 'full 60 --log --timeout 1 -- sleep 30'
  verify "trace lines for nobody" 0 '124' '' bash -c 'full 60 --trace syscalls --timeout 1 -- true'
  verify "errors for nobody" 0 '124' '' bash -c 'full 60 --timeout 1 -- busybox sh -c "busybox yes >&2"'
fi

if section world; then
  inside "the environment is passed" 0 'value' '' --env X=value -- busybox sh -c 'echo $X'
  inside "a clear environment" 0 'A=1' '' --clear-env --env A=1 -- /usr/bin/env
  inside "the working directory" 0 '/usr/lib' '' --cwd /usr/lib -- pwd
  inside "a missing working directory" 125 '' '*' --cwd /none -- pwd
  inside "a user" 0 '1234:77' '' --user 1234:77 -- busybox sh -c 'echo $(id -u):$(id -g)'
  inside "a user may not read what is root's" 1 '' '*ermission denied*' --host-view all --user 1234:77 -- cat /etc/shadow
  inside "a host name" 0 'box' '' --hostname box -- hostname
  inside "the kernel's version" 0 'Linux version * apus*' '' -- busybox sh -c 'cat /proc/version | tr A-Z a-z | sed s/linux/Linux/'
  inside "processors" 0 '3' '' --cpus 3 -- nproc
  mkdir -p "$scratch/root/bin" "$scratch/root/tmp" "$scratch/shared"
  cp "$(command -v busybox)" "$scratch/root/bin/busybox"
  echo host >"$scratch/root/file"
  echo shared >"$scratch/shared/file"
  inside "a root of its own" 0 'bin' '' --root "$scratch/root" -- /bin/busybox sh -c 'ls / | grep bin'
  inside "the overlay takes writes" 0 'guest' '' --root "$scratch/root" -- /bin/busybox sh -c 'echo guest >/file; rm /bin/busybox; cat </file || read x </file; echo $x' 
  holds "the host's file is unchanged" test "$(<"$scratch/root/file")" = host
  holds "the host's program is still there" test -x "$scratch/root/bin/busybox"
  inside "--writable writes through" 0 '' '' --root "$scratch/root" --writable -- /bin/busybox sh -c 'echo guest >/file; mkdir /made'
  holds "the host's file is changed" test "$(<"$scratch/root/file")" = guest
  holds "the host has the directory" test -d "$scratch/root/made"
  inside "places for mounts are there, for the sandbox alone" 0 '/proc/self*tmpfs*file' '' --root "$scratch/root" --writable \
    --bind "$scratch/shared:/deep/er" -- /bin/busybox sh -c 'ls -d /proc/self; sleep 2; grep -o "/deep tmpfs" /proc/mounts; ls /deep/er'
  holds "the host has none of them" test "$(cd "$scratch/root" && echo *)" = 'bin file made tmp'
  inside "a bind mount" 0 'shared' '' --bind "$scratch/shared:/mnt" -- cat /mnt/file
  inside "a bind mount is writable" 0 '' '' --bind "$scratch/shared:/mnt" -- busybox sh -c 'echo new >/mnt/made'
  holds "through to the host" test "$(<"$scratch/shared/made")" = new
  inside "a read-only bind mount" 1 '' '*ead-only*' --bind "$scratch/shared:/mnt:ro" -- busybox sh -c 'echo x >/mnt/file'
  for change in 'rm /mnt/file' 'mkdir /mnt/dir' 'mv /mnt/file /mnt/other' 'ln /mnt/file /mnt/other' 'chmod 600 /mnt/file' \
    'touch /mnt/file' 'truncate -s 0 /mnt/file'; do
    inside "a read-only bind mount refuses: $change" 1 '' '*ead-only*' --bind "$scratch/shared:/mnt:ro" -- busybox sh -c "$change"
  done
  holds "the host's file is as before" test "$(<"$scratch/shared/file")" = shared
  inside "a tree copied to a bind mount" 0 '' '' --bind "$scratch/shared:/mnt" -- cp -a /usr/include/linux /mnt/copy
  holds "is the same on the host" diff -r /usr/include/linux "$scratch/shared/copy"
  inside "and goes when the sandbox removes it" 0 '' '' --bind "$scratch/shared:/mnt" -- rm -rf /mnt/copy
  holds "from the host too" test ! -e "$scratch/shared/copy"
  ln -s /etc/passwd "$scratch/root/link-out"
  ln -s ../../../../../../../etc/passwd "$scratch/root/link-up"
  inside "symbolic links do not leave the root" 1 '' '*' --root "$scratch/root" -- /bin/busybox cat /link-out /link-up
fi

if section view; then
  # What the sandbox sees of the host, from different working directories.
  from() { # DIRECTORY TITLE STATUS OUT ERR [OPTION…] -- COMMAND…
    local directory=$1 title=$2 status=$3 out=$4 err=$5
    shift 5
    verify "$title" "$status" "$out" "$err" env -C "$directory" HOME="$scratch/home" "$apus" run --cpus "$CPUS" \
      --timeout "$limit" "$@" </dev/null
  }
  mkdir -p "$scratch/home/project/deep" "$scratch/home/bin" "$scratch/elsewhere"
  chmod 755 "$scratch"
  echo secret | tee "$scratch/home/secret" "$scratch/elsewhere/secret" >"$scratch/home/project/deep/file"
  chmod 600 "$scratch/home/project/deep/file"
  printf '#!/bin/sh\necho tool\n' >"$scratch/home/bin/mine"
  chmod +x "$scratch/home/bin/mine"
  project=$scratch/home/project
  from "$project" "the working directory is there, private files too" 0 secret '' -- cat deep/file
  from "$project" "what lies above it is not" 1 '' '*No such file*' -- cat ../secret
  from "$project" "other directories are not" 1 '' '*No such file*' -- cat "$scratch/elsewhere/secret"
  from "$project" "they are in no listing" 0 "$project"$'\nproject\nhome' '' -- \
    busybox sh -c "pwd; ls -A '$scratch/home'; ls -A '$scratch'"
  from "$project" "the whole view has them" 0 secret '' --host-view all -- cat "$scratch/elsewhere/secret"
  verify "also by the environment" 0 secret '' env APUS_HOST_VIEW=all "$apus" run -- cat "$scratch/elsewhere/secret"
  from "$scratch/home" "a home directory is empty" 0 "$scratch/home" '' -- busybox sh -c 'pwd; ls -A'
  from "$scratch" "so is one above it" 0 '' '' -- ls -A
  from / "the root shows the system only" 1 '' '*No such file*' -- cat "$scratch/elsewhere/secret"
  from /tmp "a shared directory is empty" 0 '' '' -- ls -A
  from "$project" "temporary files have room" 0 x '' -- busybox sh -c 'echo x >/tmp/file; cat /tmp/file'
  holds "which is not the host's" test ! -e /tmp/file
  from "$project" "--cwd takes the place of the working directory" 0 secret '*' --cwd "$scratch/elsewhere" -- cat secret
  from "$project" "a program that is named by its path" 0 tool '' -- "$scratch/home/bin/mine"
  from "$project" "a program that is found in PATH" 0 tool '' --env PATH="$scratch/home/bin:/usr/bin:/bin" -- mine
  from "$project" "the system's own program before one at home" 0 "$(busybox | head -n 1)" '' -- \
    busybox sh -c 'busybox | head -n 1'
  from "$project" "nothing but the program" 0 tool '' --host-view none --bind /usr:/usr:ro --bind /bin:/bin:ro --bind /lib:/lib:ro \
    --bind /lib64:/lib64:ro -- "$scratch/home/bin/mine"
  inside "secrets of /etc do not exist, for root neither" 1 '' '*No such file*' --user 0:0 -- cat /etc/shadow
  inside "and are in no listing" 1 '' '' --user 0:0 -- busybox sh -c 'ls /etc | grep -w shadow'
  inside "what everyone may read does" 0 '*PATH*' '' --user 0:0 -- cat /etc/profile
  inside "a directory of the root that is not the system's" 2 '' '*No such file*' --cwd / -- ls /lost+found
  inside "a bind shows more" 0 secret '' --cwd / --bind "$scratch/elsewhere:/mnt" -- cat /mnt/secret
  inside "a working directory that does not exist" 125 '' "apus: cannot change to directory '/x/y': No such file or directory" --cwd /x/y -- true
  inside "the overlay has its size" 0 '102400' '' --overlay-size 100M -- busybox sh -c 'df -k / | awk "NR == 2 { print \$2 }"'
  inside "and no more" 1 '' '*No space left on device*' --overlay-size 2M -- busybox dd if=/dev/zero of=/file bs=1M count=3
  verify "the overlay is too small" 125 '' '*no size of an overlay*' "$apus" run --overlay-size 2 -- true
  verify "there is no overlay" 125 '' 'apus: --overlay-size: with --writable*' "$apus" run --overlay-size 2M --writable --root "$scratch" -- true
  limited() { exec </dev/null && ulimit "$1" "$2" && exec "$apus" run --timeout "$limit" -- true; }
  export -f limited
  export apus limit
  verify "few descriptors are enough" 0 '' '' bash -c 'limited -n 128'
  # The limit that is raised to the hard one, and too few.
  verify "few descriptors that can be more are enough" 0 '' '' bash -c 'limited -Sn 20'
  for count in 3 10 40 80; do
    verify "$count descriptors" 125 '' 'apus: *limit of open files (ulimit -n) is *Start apus with *' bash -c "limited -n $count"
  done
  verify "no private memory at all" 125 '' 'apus: *memory (ulimit -d) is 4000 KiB*' bash -c 'limited -d 4000'
  verify "no file at all" 125 '' 'apus: *files (ulimit -f) is 0 bytes*' bash -o pipefail -c '(limited -f 0) 2>&1 | cat >&2'
  holds "a message that is too long" bash -c '(limited -f 0) 2>"$0"; [ $? -eq 125 ]' "$scratch/long"
  verify "no locked memory" 0 '' '' bash -c 'limited -l 0'
  verify "a limit of address space" 125 '' 'apus: *limit of address space (ulimit -v) is 1954 MiB; *reserves * GiB*ulimit -v unlimited*' \
    bash -c 'limited -v 2000000'
  verify "a limit of private memory" 125 '' 'apus: *memory (ulimit -d) is 98 MiB*' bash -c 'limited -d 100000'
  verify "a limit of the size of files" 125 '' 'apus: *files (ulimit -f) is 100 KiB*' bash -c 'limited -f 100'
  verify "a soft limit of the size of files" 0 '' '' bash -c 'limited -Sf 100'
  verify "a view of another root" 125 '' 'apus: --host-view is about*' "$apus" run --root "$scratch" --host-view all -- true
  verify "a root to write to is named" 125 '' 'apus: --writable: name the directory*' "$apus" run --writable -- true
  verify "an unknown view" 125 '' '*Please provide one of*' "$apus" run --host-view some -- true
  verify "an unknown view in the environment" 125 '' 'apus: APUS_HOST_VIEW*' env APUS_HOST_VIEW=some "$apus" run -- true
  secrets() { env -i PATH="$PATH" LC_X=lc TOKEN=t "$apus" run --timeout "$limit" "$@" -- busybox sh -c 'echo $TOKEN $LC_X' </dev/null; }
  export -f secrets
  export apus limit
  verify "a small environment" 0 lc '' bash -c secrets
  verify "a variable by name" 0 't lc' '' bash -c 'secrets --env TOKEN'
  verify "the whole environment" 0 't lc' '' bash -c 'secrets --env-all'
  verify "no environment and a variable" 0 't' '' bash -c 'secrets --clear-env --env TOKEN'
  mkdir "$scratch/export"
  cp /bin/true "$scratch/export/program"
  inside "a set-user-ID file for the sandbox alone" 0 '4755' '' --user 0:0 --bind "$scratch/export:/mnt" -- \
    busybox sh -c 'chmod 4755 /mnt/program && stat -c %a /mnt/program'
  inside "and one by creation" 0 '' '' --user 0:0 --bind "$scratch/export:/mnt" -- \
    python3 -c 'import os, sys; sys.exit(os.open("/mnt/made", os.O_CREAT | os.O_WRONLY, 0o2755) < 0)'
  inside "no device on the host" 1 '' 'mknod: *' --user 0:0 --bind "$scratch/export:/mnt" -- busybox mknod /mnt/null c 1 3
  holds "the host has none" test ! -u "$scratch/export/program" -a ! -e "$scratch/export/null" -a ! -g "$scratch/export/made"
  inside "in the overlay they may be" 0 '' '' --user 0:0 -- busybox sh -c 'cp /bin/true /tmp; chmod 4755 /tmp/true; mknod /tmp/null c 1 3'
  if [ "$(id -u)" = 0 ]; then
    inside "where they are asked for" 0 '' '' --user 0:0 --privileged-files --bind "$scratch/export:/mnt" -- \
      busybox sh -c 'chmod 4755 /mnt/program && mknod /mnt/null c 1 3'
    holds "they reach the host" test -u "$scratch/export/program" -a -c "$scratch/export/null"
    inside "root's identity stays when it is to" 0 'x' '*no identity dropped: --keep-identity*' --keep-identity --log -- busybox echo x
    # An ordinary user of the host, who owns nothing here.
    cp "$apus" build/kernel.elf "$scratch/elsewhere"
    ordinary() { verify "$1" "$2" "$3" "$4" setpriv --reuid 65534 --regid 65534 --clear-groups env -C "$scratch/elsewhere" HOME=/none \
      ./apus run --cpus "$CPUS" --timeout "$limit" "${@:5}" </dev/null; }
    ordinary "an ordinary user has a sandbox" 0 '65534 0' '' -- busybox sh -c 'echo $(id -u) $(stat -c %u /etc/profile)'
    ordinary "with layers of its own" 0 'x' '*isolation: *capabilities dropped*' --log -- busybox echo x
    ordinary "an ordinary user's binds are written as that user" 1 '' '*ermission denied*' --bind "$scratch/export:/mnt" -- \
      busybox sh -c 'echo x >/mnt/by-user'
  fi
  inside "what is missing is told" 0 'x' '*apus: isolation: *' --log -- busybox echo x
fi

truncate -s 8M "$scratch/disk" "$scratch/pages"
if section direct; then
  mkdir "$scratch/bound"
  gcc -w -O1 -static -pthread Tests/Conformance/programs/direct_io.c -o "$scratch/bound/direct_io"
  head -c 8388999 /dev/urandom >"$scratch/bound/source"
  inside "direct input and output on files of the host" 0 '*, 0 failed' '' --user 0:0 --bind "$scratch/bound:/mnt" -- \
    /mnt/direct_io /mnt/file
  inside "a copy past the cache" 0 '' '' --user 0:0 --bind "$scratch/bound:/mnt" -- \
    dd if=/mnt/source of=/mnt/copy bs=1M iflag=direct oflag=direct status=none
  holds "is the same on the host" cmp "$scratch/bound/source" "$scratch/bound/copy"
  inside "files below the overlay are read past the cache" 0 '' '' --host-view all -- \
    bash -c "dd if='$scratch/bound/source' bs=1M iflag=direct status=none | cmp - '$scratch/bound/source'"
  rm -r "$scratch/bound"
fi

truncate -s 100 "$scratch/tiny"
if section disks; then
  mkfifo "$scratch/fifo"
  gcc -w -O1 -static -pthread Tests/Conformance/programs/direct_io.c -o "$scratch/direct_io"
  inside "direct input and output on a disk" 0 '*, 0 failed' '' --user 0:0 --disk "$scratch/disk" -- "$scratch/direct_io" /dev/vda
  inside "disks in /proc" 0 '*254*0*8192 vda*254*16*8192 vdb*' '' --user 0:0 --disk "$scratch/disk:ro" --disk "$scratch/disk:ro" -- \
    cat /proc/partitions
  inside "a disk's size and sectors" 0 '8388608?512' '' --user 0:0 --disk "$scratch/disk" -- \
    /sbin/blockdev --getsize64 --getss /dev/vda
  inside "what is written is counted" 0 '*vda*' '' --user 0:0 --disk "$scratch/disk" -- \
    busybox sh -c 'yes Apus | head -c 8388608 >/dev/vda; cat /proc/diskstats'
  holds "and is in the file" bash -c "cmp '$scratch/disk' <(yes Apus | head -c 8388608)"
  inside "a full disk says so" 1 '' '*No space left*' --user 0:0 --disk "$scratch/disk" -- bash -c 'yes | head -c 9000000 >/dev/vda'
  inside "a read-only disk" 1 '' '*ead-only*' --user 0:0 --disk "$scratch/disk:ro" -- busybox sh -c 'echo x >/dev/vda'
  inside "a disk belongs to root" 1 '' '*ermission denied*' --user 1000 --disk "$scratch/disk" -- cat /dev/vda
  verify "a disk that is missing" 125 '' "apus: --disk: '/none' No such file*" "$apus" run --disk /none -- true
  verify "a disk that is a directory" 125 '' "apus: --disk: '/tmp' is a directory*" "$apus" run --disk /tmp -- true
  verify "a disk that is a FIFO" 125 '' "apus: --disk: '$scratch/fifo' is neither a regular file nor a block device" \
    "$apus" run --disk "$scratch/fifo" -- true
  verify "a disk without a sector" 125 '' "apus: --disk: *is smaller than a sector*" "$apus" run --disk "$scratch/tiny" -- true
  verify "a disk that is in use" 125 '' "apus: --disk: '$scratch/disk' is in use by another process" \
    flock "$scratch/disk" "$apus" run --disk "$scratch/disk" -- true
  verify "too many disks" 125 '' "apus: more than 8 disks*" "$apus" run $(for i in $(seq 9); do echo --disk "$scratch/disk:ro"; done) -- true
fi

if section swap; then
  inside "swap space is made and in use from the start" 0 '*/dev/vda*partition*65532*0*-2' '' --swap "$scratch/swap:64M" -- cat /proc/swaps
  holds "it is sparse and the user's" test "$(stat -c '%s %a' "$scratch/swap")" = '67108864 600' -a "$(stat -c %b "$scratch/swap")" -lt 1000
  inside "again, by name or by size" 0 '*65532*65532*' '' --swap "$scratch/swap" -- cat /proc/swaps /proc/swaps
  inside "mkswap and swapon in the sandbox" 0 '*vda*partition*8188*5' '*' --user 0:0 --disk "$scratch/pages" -- \
    bash -c '/sbin/mkswap /dev/vda >&2 && /sbin/swapon -p 5 /dev/vda && cat /proc/swaps'
  inside "swapoff brings every page back" 0 'same*0' '' --user 0:0 --memory 256M --swap "$scratch/swap-large:512M" --timeout "$limit" -- \
    busybox sh -c 'python3 -c "
import subprocess
pages = [bytearray(bytes([i % 251]) * 65536) for i in range(3000)]
del pages[1500:]
subprocess.run([\"/sbin/swapoff\", \"/dev/vda\"], check=True)
print(\"same\" if all(pages[i][65535] == i % 251 for i in range(1500)) else \"lost\")"; grep -c vda /proc/swaps || true'
  inside "only root may" 255 '' '*ermission denied*' --user 1000 --disk "$scratch/pages" -- /sbin/swapon /dev/vda
  inside "memory beyond memory" 0 'same' '' --memory 128M --swap "$scratch/swap-large:512M" --timeout "$limit" -- python3 -c '
import random
pages = [bytearray(bytes([i % 251]) * 65536) for i in range(4000)]
order = list(range(4000))
random.Random(1).shuffle(order)
print("same" if all(pages[i][0] == i % 251 and pages[i][65535] == i % 251 for i in order) else "lost")'
  inside "pages that a program advises out are in swap at once" 0 'out same in' '' --swap "$scratch/swap" -- python3 -c '
import mmap, re
swapped = lambda: int(re.search(r"VmSwap:\s+(\d+)", open("/proc/self/status").read())[1])
pages = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(0, len(pages), 4096): pages[i] = i // 4096 % 251
pages.madvise(21)  # MADV_PAGEOUT
print("out" if swapped() > 8000 else swapped(), end=" ")
print("same" if all(pages[i] == i // 4096 % 251 for i in range(0, len(pages), 4096)) else "lost", end=" ")
print("in" if swapped() < 1000 else swapped())'
  verify "swap space that is missing" 125 '' "apus: --swap: '/none' does not exist; give a size to make it, as in /none:1G" "$apus" run --swap /none -- true
  verify "swap space of another size" 125 '' "apus: --swap: '$scratch/swap' exists and has 67108864 bytes, not 1048576" "$apus" run --swap "$scratch/swap:1M" -- true
  cp /bin/busybox "$scratch/program"
  verify "a file with something in it" 125 '' "apus: --swap: '$scratch/program' holds something that is not swap space*" "$apus" run --swap "$scratch/program" -- true
  holds "which stays" cmp /bin/busybox "$scratch/program"
  verify "swap space that is too small" 125 '' "apus: --swap: * has 100 bytes; the least is 65536" "$apus" run --swap "$scratch/tiny" -- true
fi

if section write-back; then
  gcc -w -O1 -static -pthread Tests/Conformance/programs/write_back.c -o "$scratch/write_back"
  mkdir "$scratch/native" "$scratch/files"
  cp "$scratch/write_back" "$scratch/files"
  (cd "$scratch/native" && ../write_back . 64 >../out)
  inside "files of four times memory" 0 '*, 0 failed' '' --user 0:0 --memory 16M --bind "$scratch/files:/mnt" -- \
    /mnt/write_back /mnt 64
  for file in mapped written truncated ranges together; do
    holds "$file is as it is natively" cmp "$scratch/native/$file" "$scratch/files/$file"
  done
  rm -r "$scratch/native" "$scratch/files/"*
  truncate -s 64M "$scratch/large-disk"
  head -c 64M /dev/urandom >"$scratch/files/random"
  inside "a disk of four times memory" 0 '' '' --user 0:0 --memory 16M --disk "$scratch/large-disk" --bind "$scratch/files:/mnt:ro" -- \
    busybox sh -c 'dd if=/mnt/random of=/dev/vda bs=64k 2>/dev/null; cmp /mnt/random /dev/vda'
  holds "and it is in the file" cmp "$scratch/large-disk" "$scratch/files/random"
  rm "$scratch/large-disk" "$scratch/files/random"
  inside "old pages are written although nobody asks" 0 '*nr_dirty 0' '' --user 0:0 --disk "$scratch/disk" -- \
    busybox sh -c 'cd /proc/sys/vm; echo 10 >dirty_writeback_centisecs; echo 10 >dirty_expire_centisecs
      exec 3<>/dev/vda; echo x >&3; until grep "nr_dirty 0" /proc/vmstat; do sleep 0.1; done'
  inside "what is young is not" 0 'nr_dirty 1' '' --user 0:0 --disk "$scratch/disk" -- \
    busybox sh -c 'exec 3<>/dev/vda; echo x >&3; sleep 0.3; grep "nr_dirty " /proc/vmstat'
  # A disk that cannot be written beyond 256 GiB: each open file learns once of what the flusher could not write.
  if truncate -s 512G "$scratch/failing" 2>/dev/null; then
    verify "errors of write-back" 0 'EIO EIO 0 EIO 0 EIO 0' '' bash -c 'trap "" XFSZ; ulimit -f $((256 << 20)); exec "$@"' limited \
      "$apus" run --user 0:0 --timeout "$limit" --disk "$scratch/failing" -- python3 -c '
import errno, os, time
def sync(file):
    try: return os.fsync(file) or 0
    except OSError as error: return errno.errorcode[error.errno]
for name, value in (("expire", 1), ("writeback", 5)): open(f"/proc/sys/vm/dirty_{name}_centisecs", "w").write(str(value))
first, second = (os.open("/dev/vda", os.O_RDWR) for _ in range(2))
os.pwrite(first, bytes(8192), 384 << 30)
answers = [sync(first)]
time.sleep(1)
third = os.open("/dev/vda", os.O_RDWR)
print(*answers, *(sync(file) for file in (first, first, second, second, third, third)))'
    rm "$scratch/failing"
  fi
  inside "what a program leaves dirty arrives when the run ends" 0 '' '' --user 0:0 --bind "$scratch/files:/mnt" -- python3 -c '
import mmap, os, time
file = os.open("/mnt/left", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 1 << 20)
done, child = os.pipe()
if os.fork() == 0:
    memory = mmap.mmap(file, 1 << 20)
    memory[:] = b"left" * (1 << 18)
    os.write(child, b"x")
    time.sleep(600)
os.read(done, 1)
os._exit(0)'
  holds "all of it" bash -c "cmp '$scratch/files/left' <(yes left | tr -d '\n' | head -c 1048576)"
  inside "dropped caches are read again" 0 'fewer' '' --user 0:0 -- \
    busybox sh -c 'cached() { while read -r name value rest; do [ "$name" = Cached: ] && echo "$value"; done </proc/meminfo; }
      cat /usr/bin/python3* >/dev/null; before=$(cached); echo 3 >/proc/sys/vm/drop_caches; [ "$(cached)" -lt "$before" ] && echo fewer'
fi

if section tables; then
  # Eight processes have 1 GiB in common. Its page tables are those of one: a middle table for each would be 28 KiB more.
  # Each measurement has a sandbox to itself: in one with a shell, the shell's tables would be counted.
  gcc -w -O1 -static Scripts/bench-fork.c -o "$scratch/bench-fork"
  tables() { "$apus" run --cpus "$CPUS" --timeout "$limit" --memory 2G -- "$scratch/bench-fork" tables "$1" "$2" 8; }
  shares() { # KIND
    local one all others
    read -r one all <<<"$(tables "$1" 1024)"
    read -r _ others <<<"$(tables "$1" 4)"
    echo "$one KiB for one process, $all for eight; $others for eight with 4 MiB"
    ((one > 2000 && all - others <= one))
  }
  for kind in private shared file; do holds "page tables of a GiB that processes share: $kind" shares "$kind"; done
fi

if section stress; then
  # Much more memory is worked on than there is. Nothing is lost, nobody is killed: all of it fits into swap.
  if command -v stress-ng >/dev/null; then
    stress() { # TITLE CPUS ARGUMENT…
      local title=$1
      verify "$title" 0 '' '' "$apus" run --cpus "$2" --memory 128M --swap "$scratch/swap-stress:512M" --timeout "$limit" -- \
        bash -c 'stress-ng --quiet "$@" && ! grep -v "oom_kill 0" /proc/vmstat | grep oom_kill' stress "${@:3}" </dev/null
    }
    stress "anonymous memory beyond memory" 2 --vm 2 --vm-bytes 192M --vm-method all --verify -t 8s
    stress "on one processor" 1 --vm 1 --vm-bytes 192M --vm-method rand-set --verify -t 5s
    stress "on four, with forks and mappings" 4 --vm 2 --vm-bytes 160M --vm-keep --verify --fork 1 --mmap 1 --mmap-bytes 64M -t 6s
  else
    skipped=$((skipped + 1))
    echo "  SKIP stress: stress-ng is not installed"
  fi
  # Processes related by fork do all kinds of things to more memory than there is; each page is what a flat model says.
  gcc -w -O1 -static -pthread Tests/Conformance/programs/memory_model.c -o "$scratch/memory_model"
  for seed in 1 2; do
    inside "processes and a flat model of their memory, from seed $seed" 0 '*9 checks, 0 failed' '' --memory 48M \
      --swap "$scratch/swap-model:256M" -- "$scratch/memory_model" "$seed" 1500 10000
  done
  inside "a tmpfs larger than memory" 0 'same' '' --memory 128M --swap "$scratch/swap-stress:512M" --timeout "$limit" --user 0:0 -- bash -c '
    pages() { for i in $(seq 20); do yes "$i" | head -c 10M; done; }
    mount -t tmpfs -o size=300M none /mnt
    pages >/mnt/big
    pages | md5sum >/mnt/sum
    md5sum </mnt/big | cmp - /mnt/sum && echo same'
fi

if section compaction; then
  # Two pages of three are given back here and there: a quarter of the huge pages asked for could be made of what lies
  # together. All are made, no page leaves memory for them, and what is kept stays the same.
  inside "scattered memory becomes huge pages, and nothing useful is evicted" 0 '60 same 0' '' --memory 256M --user 0:0 -- python3 -c '
import mmap, random
def stolen(): return sum(int(line.split()[1]) for line in open("/proc/vmstat") if line.startswith("pgsteal_"))
random.seed(1)
count = 50000
memory = mmap.mmap(-1, count * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(count): memory[i * 4096:i * 4096 + 4] = i.to_bytes(4, "little")
kept = set(i for i in range(count) if random.random() < 0.33)
gone = sorted(set(range(count)) - kept)
random.shuffle(gone)
for i in gone: memory.madvise(mmap.MADV_DONTNEED, i * 4096, 4096)
before = stolen()
open("/proc/sys/vm/nr_hugepages", "w").write("60")
after = stolen()
pages = int(open("/proc/sys/vm/nr_hugepages").read())
same = all(memory[i * 4096:i * 4096 + 4] == i.to_bytes(4, "little") for i in kept)
print(pages, "same" if same else "lost", after - before)'
fi

if section trace; then
  inside "trace lines on standard error" 0 'x' '*write(1, "x*", 2)*= 2*' --trace syscalls -- busybox echo x
  inside "trace lines in a file" 0 'x' '' --trace syscalls --trace-file "$scratch/trace" -- busybox echo x
  holds "the file has them" grep -q 'write(1, "x' "$scratch/trace"
  inside "a trace file that cannot be made" 125 '' 'apus: *' --trace syscalls --trace-file /none/trace -- true
fi

if section hardship; then
  inside "memory exhausted: the largest process dies, the shell goes on" 0 '137' '*' --memory 128M -- \
    busybox sh -c 'python3 -c "x = [bytearray(1 << 20) for i in range(1000)]" 2>/dev/null; echo $?'
  inside "memory exhausted by many at once: the shell goes on" 0 'end' '*' --memory 256M -- \
    busybox sh -c 'for i in 1 2 3 4 5 6; do python3 -c "x = [bytearray(1 << 20) for i in range(300)]" 2>/dev/null & done; wait; echo end'
  inside "a list of areas that does not fit into memory" 0 '40000' '' --memory 64M -- python3 -c '
import mmap, ctypes
libc = ctypes.CDLL(None)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
memory = mmap.mmap(-1, 40002 * 4096, flags=0x4022)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for i in range(20000): assert libc.mprotect(start + (2 * i + 1) * 4096, 4096, 1) == 0
def sizes(): return [int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("Size:")]
print(min(sum(1 for size in sizes() if size == 4), 40000))'
  inside "a full tmpfs" 0 'full' '*' --memory 64M -- busybox sh -c 'busybox dd if=/dev/zero of=/tmp/big bs=1M count=500 2>/dev/null || echo full'
  inside "a full tmpfs says so" 1 '' '*No space left*' --memory 64M -- bash -c 'head -c 500M /dev/zero >/tmp/big'
  inside "the memory of removed files comes back" 0 'same' '*' --memory 128M -- bash -c \
    'for i in 1 2 3 4 5 6; do head -c 50M /dev/zero >/tmp/big || exit 1; rm /tmp/big; done; echo same'
  inside "a page cache that fills memory gives way" 0 'x' '' --memory 64M -- bash -c \
    'cat /usr/bin/* >/dev/null 2>&1; for i in 1 2 3 4 5 6 7 8; do /bin/true || exit 1; done; echo x | cat'
  inside "a small memory full of files" 0 'alive' '' --memory 64M -- \
    busybox sh -c 'cat /usr/bin/* >/dev/null 2>&1; echo alive'
  inside "a small memory full of names" 0 'alive' '' --memory 64M -- \
    busybox sh -c 'cat /usr/bin/* >/dev/null 2>&1; find /usr >/dev/null; echo alive'
  inside "half of that" 0 'alive' '' --memory 32M -- \
    busybox sh -c 'cat /usr/bin/* >/dev/null 2>&1; find /usr >/dev/null; echo alive'
  inside "the smallest memory" 0 'x' '' --memory 16M -- busybox echo x
  inside "the largest memory" 0 'x' '' --memory 1T -- busybox echo x
  inside "the other allocator of small objects" 0 'alive' '' --append slob --memory 16M -- \
    busybox sh -c 'find /usr/bin >/dev/null; echo alive'
  inside "a memory of four nodes" 0 '0-3' '' --append numa=fake=4 --memory 256M -- cat /sys/devices/system/node/online
  inside "64 CPUs" 0 '64' '' --cpus 64 -- nproc
  # Limits of processes do not bind root (setrlimit(2)).
  inside "a fork bomb under a limit" 0 'alive' '*' --user 1000 -- bash -c 'ulimit -u 50; (b() { b | b & b; }; b) >/dev/null 2>&1 & sleep 1; echo alive'
  inside "a thousand processes leave none" 0 '1' '' -- busybox sh -c \
    'i=0; while [ $i -lt 1000 ]; do busybox true; /bin/true; i=$((i+1)); done; ls -d /proc/[0-9]* | wc -l | (read n; [ $n -le 6 ] && echo 1)'
  # Whether COMMAND… holds within thirty seconds.
  soon() {
    for _ in $(seq 300); do "$@" && return 0; sleep 0.1; done
    return 1
  }
  children() { pgrep -P "$monitor"; }
  has_children() { [ "$(children | wc -l)" -ge "$1" ]; }
  has_none() { ! children >/dev/null; }
  has_zombies() { ps -o stat= --ppid "$monitor" | grep -q Z; }
  no_zombies() { ! has_zombies; }
  said() { [ "$(cat "$scratch/out")" = "$1" ]; }
  ended() { ! kill -0 "$monitor" 2>/dev/null; }
  # A host process of the sandbox is killed from outside: its program is gone, the kernel is not.
  "$apus" run --timeout "$limit" -- busybox sh -c '(while :; do :; done) & (while :; do :; done) & echo begun; wait; echo survived' \
    >"$scratch/out" 2>"$scratch/err" </dev/null &
  monitor=$!
  soon said begun
  holds "user programs live in processes of their own" has_children 2
  kill -9 $(children) 2>/dev/null
  if soon ended; then
    ok
  else
    wrong "killed stub processes end the run" "still running after 30 s"
    kill -9 "$monitor"
  fi
  wait "$monitor" 2>/dev/null
  holds "and leave no process on the host" soon has_none
  # A thousand processes come and go: their address spaces' host processes go with them. Those that stay are the
  # shell's, a pool of empty ones, and the monitor's own helpers.
  "$apus" run -- busybox sh -c 'i=0; while [ $i -lt 1000 ]; do busybox true; i=$((i + 1)); done; echo all; sleep 600' \
    </dev/null >"$scratch/out" 2>/dev/null &
  monitor=$!
  most=0
  until said all || ended; do
    count=$(children | wc -l)
    [ "$count" -gt "$most" ] && most=$count
    sleep 0.02
  done
  holds "a thousand processes leave no host processes behind" test "$most" -ge 1 -a "$most" -le 16
  holds "nor zombies" soon no_zombies
  kill "$monitor" 2>/dev/null
  wait "$monitor" 2>/dev/null
  # The monitor fails on a terminal, by a signal that somebody sends or of its own: it says so, and the terminal is as it was.
  holds "a monitor that fails ends with 125 and restores the terminal" python3 - "$apus" <<'END'
import os, pty, signal, sys, termios
for number in signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGBUS, signal.SIGSYS:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    child = os.fork()
    if child == 0:
        os.login_tty(slave)
        os.execv(sys.argv[1], ["apus", "run", "--", "busybox", "sh", "-c", "echo begun; sleep 600"])
    text = b""
    while b"begun" not in text: text += os.read(master, 4096)
    raw = termios.tcgetattr(slave)
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    os.set_blocking(master, False)
    text += os.read(master, 4096)
    message = b"apus: the monitor failed: signal %d, sent by process %d at" % (number, os.getpid())
    ok = raw != before and termios.tcgetattr(slave) == before and message in text
    if not ok or os.waitstatus_to_exitcode(status) != 125: sys.exit("%s: %d %s" % (number, status, text))
END
  # The monitor itself is killed: nothing of it stays.
  "$apus" run -- busybox sh -c 'echo begun; sleep 600' </dev/null >"$scratch/out" 2>/dev/null &
  monitor=$!
  soon said begun
  left=$(children)
  kill -9 "$monitor"
  wait "$monitor" 2>/dev/null
  # They are killed at once; the host's init reaps them when it comes to it.
  are_gone() { for child in $left; do grep -q '^State:[[:space:]]*[^Z]' "/proc/$child/status" 2>/dev/null && return 1; done; return 0; }
  holds "a killed monitor takes its processes along" test -n "$left"
  holds "all of them" soon are_gone
fi

printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ -z "${RESULT:-}" ] || echo "$passed $failed $skipped" >"$RESULT"
[ "$failed" -eq 0 ]
