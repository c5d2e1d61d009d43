// See console_host.h.

#define _GNU_SOURCE
#include "console_host.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

int console_host_wake(void) {
  int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return wake < 0 ? -errno : wake;
}

static struct termios saved;
static volatile sig_atomic_t raw_fd = -1;
static volatile sig_atomic_t wake_fd = -1;

static void on_change(int signal) {
  (void)signal;
  int error = errno;
  uint64_t one = 1;
  if (wake_fd >= 0) (void)!write(wake_fd, &one, sizeof one);
  errno = error;
}

int console_host_watch_signals(int wake) {
  wake_fd = wake;
  struct sigaction action = {.sa_handler = on_change, .sa_flags = SA_RESTART};
  sigfillset(&action.sa_mask);
  if (sigaction(SIGWINCH, &action, NULL) < 0 || sigaction(SIGCONT, &action, NULL) < 0) return -errno;
  return 0;
}

void console_host_restore(void) {
  int fd = raw_fd;
  if (fd < 0) return;
  raw_fd = -1;
  // A background process would be stopped with SIGTTOU; it must not touch the terminal of others then anyway.
  sigset_t block, old;
  sigemptyset(&block);
  sigaddset(&block, SIGTTOU);
  pthread_sigmask(SIG_BLOCK, &block, &old);
  if (console_host_is_foreground(fd)) tcsetattr(fd, TCSADRAIN, &saved);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

// Installed with SA_RESETHAND: the signal raised again ends the process with the right wait status.
static void on_end(int signal) {
  console_host_restore();
  raise(signal);
}

int console_host_is_foreground(int fd) {
  pid_t group = tcgetpgrp(fd);
  return group < 0 || group == getpgrp();
}

int console_host_raw(int fd) {
  if (!console_host_is_foreground(fd)) return -EAGAIN;
  static int prepared;
  if (!prepared) {
    if (tcgetattr(fd, &saved) < 0) return -errno;
    prepared = 1;
    atexit(console_host_restore);
    static const int ends[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGABRT};
    for (unsigned i = 0; i < sizeof ends / sizeof ends[0]; i++) {
      struct sigaction old, action = {.sa_handler = on_end, .sa_flags = SA_RESETHAND | SA_NODEFER};
      sigemptyset(&action.sa_mask);
      // A disposition that is not the default (nohup) is kept.
      if (sigaction(ends[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL) sigaction(ends[i], &action, NULL);
    }
  }
  struct termios settings = saved;
  cfmakeraw(&settings);
  settings.c_cc[VMIN] = 1;
  settings.c_cc[VTIME] = 0;
  raw_fd = fd;
  return tcsetattr(fd, TCSADRAIN, &settings) < 0 ? -errno : 0;
}

int console_host_reopen(int fd, int access_mode) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int copy = open(path, access_mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  return copy < 0 ? -errno : copy;
}

int console_host_window(int fd, uint16_t window[4]) {
  struct winsize size;
  if (ioctl(fd, TIOCGWINSZ, &size) < 0) return -errno;
  window[0] = size.ws_row;
  window[1] = size.ws_col;
  window[2] = size.ws_xpixel;
  window[3] = size.ws_ypixel;
  return 0;
}
