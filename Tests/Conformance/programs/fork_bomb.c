// A fork bomb under RLIMIT_NPROC: bounded, cleaned up after, and the system goes on.
#include "../conformance.h"
#include <sys/resource.h>

int main(void) {
  section("bounded by RLIMIT_NPROC");
  if (geteuid() != 0) {
    line("not root");
    return 0;
  }
  int p[2];
  MUST(pipe(p));
  pid_t child = CHILD({
    struct rlimit r = {40, 40};
    MUST(setrlimit(RLIMIT_NPROC, &r));
    MUST(setgid(61234));
    MUST(setuid(61234));
    setpgid(0, 0);
    close(p[0]);
    // Everybody forks until it fails, then waits for the end.
    for (;;) {
      pid_t c = fork();
      if (c < 0) {
        char e = errno == EAGAIN ? 'e' : 'x';
        write(p[1], &e, 1);
        close(p[1]);
        for (;;) pause();
      }
    }
  });
  setpgid(child, child);
  close(p[1]);
  char b[1000];
  int total = 0, wrong = 0, n;
  // Each of the 40 reports once.
  while (total < 40 && (n = read(p[0], b, 40 - total)) > 0) {
    for (int i = 0; i < n; i++) wrong += b[i] != 'e';
    total += n;
  }
  EQUAL(total, 40);
  EQUAL(wrong, 0);
  OK(kill(-child, SIGKILL));
  EQUAL(outcome(child), SIGNALLED(SIGKILL));
  EQUAL(read(p[0], b, 1), 0);
  section("afterwards");
  EQUAL(outcome(CHILD(_exit(3))), 3);
  // A thousand processes in a row leave nothing behind.
  int bad = 0;
  for (int i = 0; i < 1000; i++) bad += outcome(CHILD(_exit(i & 63))) != (i & 63);
  EQUAL(bad, 0);
  FAILS(waitpid(-1, NULL, 0), ECHILD);
  return conformance_end();
}
