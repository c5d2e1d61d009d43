// Calls that make an object for each of their entries, by an ordinary user in little memory: poll(2) of many descriptors by many
// processes, and texts of /proc that many open files hold. They fail or are killed; the kernel and root's program go on.
//
// run: --memory 24M --user 0 -- @ poll
// run: --cpus 1 --memory 16M --user 0 -- @ poll
// run: --memory 16M --user 0 -- @ texts
// run: --memory 24M --cpus 4 --user 0 --append slob -- @ texts
#include "attack.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

enum { FILES = 4096, PROCESSES = 60 };

static void poll_much(void) {
  become_user(1000);
  int event = eventfd(0, EFD_CLOEXEC);
  static struct pollfd entries[FILES];
  for (int i = 0; i < FILES; i++) entries[i] = (struct pollfd){event, POLLIN, 0};
  for (int i = 0; i < PROCESSES; i++)
    if (fork() == 0) {
      poll(entries, FILES, 500);
      _exit(0);
    }
  while (wait(NULL) > 0) continue;
  _exit(0);
}

static void read_much(void) {
  become_user(1000);
  static int files[FILES];
  int count = 0;
  while (count < FILES && (files[count] = open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) >= 0) count++;
  char byte;
  for (int i = 0; i < count; i++)
    if (read(files[i], &byte, 1) < 0 && errno != ENOMEM) _exit(1);
  _exit(0);
}

int main(int count, char **arguments) {
  struct rlimit limit = {FILES + 64, FILES + 64};
  setrlimit(RLIMIT_NOFILE, &limit);
  bool polls = count > 1 && !strcmp(arguments[1], "poll");
  int status = outcome(in_child(polls ? poll_much : read_much));
  check(status == 0 || status == SIGNALLED(SIGKILL), "the user's program has ended with status %d", status);
  int ends[2];
  char byte = 0;
  check(pipe(ends) == 0 && write(ends[1], "x", 1) == 1 && read(ends[0], &byte, 1) == 1 && byte == 'x', "root's program goes on");
  return attack_end();
}
