#!/bin/sh
# Everything in /proc is read again and again while processes come and go: the kernel must survive, and so must the readers. The control
# is the count of what was read.
#
# run: --cpus 4 --user 0 -- @
# expect: ok the kernel survives its readers
# expect: ok control: .*
# run: --cpus 1 --user 1000 -- @
for worker in 1 2 3 4; do
  (
    i=0
    while [ $i -lt 100 ]; do
      busybox sh -c 'busybox true | busybox cat'
      i=$((i + 1))
    done
  ) &
done
# The whole list first: a search that goes on while its finds are read would find the readers, too, and never end.
round=0
while [ $round -lt 4 ]; do
  busybox find /proc -type f 2>/dev/null | busybox grep -v 'kmsg\|pagemap' >/tmp/files
  busybox xargs -n 50 busybox timeout 20 busybox cat </tmp/files >/dev/null 2>&1
  busybox find /proc -type l 2>/dev/null | busybox xargs busybox readlink >/dev/null 2>&1
  round=$((round + 1))
done
wait
echo "ok the kernel survives its readers"
found=$(busybox find /proc/self/ 2>/dev/null | busybox wc -l)
if [ "$found" -gt 20 ]; then echo "ok control: /proc/self has $found entries"; else echo "NOT OK control: /proc/self has $found entries"; fi
