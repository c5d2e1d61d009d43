#!/usr/bin/env bash
# Lists the calls of the kernel's table that no conformance program mentions, by their names in Documentation/coverage.md.
# A call made only through libc under another name counts when the program mentions that name (the list below).
set -u
cd "$(dirname "$0")/.."

# call=the word to look for in the programs
declare -A through=([rt_sigaction]=sigaction [rt_sigprocmask]=sigprocmask [rt_sigpending]=sigpending
  [rt_sigsuspend]=sigsuspend [rt_sigtimedwait]=sigtimedwait [rt_sigqueueinfo]=sigqueue [rt_sigreturn]=sigaction
  [exit_group]=_exit [newfstatat]=fstatat [getdents]=getdents64 [pread64]=pread [pwrite64]=pwrite [prlimit64]=prlimit
  [epoll_wait_old]=epoll_wait [pselect6]=pselect [fadvise64]=posix_fadvise [umount2]=umount [gettid]=gettid
  [set_robust_list]=robust [set_tid_address]=set_tid_address [timer_settime]=timer_settime [eventfd2]=eventfd
  [signalfd4]=signalfd [utime]=SYS_utime [reboot]=- [restart_syscall]=nanosleep [munlockall]=munlockall [rseq]=-
  [brk]=sbrk [setxattr]=setxattr [lstat]=lstat [_sysctl]=- [tkill]=SYS_tkill [clone]='clone(' [vfork]='vfork(')

programs=(Tests/Conformance/programs/*.c Tests/Conformance/conformance.h)
grep -E '^\| [0-9]+ \| `[a-z0-9_]+` \| (full|partial)' Documentation/coverage.md | sed -E 's/^[^`]*`([a-z0-9_]+)`.*/\1/' |
  while read -r call; do
    word=${through[$call]:-$call}
    [ "$word" = - ] && continue
    grep -qF -- "$word" "${programs[@]}" || echo "$call"
  done
