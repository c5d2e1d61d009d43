#!/usr/bin/env bash
# Ordinary programs, round after round, for SECONDS_TO_RUN. Each says what it must, and ends with status 0; the first that does not
# ends the run with status 1. Memory at rest, with the caches dropped, is compared between an early round and the last.
set -u
end=$((SECONDS + ${SECONDS_TO_RUN:-60}))
work=$(mktemp -d)
programs=0

expect() { # NAME EXPECTED COMMAND…
  local name=$1 expected=$2 got status
  shift 2
  got=$("$@" 2>"$work/errors")
  status=$?
  programs=$((programs + 1))
  [ "$status" -eq 0 ] && [ "$got" = "$expected" ] && return
  echo "FAULT: round $round: $name: status $status, '$got' instead of '$expected'; $(head -c 200 "$work/errors")"
  exit 1
}

archive() { tar -C /usr/share -cf - misc perl5 2>/dev/null | gzip -1 | gzip -d | md5sum; }
many_files() { find /etc /usr/lib/python3 -type f -readable 2>/dev/null | head -n 1500 | xargs cat 2>/dev/null | wc -c; }
directories() {
  mkdir -p "$work/tree/a/b/c"
  for i in 1 2 3 4 5 6 7 8 9; do echo "$i" >"$work/tree/a/b/c/$i"; done
  mv "$work/tree/a/b" "$work/tree/d"
  cat "$work/tree/d/c"/* | tr -d '\n'
  rm -rf "$work/tree"
}
processes() {
  local n=0
  for _ in 1 2 3 4 5 6 7 8; do n=$((n + $(echo 1 | cat | sort | wc -l))); done
  echo "$n"
}
sorting() { seq 20000 | shuf --random-source=/usr/bin/env | sort -n | md5sum; }
threads() {
  python3 -c '
import mmap, os, threading
areas = [mmap.mmap(-1, 1 << 20) for _ in range(8)]
for area in areas: area.write(b"z" * 8192)
sums = []
workers = [threading.Thread(target=lambda: sums.append(sum(range(30000)))) for _ in range(6)]
for worker in workers: worker.start()
for worker in workers: worker.join()
for i in range(5):
    child = os.fork()
    if child == 0: os._exit(i)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == i
assert all(area[8191:8192] == b"z" and area[8192:8193] == b"\0" for area in areas)
print(len(sums), sums[0])'
}

# Free memory in KiB when all is written and no cache is left; only root may drop them.
at_rest() {
  sync
  echo 3 >/proc/sys/vm/drop_caches 2>/dev/null || return 1
  awk '/^MemFree/ { print $2 }' /proc/meminfo
}

round=0
archive_sum=$(archive) files_sum=$(many_files)
sorted=$(seq 20000 | md5sum)
before= after=
while [ "$SECONDS" -lt "$end" ] || [ "$round" -lt 4 ]; do
  round=$((round + 1))
  expect archive "$archive_sum" archive
  expect "many files" "$files_sum" many_files
  expect directories 123456789 directories
  expect processes 8 processes
  expect sorting "$sorted" sorting
  expect threads "6 449985000" threads
  if [ "$round" -eq 3 ]; then before=$(at_rest); fi
done
after=$(at_rest)
rm -rf "$work"
if [ -n "$before" ] && [ $((before - after)) -gt 8192 ]; then
  echo "FAULT: $((before - after)) KiB did not return in $((round - 3)) rounds"
  exit 1
fi
echo "$programs programs in $round rounds; free at rest $before kB, then $after"
