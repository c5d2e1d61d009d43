#!/bin/sh
# A program that makes the kernel write to its log again and again, by /dev/kmsg as root, with control characters in it. What reaches
# the host's standard error must stay short, and contain no bytes that command a terminal.
#
# host: @ measure
# expect: ok the log of 2000 messages has at most 100 lines
# expect: ok control: the first messages are there
case ${1:-} in
  flood)
    printf '<0>\033[31mred\n' >/dev/kmsg
    i=0
    while [ $i -lt 2000 ]; do
      echo "<0>message $i" >/dev/kmsg
      i=$((i + 1))
    done
    echo "the program has ended"
    ;;
  measure)
    name=$(basename "$0")
    "$APUS" run --user 0 --log --bind "$(dirname "$0"):/mnt:ro" -- "/mnt/$name" flood >"$SCRATCH/log" 2>&1
    lines=$(grep -c 'message [0-9]' "$SCRATCH/log")
    [ "$lines" -le 100 ] && echo "ok the log of 2000 messages has at most 100 lines" || echo "NOT OK $lines lines"
    grep -q 'message 0$' "$SCRATCH/log" && grep -q 'red$' "$SCRATCH/log" && echo "ok control: the first messages are there"
    if LC_ALL=C grep -q "$(printf '\033')" "$SCRATCH/log"; then
      echo "NOT OK an escape sequence"
      exit 1
    fi
    [ "$lines" -le 100 ]
    ;;
esac
