#!/bin/sh
# /proc is read, every file and every link of every process, while processes come and go. Files of a process that ends between the
# opening and the reading, or during it, give errors or what they had; never a bug of the kernel, and never a hang. The reader must have
# met both: processes that were there, and some that had gone.
#
# run: --cpus 2 --user 0 -- @
# expect: read [0-9]{3,} files, survived
# run: --cpus 4 --user 1000 -- @
# expect: read [0-9]{2,} files, survived
for j in 1 2 3; do
  (
    i=0
    while [ $i -lt 150 ]; do
      busybox sh -c 'busybox true | busybox cat'
      i=$((i + 1))
    done
  ) &
done
total=0
k=0
while [ $k -lt 4 ]; do
  # Not those that wait for news, nor the memory of a process, which begins with a hole.
  n=$(busybox find /proc -type f ! -name kmsg ! -name mem ! -name pagemap ! -name sysrq-trigger 2>/dev/null |
    busybox xargs -n 50 busybox wc -c 2>/dev/null | busybox grep -c -v total)
  total=$((total + n))
  busybox find /proc -type l 2>/dev/null | busybox xargs -n 200 busybox readlink >/dev/null 2>&1
  k=$((k + 1))
done
wait
echo "read $total files, survived"
