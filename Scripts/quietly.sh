#!/usr/bin/env bash
# quietly.sh LOG COMMAND…: runs a command with its output in LOG; shows the log only when the command fails. LIMIT is the
# longest that it may take, in seconds.
# The warnings that Swift's static libraries cause in the linker are no news, and a build that works says nothing.
set -u
log=$1
shift
timeout -k 10 "${LIMIT:-3600}" "$@" >"$log" 2>&1 </dev/null
status=$?
if [ "$status" -ne 0 ]; then
  grep -nE 'error:|fatal|undefined' "$log" | head -n 40 >&2
  echo "--- last lines of $log ($*) ---" >&2
  tail -n 30 "$log" >&2
fi
exit "$status"
