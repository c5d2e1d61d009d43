// Signals without end: an ordinary user queues real-time signals at many of its processes, to the limits, in little memory. What it
// queues is bounded for all its processes together and charged; sigqueue(3) gets EAGAIN, signals of kill(2) arrive, also when
// the user holds all that it may of the kernel's memory, and the end of the processes gives everything back.
// The control: root, with a limit of its own, queues what no ordinary user may.
//
// run: --cpus 2 --user 0 --memory 64M -- @
// expect: ok 64 processes .*
// expect: ok with all memory that a user may have .*
#include "attack.h"

#include <sys/resource.h>
#include <sys/time.h>

// SIGCHLD and SIGUSR1 wait in queues as well.
enum { PROCESSES = 64, STANDARD = 2 };
static sigset_t all;

static long queued(void) {
  char text[8192] = "";
  int file = MUST(open("/proc/self/status", O_RDONLY));
  MUST(read(file, text, sizeof text - 1));
  close(file);
  return atol(strstr(text, "SigQ:") + 5);
}

static long fill(pid_t target) {
  long sent = 0;
  while (sigqueue(target, SIGRTMIN + 1, (union sigval){.sival_int = 1}) == 0) sent++;
  if (errno != EAGAIN) say("NOT OK the queue ends with %s", strerrorname_np(errno)), attack_failures++;
  return sent;
}

static void sleeper(void) {
  for (;;) pause();
}

static void end(pid_t *children, int count) {
  for (int i = 0; i < count; i++) MUST(kill(children[i], SIGKILL));
  for (int i = 0; i < count; i++) outcome(children[i]);
}

// The limit is one for all processes of the user.
static void many_processes(void) {
  become_user(1000);
  static pid_t children[PROCESSES];
  struct rlimit limit;
  MUST(getrlimit(RLIMIT_SIGPENDING, &limit));
  int count = 0;
  while (count < PROCESSES && (children[count] = fork()) >= 0) {
    if (children[count] == 0) sleeper();
    count++;
  }
  long sent = 0;
  for (int round = 0; round < 4; round++)
    for (int i = 0; i < count; i++) sent += fill(children[i]);
  check(sent > 0 && sent <= (long)limit.rlim_cur && sent <= queued() && queued() <= sent + STANDARD, "%d processes are sent %ld signals, the limit is %ld", count, sent,
    (long)limit.rlim_cur);
  end(children, count);
  check(queued() <= STANDARD, "the end of the processes leaves none queued");
}

// A limit that is no limit: memory is one.
static void much_memory(void) {
  MUST(setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){1 << 30, 1 << 30}));
  become_user(1001);
  pid_t child = MUST(fork());
  if (child == 0) sleeper();
  long sent = fill(child);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 2);
  siginfo_t info;
  // The kernel's memory is exhausted for this user, and yet signals arrive.
  bool arrives = kill(getpid(), SIGRTMIN + 2) == 0 && kill(getpid(), SIGUSR1) == 0;
  arrives &= sigtimedwait(&set, &info, &(struct timespec){0}) == SIGRTMIN + 2 && info.si_code == SI_USER;
  // Before that nothing can be said either.
  MUST(kill(child, SIGKILL));
  outcome(child);
  check(arrives && sent > 1000 && sent * 64 < 16 << 20, "with all memory that a user may have for %ld signals those of kill arrive", sent);
  check(queued() <= STANDARD && sigqueue(getpid(), SIGRTMIN + 2, (union sigval){0}) == 0, "the end of the process makes room");
}

int main(void) {
  sigfillset(&all);
  MUST(sigprocmask(SIG_BLOCK, &all, NULL));
  for (int i = 0; i < 2; i++) {
    pid_t child = MUST(fork());
    if (child == 0) {
      (i == 0 ? many_processes : much_memory)();
      _exit(attack_failures != 0);
    }
    check(outcome(child) == 0, "part %d", i);
  }
  MUST(setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){200000, 200000}));
  pid_t child = MUST(fork());
  if (child == 0) sleeper();
  long sent = 0;
  while (sent < 100000 && sigqueue(child, SIGRTMIN + 1, (union sigval){0}) == 0) sent++;
  check(sent == 100000, "control: root queues %ld signals", sent);
  end(&child, 1);
  return attack_end();
}
