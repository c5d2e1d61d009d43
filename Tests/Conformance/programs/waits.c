// Waiting for children at the edges: what a zombie cannot do, stops that are over, whose children they are, and what a
// parent is charged for.
#include "../conformance.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef __WNOTHREAD
#define __WNOTHREAD 0x20000000
#endif

static siginfo_t info;

// A child that has ended, and is not yet waited for.
static pid_t zombie(void) {
  pid_t child = CHILD(_exit(5));
  MUST(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
  return child;
}

static void zombies(void) {
  section("a zombie neither stops nor continues");
  pid_t child = zombie();
  FAILS(waitid(P_PID, child, &info, WSTOPPED), ECHILD);
  FAILS(waitid(P_PID, child, &info, WCONTINUED), ECHILD);
  FAILS(waitid(P_ALL, 0, &info, WSTOPPED | WCONTINUED | WNOHANG), ECHILD);
  OK(waitid(P_PID, child, &info, WEXITED | WSTOPPED));
  EQUAL(info.si_status, 5);
  FAILS(waitid(P_PID, child, &info, WEXITED), ECHILD);
}

static void stops(void) {
  section("a stop that is over is not reported");
  pid_t child = CHILD(for (;;) pause());
  MUST(kill(child, SIGSTOP));
  OK(waitid(P_PID, child, &info, WSTOPPED | WNOWAIT));
  EQUAL(info.si_code, CLD_STOPPED);
  MUST(kill(child, SIGCONT));
  OK(waitid(P_PID, child, &info, WCONTINUED | WNOWAIT));
  EQUAL(info.si_code, CLD_CONTINUED);
  info.si_pid = 1;
  OK(waitid(P_PID, child, &info, WSTOPPED | WNOHANG));
  EQUAL(info.si_pid, 0);
  int status;
  EQUAL(waitpid(child, &status, WCONTINUED), child);
  CHECK(WIFCONTINUED(status));
  EQUAL(waitpid(child, &status, WCONTINUED | WUNTRACED | WNOHANG), 0);
  MUST(kill(child, SIGKILL));
  EQUAL(outcome(child), SIGNALLED(SIGKILL));
}

static pid_t made_by_thread;
static int seen_by_maker;
static void *maker(void *unused) {
  made_by_thread = CHILD(pause());
  int status;
  seen_by_maker = waitpid(made_by_thread, &status, __WNOTHREAD | WNOHANG);
  return NULL;
}

static void threads(void) {
  section("__WNOTHREAD: a thread's own children");
  int status;
  pid_t mine = CHILD(pause());
  pthread_t thread;
  MUST(-pthread_create(&thread, NULL, maker, NULL));
  UNTIL(made_by_thread > 0 && seen_by_maker == 0);
  EQUAL(waitpid(mine, &status, __WNOTHREAD | WNOHANG), 0);
  pthread_join(thread, NULL);
  EQUAL(seen_by_maker, 0);
  // The children of a thread that has ended belong to another one.
  UNTIL(waitpid(made_by_thread, &status, __WNOTHREAD | WNOHANG) == 0);
  EQUAL(waitpid(made_by_thread, &status, __WNOTHREAD | WNOHANG), 0);
  MUST(kill(mine, SIGKILL));
  MUST(kill(made_by_thread, SIGKILL));
  EQUAL(outcome(mine), SIGNALLED(SIGKILL));
  EQUAL(outcome(made_by_thread), SIGNALLED(SIGKILL));
}

static pthread_barrier_t barrier;
static int others_error;
static void *stranger(void *child) {
  int status;
  others_error = waitpid(*(pid_t *)child, &status, __WNOTHREAD | WNOHANG) < 0 ? errno : 0;
  return NULL;
}

static void strangers(void) {
  section("__WNOTHREAD: not another thread's children");
  pid_t child = CHILD(pause());
  pthread_t thread;
  MUST(-pthread_create(&thread, NULL, stranger, &child));
  pthread_join(thread, NULL);
  EQUAL(others_error, ECHILD);
  MUST(kill(child, SIGKILL));
  EQUAL(outcome(child), SIGNALLED(SIGKILL));
}

static void descriptors(void) {
  section("pidfd that does not block");
  pid_t child = CHILD(pause());
  int blocking = MUST(syscall(SYS_pidfd_open, child, 0));
  int fd = MUST(syscall(SYS_pidfd_open, child, O_NONBLOCK));
  FAILS(waitid(P_PIDFD, fd, &info, WEXITED), EAGAIN);
  OK(waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG));
  OK(waitid(P_PIDFD, blocking, &info, WEXITED | WNOHANG));
  MUST(kill(child, SIGKILL));
  OK(waitid(P_PIDFD, blocking, &info, WEXITED | WNOWAIT));
  OK(waitid(P_PIDFD, fd, &info, WEXITED));
  EQUAL(info.si_status, SIGKILL);
  FAILS(waitid(P_PIDFD, fd, &info, WEXITED), ECHILD);
  FAILS(waitid(P_PIDFD, blocking, &info, WEXITED | WNOHANG), ECHILD);
}

static void burn_ms(long ms) {
  int64_t end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + ms * 1000000;
  while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end) {}
}
static int64_t children_ns(void) {
  struct rusage usage;
  MUST(getrusage(RUSAGE_CHILDREN, &usage));
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
}

static void accounting(void) {
  section("children that are waited for are charged, others are not");
  int64_t before = children_ns();
  signal(SIGCHLD, SIG_IGN);
  pid_t child = CHILD(burn_ms(60));
  EQUAL(waitpid(child, NULL, 0), -1);
  CHECK(children_ns() - before < 50000000);
  signal(SIGCHLD, SIG_DFL);
  child = CHILD(burn_ms(60));
  EQUAL(outcome(child), 0);
  CHECK(children_ns() - before >= 50000000);
}

static void limits(void) {
  section("what a child inherits");
  // The limit counts the child's own time.
  pid_t child = CHILD({
    signal(SIGXCPU, SIG_IGN);
    struct rlimit limit = {0, 1};
    MUST(setrlimit(RLIMIT_CPU, &limit));
    _exit(outcome(CHILD(for (;;) {})) == SIGNALLED(SIGKILL) ? 0 : 1);
  });
  EQUAL(outcome(child), 0);
  child = CHILD({
    EQUAL(prctl(PR_GET_TIMERSLACK), 50000);
    OK(prctl(PR_SET_TIMERSLACK, 7000));
    EQUAL(outcome(CHILD({
      EQUAL(prctl(PR_GET_TIMERSLACK), 7000);
      OK(prctl(PR_SET_TIMERSLACK, 9000));
      OK(prctl(PR_SET_TIMERSLACK, 0));
      EQUAL(prctl(PR_GET_TIMERSLACK), 7000);
      _exit(checks_failed);
    })), 0);
    OK(prctl(PR_SET_TIMERSLACK, 0));
    EQUAL(prctl(PR_GET_TIMERSLACK), 50000);
    _exit(checks_failed);
  });
  EQUAL(outcome(child), 0);
}

int main(void) {
  zombies();
  stops();
  threads();
  strangers();
  descriptors();
  accounting();
  limits();
  return conformance_end();
}
