#!/usr/bin/env bash
# bench.sh [BENCHMARK…]: measures natively and in Apus in the same run and writes Documentation/performance.md.
#
# The micro-benchmarks are those of osbench, whose sources are not part of this project: OSBENCH names its directory
# (default: ../shared/bench/osbench); without it only start-up, memory and process costs are measured. Compare columns of
# one table only: absolute times vary with the machine and the hour. A step that fails says why and leaves a hole in its
# table.
set -u
cd "$(dirname "$0")/.."
apus=$PWD/build/apus
osbench_source=${OSBENCH:-../shared/bench/osbench}
page=Documentation/performance.md
work=build/bench
mkdir -p $work Documentation
gcc -O2 -w Scripts/bench-run.c -o $work/bench-run || exit 1

# Everything on one CPU, natively too; the machine's own choice of CPUs is a row of its own.
one_cpu="taskset -c 0"

# try COMMAND…: its output; when it fails or takes more than five minutes, why.
try() {
  timeout 300 "$@" 2>$work/error && return
  echo "bench.sh: failed with $?: $* $(tail -n 3 $work/error)" >&2
  return 1
}

# step TITLE FUNCTION FILE: a part of the page.
step() {
  echo "$1…" >&2
  "$2" >"$3" || echo "bench.sh: $1: failed with $?" >&2
}

# timed TITLE COMMAND…: a row with minimum and mean of the wall time from exec to exit.
timed() {
  local title=$1 minimum mean
  shift
  read -r minimum mean < <(try $work/bench-run time "${REPEAT:-50}" "$@")
  printf '| %s | %s | %s | `%s` |\n' "$title" "$minimum" "$mean" "$(sed "s,$PWD/,,g; s,taskset -c 0 ,," <<<"$*")"
}

start_up() {
  echo "## Start-up"
  echo
  echo "| what, start to exit | minimum, ms | mean, ms | command |"
  echo "|---|---:|---:|---|"
  timed "native \`busybox true\`" $one_cpu busybox true
  timed "the monitor's executable alone" $one_cpu "$apus" --version
  timed "\`busybox true\` in Apus, one CPU" $one_cpu "$apus" run --cpus 1 -- busybox true
  timed "\`busybox true\` in Apus, as it comes" "$apus" run -- busybox true
  timed "\`bash -c true\` in Apus, one CPU" $one_cpu "$apus" run --cpus 1 -- bash -c true
  REPEAT=10 timed "\`python3 -c pass\`, native" $one_cpu /usr/bin/python3 -c pass
  REPEAT=10 timed "\`python3 -c pass\` in Apus, one CPU" $one_cpu "$apus" run --cpus 1 -- /usr/bin/python3 -c pass
}

# Where the memory of an idle sandbox is: outside of guest memory by the host's count; in guest memory, what the host has
# committed less what the guest says that programs use.
memory() {
  local own file programs
  read -r own file < <(try $work/bench-run memory $work/meminfo.txt "$apus" run --cpus 1 -- busybox sh -c 'cat /proc/meminfo; exec sleep 3')
  programs=$(awk '/^(Cached|AnonPages):/ { sum += $2 } END { print sum }' $work/meminfo.txt)
  memory_total=$(awk -v a="$own" -v b="$file" -v c="$programs" 'BEGIN { printf "%.1f", (a + b - c) / 1024 }')
  echo "## Memory"
  echo
  echo "| resident while a shell's command sleeps, one CPU | MiB | how it is counted |"
  echo "|---|---:|---|"
  awk -v own="$own" -v file="$file" -v programs="$programs" 'BEGIN {
    row = "| %s | %.1f | %s |\n"
    printf row, "monitor, kernel code and data, stub processes", own / 1024, "proportional set size of all host processes of the sandbox (`smaps`) without the memory file"
    printf row, "guest memory in use on the host", file / 1024, "blocks of the memory file"
    printf row, "of it the program’s: anonymous pages, page cache", programs / 1024, "`AnonPages` and `Cached` of the guest’s /proc/meminfo"
    printf row, "**Apus above the program**", (own + file - programs) / 1024, "first and second less third" }'
}

# processor MIB FORKS COMMAND…: milliseconds of processor time for one fork of a process with MIB, its child's write, end
# and wait, by all that takes part: the difference between many forks and few. Touching the memory, which both do, takes
# seconds and varies: so many forks that it does not matter.
processor() {
  local mib=$1 forks=$2 few many
  shift 2
  few=$(try $work/bench-run cpu "$@" "$PWD/$work/bench-fork" call "$mib" 4)
  many=$(try $work/bench-run cpu "$@" "$PWD/$work/bench-fork" call "$mib" $((forks + 4)))
  awk -v few="$few" -v many="$many" -v forks="$forks" 'BEGIN {
    cost = (many - few) / forks
    if (few == "" || many == "") print "-"
    else if (cost < 0.05) print "below 0.05"
    else printf "%.2f", cost }'
}

# Programs and files of the benchmarks lie where the sandbox does not look by default.
export APUS_HOST_VIEW=all
guest=($one_cpu "$apus" run --cpus 1 --memory 20G --)
fork=$PWD/$work/bench-fork

# fork_row MODE SIZE FORKS: cells with native and Apus's call, their ratio, native and Apus's whole.
fork_row() {
  local native native_whole apus_call apus_whole
  read -r native native_whole < <(try $one_cpu "$fork" "$1" "$2" "$3")
  read -r apus_call apus_whole < <(try "${guest[@]}" "$fork" "$1" "$2" 20)
  echo "${native:--} | ${apus_call:--} | $(awk -v a="${native:-0}" -v b="${apus_call:-0}" 'BEGIN { if (a > 0 && b > 0) printf "%.1f", a / b }') | ${native_whole:--} | ${apus_whole:--}"
}

# What fork costs by the size of the parent and by its areas.
fork_cost() {
  local mib areas forks
  gcc -O2 -static -w Scripts/bench-fork.c -o "$fork" || return
  echo "## fork by size of the parent"
  echo
  echo "A process that has touched so much private memory forks; the child writes one page and ends. Natively and in Apus pinned to one"
  echo "host CPU; minimum of the call and of the whole; processor time (of the monitor and all stub processes too) per fork."
  echo
  echo "![The call of fork by size of the parent](fork.svg)"
  echo
  echo "| memory touched | native call, us | Apus call, us | times faster | native whole, us | Apus whole, us | native CPU, ms | Apus CPU, ms |"
  echo "|---|---:|---:|---:|---:|---:|---:|---:|"
  for mib in ${BENCH_FORK_SIZES:-64 256 1024 2048 4096 8192}; do
    if [ "$mib" -gt $(($(awk '/MemAvailable/ { print $2 }' /proc/meminfo) / 1536)) ]; then
      echo "| $mib MiB | skipped: the host has too little memory | | | | | | |"
      continue
    fi
    # Natively a fork of gigabytes takes a second.
    forks=$((mib > 1024 ? 5 : 20))
    echo "| $mib MiB | $(fork_row call "$mib" $forks) | $(processor "$mib" $forks $one_cpu) | $(processor "$mib" 1000 "${guest[@]}") |"
  done
  echo
  echo "By the number of areas, in a process of 256 MiB:"
  echo
  echo "| areas | native call, us | Apus call, us | times faster | native whole, us | Apus whole, us |"
  echo "|---:|---:|---:|---:|---:|---:|"
  for areas in 1 16 64 256 1024; do echo "| $areas | $(fork_row areas $areas 20) |"; done
}

# tables_row TITLE KIND [RUNNER…]
tables_row() {
  local title=$1 kind=$2 one all small
  shift 2
  read -r one all < <(try "$@" "$fork" tables "$kind" 1024 64)
  read -r _ small < <(try "$@" "$fork" tables "$kind" 4 64)
  echo "| $title | ${one:--} | ${all:--} | ${small:--} | $((${all:-0} - ${small:-0})) |"
}

# Page tables of processes that share memory; what a fault asks of the host.
fault_cost() {
  local anonymous anonymous_maps copied copied_maps
  echo "## Page tables and faults"
  echo
  echo "Page tables of processes that share 1 GiB and have read all of it, in KiB: private memory after fork, a shared mapping after"
  echo "fork, and a memory file that each has mapped for itself. What belongs to the GiB is what they have more than processes that"
  echo "share 4 MiB: a process has tables of its own for its text, its data and its stack."
  echo
  echo "| | 1 process | 64 processes | 64 that share 4 MiB | the GiB’s, of 64 |"
  echo "|---|---:|---:|---:|---:|"
  tables_row "native, private" private
  tables_row "native, shared" shared
  tables_row "native, a file" file
  tables_row "Apus, private" private "${guest[@]}"
  tables_row "Apus, shared" shared "${guest[@]}"
  tables_row "Apus, a file" file "${guest[@]}"
  echo
  echo "What faults ask of the host, for a thousand pages that a program writes one after another (64 MiB; /proc/apus/counters):"
  echo
  echo "| | faults | mappings by the host |"
  echo "|---|---:|---:|"
  read -r anonymous anonymous_maps copied copied_maps < <(try "${guest[@]}" "$fork" faults 64 1)
  echo "| anonymous memory, the first time | ${anonymous:--} | ${anonymous_maps:--} |"
  echo "| the same after a fork: copies | ${copied:--} | ${copied_maps:--} |"
}

# table NATIVE APUS: joins both results and the peers'.
table() {
  echo "| benchmark | unit | native | Apus | ratio | UML | gVisor ptrace | gVisor systrap, 2 CPUs |"
  echo "|---|---|---:|---:|---:|---:|---:|---:|"
  awk '
    function skipped(v) { return v == "" || v == "skip" }
    FILENAME ~ /peers/ { if ($1 !~ /^#/) peers[$1] = $2 " | " $3 " | " $4; next }
    FILENAME ~ /native/ { native[$1] = $2; unit[$1] = $3; order[n++] = $1; next }
    { apus[$1] = $2; if (!($1 in native)) { order[n++] = $1; unit[$1] = $3 } else if (native[$1] == "skip") unit[$1] = $3 }
    END {
      for (i = 0; i < n; i++) {
        name = order[i]; a = native[name]; b = apus[name]; u = unit[name]
        if (skipped(a) && skipped(b)) u = ""
        ratio = (skipped(a) || skipped(b) || a == 0 || b == 0) ? "" : sprintf("%.2f", u == "MB/s" ? a / b : b / a)
        printf "| %s | %s | %s | %s | %s | %s |\n", name, u, a == "" ? "-" : a, b == "" ? "-" : b, ratio,
          name in peers ? peers[name] : " | | "
      }
    }' Scripts/bench-peers.tsv "$1" "$2"
}

# mark TITLE VALUE LIMIT UNIT
mark() {
  awk -v title="$1" -v value="$2" -v limit="$3" -v unit="$4" 'BEGIN {
    verdict = value + 0 <= 0 ? "not measured" : value + 0 <= limit ? "reached" : "missed"
    printf "| %s | at most %s %s | %s %s | %s |\n", title, limit, unit, value == "" ? "-" : value, unit, verdict }'
}

step "start-up" start_up $work/start-up.md
step "memory" memory $work/memory.md  # sets memory_total
step "fork by size" fork_cost $work/fork.md
step "page tables and faults" fault_cost $work/faults.md
python3 Scripts/bench-plot.py $work/fork.md >$work/fork.svg && cp $work/fork.svg Documentation/fork.svg

rm -f $work/native.txt $work/apus.txt
if [ -e "$osbench_source/osbench.c" ]; then
  gcc -O2 -static -w "$osbench_source/osbench.c" -o $work/osbench -lpthread -lrt -lm
  options=(--timeout "${BENCH_TIMEOUT:-15}" --max-mb "${BENCH_MAX_MB:-512}")
  echo "osbench natively…" >&2
  timeout 300 $one_cpu $work/osbench "${options[@]}" "$@" >$work/native.txt 2>$work/native.err </dev/null ||
    echo "osbench natively: failed with $?: $(tail -n 3 $work/native.err)" >&2
  echo "osbench in Apus on one CPU…" >&2
  # Under a shell: as process 1 osbench takes itself for the init of a virtual machine.
  # shellcheck disable=SC2016
  timeout 600 $one_cpu "$apus" run --cpus 1 --memory 4G -- busybox sh -c '"$0" "$@"; exit $?' \
    "$PWD/$work/osbench" "${options[@]}" "$@" >$work/apus.txt 2>$work/apus.err </dev/null ||
    echo "osbench in Apus: failed with $?: $(tail -n 3 $work/apus.err)" >&2
else
  echo "osbench: skipped (no $osbench_source/osbench.c; set OSBENCH to its directory)" >&2
fi

step "single rooms" Benchmarks/run.sh $work/rooms.md

# cells FILE TITLE: the cells of the table's first row whose title begins like this.
cells() { awk -F'|' -v title=" $2" 'index($2, title) == 1 { for (i = 3; i < NF; i++) printf "%s ", $i; exit }' "$1"; }
microseconds() { value "$1" | awk '{ print $1 / 1000 }'; }
value() { awk -v name="$1" '$1 == name { print $2 }' $work/apus.txt 2>/dev/null; }
{
  echo "# Performance"
  echo
  echo "Made by \`make bench\`; do not edit. Host: $(uname -s) $(uname -r | cut -d- -f1), $(nproc) CPUs, $(grep -m 1 'model name' /proc/cpuinfo | cut -d: -f2 | sed 's/^ //')$(grep -q hypervisor /proc/cpuinfo && echo ', a virtual machine')."
  echo "Load of the host at the start: $(cut -d' ' -f1 /proc/loadavg). Ratios within a table mean something; absolute times vary from hour to hour by a factor of two."
  echo
  echo "## Marks"
  echo
  echo "| | mark | measured | |"
  echo "|---|---|---:|---|"
  mark "a system call that enters the kernel, one CPU (\`null_syscall\`)" "$(microseconds null_syscall)" 8 us
  mark "fork, exit and wait, one CPU (\`fork_exit\`)" "$(value fork_exit)" 600 us
  mark "\`apus run -- busybox true\`, start to exit" "$(awk -F'|' '/as it comes/ { gsub(/ /, "", $3); print $3 }' $work/start-up.md)" 25 ms
  mark "kernel and monitor resident above the program's own memory" "$memory_total" 16 MiB
  mark "a page of anonymous memory touched for the first time (\`anon_fault\`)" "$(microseconds anon_fault)" 8 us
  mark "a page copied on write (\`cow_fault\`)" "$(microseconds cow_fault)" 8 us
  mark "page tables of 1 GiB that 64 processes share, by those of one: the worst of three kinds" \
    "$(for kind in private shared 'a file'; do cells $work/faults.md "Apus, $kind"; echo; done |
      awk '$1 > 0 && $4 / $1 > most { most = $4 / $1 } END { if (most) printf "%.2f", most }')" 1.1 times
  mark "a page frame of the CPU's stock, allocated and freed, without the fake machine's part" \
    "$(echo "$(cells $work/rooms.md 'order 0, from the CPU') $(cells $work/rooms.md 'of it the fake')" |
      awk 'NF > 3 { printf "%.1f", $1 - $4 }')" 15 ns
  mark "the radix tree's tag sweep, 10⁷ sparse keys, by that in C" \
    "$(cells $work/rooms.md 'tag sweep, sparse, 10000000' | awk '$2 > 0 { printf "%.2f", $1 / $2 }')" 1.3 times
  mark "its look-up" "$(cells $work/rooms.md 'look-up, sparse, 10000000' | awk '$2 > 0 { printf "%.2f", $1 / $2 }')" 1.3 times
  echo
  cat $work/start-up.md
  echo
  cat $work/memory.md
  echo
  cat $work/fork.md
  echo
  cat $work/faults.md
  if [ -s $work/native.txt ] && [ -s $work/apus.txt ]; then
    echo
    echo "## osbench, one CPU"
    echo
    echo "\`osbench ${options[*]}${*:+ $*}\`, natively and as \`apus run --cpus 1 --memory 4G\`, both pinned to one host CPU; minimum per"
    echo "operation (MB/s: maximum). The ratio says how many times as long Apus takes. The columns on the right are for orientation:"
    echo "they come from another day and machine of the same kind ([conditions](../Scripts/bench-peers.tsv)). On a host with CPUs to spare"
    echo "Apus polls on a second one for threads with many quick calls, which this table does not show."
    echo
    table $work/native.txt $work/apus.txt
  fi
  if [ -s $work/rooms.md ]; then
    echo
    echo "## Single rooms, on the host"
    echo
    echo "Minimum of each case (those in nanoseconds); \`Benchmarks/run.sh\` ([what is compared](../Benchmarks/README.md))."
    echo
    cat $work/rooms.md
  fi
} >$work/performance.md
cp $work/performance.md "$page"
cat "$page"
