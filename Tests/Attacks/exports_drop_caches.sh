#!/bin/sh
# A file that the host makes is seen inside at once behind /proc/sys/vm/drop_caches, also by who has just found the name absent, in a
# directory that is in use.
#
# host: @
# expect: seen 20 of 20
set -eu
d=$SCRATCH/shared
mkdir -m 777 "$d"
mkfifo "$SCRATCH/input"
exec 3<>"$SCRATCH/input"
"$APUS" run --user 0:0 --bind "$d:/srv" -- sh -c '
  cd /srv
  seen=0
  for i in $(seq 20); do
    [ ! -e "absent.$i" ] && echo "absent.$i"
    read -r word
    echo 2 >/proc/sys/vm/drop_caches
    [ -e "absent.$i" ] && seen=$((seen + 1))
  done
  echo "seen $seen of 20"' <&3 | while read -r line; do
  case $line in
    absent.*) : >"$d/$line" && echo go >&3 ;;
    *) echo "$line" ;;
  esac
done
