#!/usr/bin/env bash
# Installs the Debian packages that the build and the tests use. Each package has a check of its own; nothing is
# printed, and the network is not touched, when all checks pass.
set -euo pipefail

static_busybox() {
  local file
  file=$(command -v busybox) && ! ldd "$file" >/dev/null 2>&1
}
static_libc() { [ -e /usr/lib/x86_64-linux-gnu/libc.a ]; }

missing=()
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

need busybox-static static_busybox
need gcc command -v gcc
need libc6-dev static_libc
need make command -v make
need python3 command -v python3
need gawk command -v awk
need tar command -v tar
need gzip command -v gzip
need file command -v file
need attr command -v setfattr
need procps command -v ps
need stress-ng command -v stress-ng
# Clients of local sockets.
need openssh-client command -v ssh-agent
need dbus-daemon command -v dbus-daemon
need dbus-bin command -v dbus-send
need bsdutils command -v logger
need tmux command -v tmux

command -v swift >/dev/null || {
  echo "apus: Swift 6.3 is needed and not in PATH (https://www.swift.org/install)" >&2
  exit 1
}

if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "apus: please install: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  echo "installing ${missing[*]}"
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
