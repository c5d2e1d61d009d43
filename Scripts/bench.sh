#!/usr/bin/env bash
# bench.sh [BENCHMARK…]: measures natively and in Apus in the same run and writes Documentation/performance.md.
#
# The micro-benchmarks are those of osbench, whose sources are not part of this project: OSBENCH names its directory
# (default: ../shared/bench/osbench); without it only start-up, memory and process costs are measured. Compare columns of
# one table only: absolute times vary with the machine and the hour.
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

# timed TITLE COMMAND…: a row with minimum and mean of the wall time from exec to exit.
timed() {
  local title=$1 minimum mean
  shift
  read -r minimum mean < <($work/bench-run time "${REPEAT:-50}" "$@")
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
  REPEAT=10 timed "\`python3 -c pass\`, native" $one_cpu python3 -c pass
  REPEAT=10 timed "\`python3 -c pass\` in Apus, one CPU" $one_cpu "$apus" run --cpus 1 -- python3 -c pass
}

# Where the memory of an idle sandbox is: outside of guest memory by the host's count; in guest memory, what the host has
# committed less what the guest says that programs use.
memory() {
  local own file programs
  read -r own file < <($work/bench-run memory $work/meminfo.txt "$apus" run --cpus 1 -- busybox sh -c 'cat /proc/meminfo; exec sleep 3')
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
  few=$($work/bench-run cpu "$@" "$PWD/$work/bench-fork" call "$mib" 4)
  many=$($work/bench-run cpu "$@" "$PWD/$work/bench-fork" call "$mib" $((forks + 4)))
  awk -v few="$few" -v many="$many" -v forks="$forks" 'BEGIN {
    cost = (many - few) / forks
    if (cost < 0.05) print "below 0.05"
    else printf "%.2f", cost }'
}

# What fork costs by the size of the parent, and the page tables of processes that share memory.
fork_cost() {
  local mib native apus_call native_whole apus_whole one all
  local guest=($one_cpu "$apus" run --cpus 1 --memory 20G --)
  gcc -O2 -static -w Scripts/bench-fork.c -o $work/bench-fork || return
  echo "## fork by size of the parent"
  echo
  echo "A process that has touched so much private memory forks; the child writes one page and ends. Natively and in Apus pinned to one"
  echo "host CPU; minimum of the call and of the whole; processor time (of the monitor and all stub processes too) per fork."
  echo
  echo "| memory touched | native call, us | Apus call, us | times faster | native whole, us | Apus whole, us | native CPU, ms | Apus CPU, ms |"
  echo "|---|---:|---:|---:|---:|---:|---:|---:|"
  for mib in ${BENCH_FORK_SIZES:-64 128 256 512 1024 2048 4096 8192}; do
    if [ "$mib" -gt $(($(awk '/MemAvailable/ { print $2 }' /proc/meminfo) / 3072)) ]; then
      echo "| $mib MiB | skipped: the host has too little memory | | | | | | |"
      continue
    fi
    read -r native native_whole < <($one_cpu $work/bench-fork call "$mib" 20)
    read -r apus_call apus_whole < <("${guest[@]}" "$PWD/$work/bench-fork" call "$mib" 20)
    echo "| $mib MiB | $native | $apus_call | $(awk -v a="$native" -v b="$apus_call" 'BEGIN { if (b > 0) printf "%.1f", a / b }') | $native_whole | $apus_whole |" \
      "$(processor "$mib" 20 $one_cpu) | $(processor "$mib" 1000 "${guest[@]}") |"
  done
  echo
  echo "Page tables of processes that share one mapping of 1 GiB and have read all of it, in KiB:"
  echo
  echo "| | 1 process | 64 processes |"
  echo "|---|---:|---:|"
  read -r one all < <($work/bench-fork tables 1024 64)
  echo "| native | $one | $all |"
  read -r one all < <("${guest[@]}" "$PWD/$work/bench-fork" tables 1024 64)
  echo "| Apus | $one | $all |"
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

start_up >$work/start-up.md
memory >$work/memory.md  # sets memory_total
echo "fork by size…" >&2
fork_cost >$work/fork.md

rm -f $work/native.txt $work/apus.txt
if [ -e "$osbench_source/osbench.c" ]; then
  gcc -O2 -static -w "$osbench_source/osbench.c" -o $work/osbench -lpthread -lrt -lm || exit 1
  options=(--timeout "${BENCH_TIMEOUT:-60}" --max-mb "${BENCH_MAX_MB:-512}")
  echo "osbench natively…" >&2
  $one_cpu $work/osbench "${options[@]}" "$@" >$work/native.txt 2>$work/native.err </dev/null
  echo "osbench in Apus on one CPU…" >&2
  # Under a shell: as process 1 osbench takes itself for the init of a virtual machine.
  # shellcheck disable=SC2016
  timeout 3600 $one_cpu "$apus" run --cpus 1 --memory 4G -- busybox sh -c '"$0" "$@"; exit $?' \
    "$PWD/$work/osbench" "${options[@]}" "$@" >$work/apus.txt 2>$work/apus.err </dev/null
else
  echo "osbench: skipped (no $osbench_source/osbench.c; set OSBENCH to its directory)" >&2
fi

echo "single rooms…" >&2
Benchmarks/run.sh >$work/rooms.md || echo "Benchmarks/run.sh: failed" >&2

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
  mark "a system call that enters the kernel, one CPU (\`null_syscall\`)" "$(value null_syscall | awk '{ print $1 / 1000 }')" 8 us
  mark "fork, exit and wait, one CPU (\`fork_exit\`)" "$(value fork_exit)" 600 us
  mark "\`apus run -- busybox true\`, start to exit" "$(awk -F'|' '/as it comes/ { gsub(/ /, "", $3); print $3 }' $work/start-up.md)" 25 ms
  mark "kernel and monitor resident above the program's own memory" "$memory_total" 16 MiB
  echo
  cat $work/start-up.md
  echo
  cat $work/memory.md
  echo
  cat $work/fork.md
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
    echo "Minimum of each case; \`Benchmarks/run.sh\` ([what is compared](../Benchmarks/README.md))."
    echo
    cat $work/rooms.md
  fi
} >$work/performance.md
cp $work/performance.md "$page"
cat "$page"
