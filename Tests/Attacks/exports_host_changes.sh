#!/bin/sh
# What the host changes in an export is seen inside: contents, names that come and go, permissions. A sandbox that has looked
# before (and cached) waits until it sees each; the host changes them only then.
#
# host: @
# expect: seen
set -eu
d=$SCRATCH/shared
mkdir -m 777 "$d"
echo old >"$d/content"
echo x >"$d/gone"
echo x >"$d/mode"
chmod 644 "$d/mode"
(
  until [ -e "$d/ready" ]; do sleep 0.1; done
  echo newer >"$d/content"
  echo x >"$d/absent"
  rm "$d/gone"
  chmod 600 "$d/mode"
) &
"$APUS" run --bind "$d:/srv" -- sh -c '
  cd /srv
  cat content mode gone >/dev/null
  [ ! -e absent ] && [ -e gone ] && : >ready
  until [ "$(cat content)" = newer ]; do :; done
  until [ -e absent ]; do :; done
  until [ ! -e gone ]; do :; done
  until [ "$(stat -c %a mode)" = 600 ]; do :; done
  echo seen'
wait
