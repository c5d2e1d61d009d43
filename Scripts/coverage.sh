#!/usr/bin/env bash
# Writes Documentation/coverage.md from the kernel's own system-call table (Sources/coverage prints it on the host);
# `--check` only tells whether the file is current.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build Documentation
Scripts/quietly.sh build/coverage.log swift build --product apus-coverage
"$(swift build --show-bin-path)/apus-coverage" >build/coverage.md
if [ "${1:-}" = --check ]; then
  if ! cmp -s build/coverage.md Documentation/coverage.md; then
    echo "Documentation/coverage.md is not current: run make coverage" >&2
    exit 1
  fi
else
  cp build/coverage.md Documentation/coverage.md
fi
