// The harness of the conformance programs.
//
// A program prints one line for each check and nothing that differs between two runs: no addresses, process numbers or
// times. It is run natively and in Apus, and passes when both runs end with status 0 and the same lines. A check that
// fails says what it got, so that a difference explains itself.
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int checks_made, checks_failed;
// Within APUS_ONLY: only failures are printed.
static bool checks_quiet;

// Lines go out unbuffered: a child that is killed, or a fork between two of them, neither loses nor doubles any.
static inline void line(const char *format, ...) {
  char text[1024];
  va_list list;
  va_start(list, format);
  int n = vsnprintf(text, sizeof text - 1, format, list);
  va_end(list);
  if (n > (int)sizeof text - 2) n = sizeof text - 2;
  text[n++] = '\n';
  if (write(STDOUT_FILENO, text, n) != n) _exit(99);
}

static inline void section(const char *name) { line("== %s", name); }

static inline bool check_true(bool ok, const char *what, int at) {
  checks_made += !checks_quiet;
  if (ok) {
    if (!checks_quiet) line("ok %s", what);
  } else {
    checks_failed++;
    line("NOT OK %s (line %d, errno %s)", what, at, strerrorname_np(errno));
  }
  return ok;
}

static inline bool check_equal(long long actual, long long expected, const char *what, const char *value, int at) {
  checks_made += !checks_quiet;
  if (actual == expected) {
    if (!checks_quiet) line("ok %s = %s", what, value);
    return true;
  }
  int error = errno;
  checks_failed++;
  line("NOT OK %s = %s: got %lld, not %lld (line %d, errno %s)", what, value, actual, expected, at, strerrorname_np(error));
  return false;
}

static inline bool check_error(long long result, int error, int expected, const char *what, int at) {
  checks_made += !checks_quiet;
  if (result == -1 && error == expected) {
    if (!checks_quiet) line("ok %s fails with %s", what, strerrorname_np(expected));
    return true;
  }
  checks_failed++;
  const char *name = strerrorname_np(error);
  line("NOT OK %s fails with %s: returned %lld, errno %s (line %d)", what, strerrorname_np(expected), result,
       name ? name : "0", at);
  return false;
}

// The condition holds.
#define CHECK(condition) check_true((condition), #condition, __LINE__)
// The two integers are the same.
#define EQUAL(actual, expected) check_equal((long long)(actual), (long long)(expected), #actual, #expected, __LINE__)
// The call succeeds (returns 0).
#define OK(call) check_equal((long long)(call), 0, #call, "0", __LINE__)
// The call returns -1 and sets errno to this value.
#define FAILS(call, error) \
  ({ errno = 0; long long result_ = (long long)(call); check_error(result_, errno, error, #call, __LINE__); })
// Checks of what a native run may not do, because it would change the host, or cannot, because the host lacks it. They
// run in Apus only; both runs say the same when they hold.
#define APUS_ONLY(name, ...)                                  \
  do {                                                        \
    if (access("/proc/apus", F_OK) < 0) {                     \
      fprintf(stderr, "skipped natively: %s\n", name);        \
      line("ok %s", name);                                    \
    } else {                                                  \
      int before_ = checks_failed;                            \
      checks_quiet = true;                                    \
      __VA_ARGS__;                                            \
      checks_quiet = false;                                   \
      if (checks_failed == before_) line("ok %s", name);      \
    }                                                         \
  } while (0)
// Set-up that has to work for the rest to mean anything: the number returned, or the end of the program.
#define MUST(call)                                                                          \
  ({                                                                                        \
    errno = 0;                                                                              \
    __typeof__(call) result_ = (call);                                                      \
    if ((long long)result_ == -1) {                                                         \
      line("FATAL %s: %s (line %d)", #call, strerrorname_np(errno) ?: "?", __LINE__);       \
      _exit(98);                                                                            \
    }                                                                                       \
    result_;                                                                                \
  })

// Runs the block in a child process; the child's exit status is the block's value.
#define CHILD(...)                 \
  ({                               \
    pid_t child_ = MUST(fork());   \
    if (child_ == 0) {             \
      checks_failed = 0;           \
      __VA_ARGS__;                 \
      _exit(0);                    \
    }                              \
    child_;                        \
  })

// Waits for a child: its exit status, or 1000 + the signal that ended it.
static inline int outcome(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return -errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}
#define SIGNALLED(number) (1000 + (number))

static inline void sleep_ms(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) < 0 && errno == EINTR) {}
}

static inline int64_t now_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// Waits until the condition holds. After a minute it is for the check behind to say what is missing.
#define UNTIL(condition) \
  for (int64_t end_ = now_ns(CLOCK_MONOTONIC) + 60000000000; !(condition) && now_ns(CLOCK_MONOTONIC) < end_;) sleep_ms(1)

// Whether a thread, by its stat(5) file, neither runs nor waits for a moment only: it sleeps, has stopped, or has ended.
static inline bool rests(const char *stat) {
  char text[400] = {0};
  int file = open(stat, O_RDONLY | O_CLOEXEC);
  if (file < 0) return true;
  ssize_t n = read(file, text, sizeof text - 1);
  close(file);
  const char *name_end = n > 0 ? strrchr(text, ')') : NULL;
  return !name_end || strchr("STtZX", name_end[2]);
}

// Whether the leader of a process rests, now and a moment later.
static inline bool at_rest(pid_t process) {
  char path[40];
  snprintf(path, sizeof path, "/proc/%d/stat", process);
  return rests(path) && (sleep_ms(5), rests(path));
}

// Interrupts again and again, so that one time is after a call has begun to wait; 0 ends it.
static inline void alarm_every_ms(long ms) {
  struct itimerval time = {{0, ms * 1000}, {0, ms * 1000}};
  MUST(setitimer(ITIMER_REAL, &time, NULL));
}

// A fresh directory, made current; conformance_end removes it. It is in the directory that the environment names, so that
// programs about files run on every kind of file system.
static char work_directory[PATH_MAX];
static inline void enter_work_directory(void) {
  const char *place = getenv("CONFORMANCE_DIRECTORY");
  snprintf(work_directory, sizeof work_directory, "%s/conformance.XXXXXX", place ? place : "/tmp");
  if (!mkdtemp(work_directory) || chdir(work_directory) < 0) {
    line("FATAL no work directory: %s", strerrorname_np(errno));
    _exit(98);
  }
}

static inline int make_file(const char *path, const char *content) {
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return -1;
  ssize_t size = strlen(content);
  int ok = write(fd, content, size) == size;
  close(fd);
  return ok ? 0 : -1;
}

static inline int conformance_end(void) {
  if (work_directory[0]) {
    if (chdir("/") == 0) {
      pid_t child = fork();
      if (child == 0) {
        execlp("rm", "rm", "-rf", work_directory, NULL);
        _exit(127);
      }
      outcome(child);
    }
  }
  line("-- %d checks, %d failed", checks_made, checks_failed);
  return checks_failed != 0;
}

#endif
