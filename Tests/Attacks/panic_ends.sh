#!/usr/bin/env bash
# A panic ends the sandbox with status 125, wherever it comes from: also with the log or the heap locked, when nothing can be
# allocated, with several CPUs. The panics are asked for through /proc/sysrq-trigger, with the kernel option `fault-injection`.
# The controls: without the option the same words are refused, and the sandbox ends with the status of its program; a kernel bug
# in a thread ends that thread's process only.
#
# host: @
# expect: ok panic ends with 125 .*
# expect: ok panic-log ends with 125 .*
# expect: ok panic-heap ends with 125 .*
# expect: ok without the option the sandbox goes on .*
# expect: ok a kernel bug ends one process .*
set -u

run() { # OPTIONS -- COMMAND: its output in $text, its status in $status
  text=$(timeout 250 "$APUS" run --timeout 200 "$@" 2>&1 </dev/null)
  status=$?
}

for kind in panic panic-log panic-heap; do
  bad=""
  for cpus in 1 2; do
    run --cpus "$cpus" --append fault-injection -- busybox sh -c "busybox sleep 100 & echo $kind >/proc/sysrq-trigger; echo still here"
    [ "$status" = 125 ] && [[ $text == *"a panic was asked for"* ]] && [[ $text != *"still here"* ]] || bad="$bad cpus=$cpus:status=$status"
  done
  if [ -z "$bad" ]; then echo "ok $kind ends with 125 on 1 and 2 CPUs"; else echo "NOT OK $kind ends otherwise:$bad"; fi
done

run --cpus 1 -- busybox sh -c 'echo panic >/proc/sysrq-trigger 2>/dev/null || echo refused; exit 7'
if [ "$status" = 7 ] && [[ $text == *refused* ]]; then echo "ok without the option the sandbox goes on (7)"; else echo "NOT OK without the option: $status"; fi

run --cpus 2 -- busybox sh -c 'busybox sh -c "echo c >/proc/sysrq-trigger"; echo "status $?"; exit 8'
if [ "$status" = 8 ] && [[ $text == *"status 137"* ]]; then echo "ok a kernel bug ends one process (8)"; else echo "NOT OK a kernel bug: $status"; fi
