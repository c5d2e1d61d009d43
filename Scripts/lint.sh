#!/usr/bin/env bash
# The checks that a reader would otherwise have to make: format, imports, unsafe code, numbers of programs, paths of the build
# machine.
# Prints one line for each check; the exit status is the number of checks that failed.
set -u
cd "$(dirname "$0")/.."
failed=0

check() {
  local title=$1 output
  shift
  if output=$("$@" 2>&1); then
    printf 'lint: %-28s ok\n' "$title"
  else
    printf 'lint: %-28s FAILED\n%s\n' "$title" "$output"
    failed=$((failed + 1))
  fi
}

# An import that the manifest does not declare is an arrow that the layer diagram does not show. The builds refuse it;
# this builds everything, tests included.
undeclared_imports() {
  swift build --build-tests --explicit-target-dependency-import-check error >build/imports.log 2>&1 ||
    { grep -E 'error:' build/imports.log | sort -u | head -n 20; return 1; }
}

machine_paths() {
  ! git ls-files -z | xargs -0 grep -nIE '(^|[^A-Za-z0-9_."}])/(home|root|work|tmp/hub)/[a-z]' -- 2>/dev/null | grep -vE '^(Tests/Conformance|Scripts/lint.sh)' | grep .
}

# Each system call that a filter names stands in a table of Documentation/security.md with its reason, and none else.
documented_calls() {
  local calls=Sources/Monitor/CUserMachine devices=Sources/Monitor/CMonitor
  diff <({
    grep -ohE 'SYS_[a-z0-9_]+' "$calls/confine.c" "$calls/filters.c" | sed 's/^SYS_//'
    grep -ohE '(ANY|ONLY)\([a-z0-9_]+' "$devices/confinement.c" | sed 's/.*(//' | grep -vx call
    echo clone3
  } | sort -u) <({
    sed -n '/^## Host calls/,/^## Doors/p' Documentation/security.md | grep '^| ' | cut -d '|' -f 2 | tr -d ' ' | tr ',' '\n' |
      grep -vx 'call\|-*'
    echo clone3
  } | sort -u)
}

# Arithmetic that traps on a number of a program: an argument of a system call beside + - * <<, or in a conversion that must fit.
# Such numbers are checked, clamped, or computed with wrapping or reporting operators; times are `Nanoseconds` from the start.
user_numbers() {
  local argument='frame\.(a[0-5]|u?int\([0-5]\))'
  ! { grep -rnE "$argument\)? (\+|-|\*|<<) |[^&](\+|-|\*|<<) $argument|[^a-z]-$argument" Sources/Kernel/SystemCalls
    grep -rnE '\bU?Int(8|16|32|64)?\((try UserMemory\.read\(|frame\.a[0-5]\))' Sources/Kernel/SystemCalls
    grep -rnE '[^&]\* (Timespec|Nanoseconds)\.second|[^&]\* 1_000_000(_000)?\b' Sources/Kernel/{SystemCalls,Process,FileSystem}
  } | grep .
}

shell_syntax() {
  local script status=0
  while IFS= read -r script; do bash -n "$script" || status=1; done < <(git ls-files '*.sh' .ci/run Tests/Conformance/shell)
  return $status
}

long_files() {
  git ls-files 'Sources/*.swift' 'Sources/*.c' 'Sources/*.S' | xargs -r wc -l | awk '$2 != "total" && $1 > 500 { print "lint: note: " $2 " has " $1 " lines (500 is the house rule)" }'
}

mkdir -p build
check "format" swift format lint --strict -r Package.swift Sources Tests Benchmarks/Package.swift Benchmarks/*/*.swift
check "unsafe code" Scripts/check-unsafe.sh
check "paths of this machine" machine_paths
check "numbers of programs" user_numbers
check "shell syntax" shell_syntax
check "host calls are documented" documented_calls
[ -n "${SKIP_IMPORTS:-}" ] || check "undeclared imports" undeclared_imports
long_files
exit "$failed"
