#!/usr/bin/env bash
# attacks.sh [NAME…]: runs the attacks of Tests/Attacks as the directives on top of each say (Tests/Attacks/README.md). A NAME
# selects attacks by their beginning.
#
#   APUS=build/apus  the program under test
#   TIMEOUT=300      seconds after which a run counts as hung, on a busy host too
#   BUDGET=3000      seconds for everything; what does not fit counts as failed
#   RESULT=FILE      where `passed failed skipped` goes
set -u
cd "$(dirname "$0")/.."
export APUS=${APUS:-$PWD/build/apus}
limit=${TIMEOUT:-300}
budget=${BUDGET:-3000}
out=$PWD/build/attacks
programs=$out/programs
mkdir -p "$programs"
passed=0 failed=0 skipped=0
# What no run of the kernel may say, unless the run is a control.
bug='.*(kernel bug|[Pp]anic).*'

report() { # RESULT NAME DETAIL
  printf '  %-5s %-34s %s\n' "$1" "$2" "${3:-}"
}

wanted() { # NAME SELECTION…
  local name=$1 one
  shift
  [ $# -eq 0 ] && return 0
  for one; do [[ $name == "$one"* ]] && return 0; done
  return 1
}

# prepare SOURCE NAME: the program, where every user may read it.
prepare() {
  local source=$1 program=$programs/$2
  case $source in
    *.c)
      [ -z "$(find "$source" Tests/Attacks/*.h -newer "$program" 2>&1)" ] && return 0
      gcc -Wall -Wno-unused-function -Wno-unused-result -O1 -static -pthread -ITests/Attacks -ISources/Monitor/CUserMachine \
        "$source" -o "$program"
      ;;
    *) install -m 755 "$source" "$program" ;;
  esac
}

# directives SOURCE: lines `KIND TEXT` of its first comment lines.
directives() {
  sed -nE '/^(\/\/|#)/!{/^$/!q}; s/^(\/\/|#) (run|control|native|host|expect|reject|status|needs): ?(.*)$/\2 \3/p' "$1"
}

# execute KIND NAME WORD…: one run; its output to $log, its exit status to $status.
execute() {
  local kind=$1 name=$2 scratch=$out/$2.scratch words=() word sandbox=1
  shift 2
  case $kind in native | host) sandbox= ;; esac
  rm -rf "$scratch"
  mkdir -m 777 "$scratch"
  for word; do
    word=${word//%/$scratch}
    if [ "$word" != @ ]; then words+=("$word")
    elif [ -n "$sandbox" ]; then words+=("/mnt/$name")
    else words+=("$programs/$name"); fi
  done
  if [ -n "$sandbox" ]; then
    words=("$APUS" run --timeout "$limit" --bind "$programs:/mnt:ro" --cwd / "${words[@]}")
  fi
  SCRATCH=$scratch timeout -k 5 $((limit + 30)) "${words[@]}" >"$log" 2>&1 </dev/null
  status=$?
  rm -rf "$scratch"
}

# judge KIND: sets `why` to the first expectation of $expected (lines `KIND TEXT`) that does not hold.
judge() {
  local want=0 kind text
  why=
  while read -r kind text; do
    case $kind in
      status) want=$text ;;
      expect) grep -qxaE -- "$text" "$log" || why=${why:-"no line matches: $text"} ;;
      reject) ! grep -qxaE -- "$text" "$log" || why=${why:-"a line matches: $text"} ;;
    esac
  done <<<"$expected"
  if [ "$1" = run ] && grep -qxaE -- "$bug" "$log"; then why=${why:-"the kernel reports a bug"}; fi
  [ "$status" = "$want" ] || why=${why:-"status $status, expected $want"}
}

# attack SOURCE NAME
attack() {
  local source=$1 name=$2 list runs=0 i next common="" expected kind text why log status title ok=1
  if ! prepare "$source" "$name"; then
    report FAIL "$name" "does not compile"
    failed=$((failed + 1))
    return
  fi
  mapfile -t list < <(directives "$source")
  for ((i = 0; i < ${#list[@]}; i++)); do
    read -r kind text <<<"${list[i]}"
    case $kind in
      needs)
        if ! bash -c "$text" >/dev/null 2>&1; then
          report skip "$name" "needs: $text"
          skipped=$((skipped + 1))
          return
        fi
        ;;
      expect | reject | status) common+=${list[i]}$'\n' ;;
      *)
        runs=$((runs + 1))
        title="$kind: $text"
        # What follows a run, up to the next, is that run's own.
        expected=$common
        for ((next = i + 1; next < ${#list[@]}; next++)); do
          case ${list[next]} in
            expect* | reject* | status*) expected+=${list[next]}$'\n' ;;
            *) break ;;
          esac
        done
        i=$((next - 1))
        log=$out/$name.$runs.log
        if [ "$SECONDS" -gt "$budget" ]; then
          why="the time for everything is over"
          : >"$log"
        else
          read -ra words <<<"$text"
          execute "$kind" "$name" "${words[@]}"
          judge "$kind"
        fi
        if [ -z "$why" ]; then
          passed=$((passed + 1))
        else
          ok=0
          failed=$((failed + 1))
          report FAIL "$name" "$title"
          printf '        %s\n' "$why"
          tail -n "${LOG_LINES:-12}" "$log" | cut -c 1-200 | sed 's/^/        | /'
        fi
        ;;
    esac
  done
  if [ "$runs" -eq 0 ]; then
    report FAIL "$name" "has no run"
    failed=$((failed + 1))
  elif [ "$ok" = 1 ]; then
    report pass "$name" "$runs runs"
  fi
}

# A kernel that does not start makes every run wait for its time limit: find out once.
if ! timeout -k 5 130 "$APUS" run --timeout 120 -- busybox true </dev/null >"$out/smoke" 2>&1; then
  echo "  FAIL: apus run -- busybox true"
  head -n 20 "$out/smoke"
  [ -z "${RESULT:-}" ] || echo "0 1 0" >"$RESULT"
  exit 1
fi

for source in Tests/Attacks/*.c Tests/Attacks/*.sh Tests/Attacks/*.py; do
  [ -e "$source" ] || continue
  name=$(basename "$source")
  name=${name%.*}
  wanted "$name" "$@" || continue
  attack "$source" "$name"
done
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ -z "${RESULT:-}" ] || echo "$passed $failed $skipped" >"$RESULT"
[ "$failed" -eq 0 ]
