#!/usr/bin/env bash
# conformance-files.sh [NAME…]: the conformance programs about files on every kind of directory and as every kind of user
# (conformance.sh: KIND, IDENTITY), by `make conformance-files`.
#
#   KINDS="overlay tmpfs bind root read-only"
#   IDENTITIES="root user host-user"   (the second and third need a host user who may change its identity)
#   CPUS=2, RESULT=FILE, and what else conformance.sh knows
set -u
cd "$(dirname "$0")/.."
result=${RESULT:-}
passed=0 failed=0 skipped=0
identities=${IDENTITIES:-root user host-user}
if [ "$(id -u)" -ne 0 ]; then
  echo "  not root: only as the present user"
  identities=root
fi
for kind in ${KINDS:-overlay tmpfs bind root read-only}; do
  for identity in $identities; do
    echo "$kind, $identity:"
    counts=$(mktemp)
    KIND=$kind IDENTITY=$identity CPUS=${CPUS:-2} RESULT=$counts Scripts/conformance.sh "$@" | sed '$d'
    read -r p f s <"$counts" || { p=0 f=1 s=0; }
    rm -f "$counts"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  done
done
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ -z "$result" ] || echo "$passed $failed $skipped" >"$result"
[ "$failed" -eq 0 ]
