// Fork bombs and thread bombs: --pids-limit bounds processes and threads together, fork and clone fail with EAGAIN, threads that
// have ended count no longer, and another user of the sandbox still gets its share.
//
// run: --pids-limit 200 --memory 128M --user 0 -- @ fork
// expect: ok fork fails with EAGAIN after (1[5-9][0-9]|200) processes
// run: --pids-limit 200 --memory 128M --user 0 --cpus 2 -- @ thread
// expect: ok pthread_create fails with EAGAIN after (1[5-9][0-9]|200) threads
// run: --pids-limit 200 --memory 128M --user 0 -- @ share
// control: --pids-limit 800 --memory 256M --user 0 -- @ fork
// expect: ok fork fails with EAGAIN after (7[5-9][0-9]|800) processes
#include "attack.h"

static int fork_until_it_fails(int *reason) {
  int made = 0;
  for (;;) {
    pid_t child = fork();
    if (child == 0) {
      for (;;) pause();
    }
    if (child < 0) {
      *reason = errno;
      return made;
    }
    made++;
  }
}

static void end_children(void) {
  signal(SIGTERM, SIG_IGN);
  kill(-1, SIGKILL);
  while (wait(NULL) > 0 || errno == EINTR) {}
}

static pthread_mutex_t hold = PTHREAD_MUTEX_INITIALIZER;
static void *wait_for_end(void *unused) {
  pthread_mutex_lock(&hold);
  pthread_mutex_unlock(&hold);
  return unused;
}
static int threads_until_it_fails(int *reason) {
  static pthread_t threads[20000];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 16384);
  int made = 0;
  pthread_mutex_lock(&hold);
  while ((*reason = pthread_create(&threads[made], &attributes, wait_for_end, NULL)) == 0) made++;
  pthread_mutex_unlock(&hold);
  for (int i = 0; i < made; i++) pthread_join(threads[i], NULL);
  return made;
}

int main(int argc, char **argv) {
  MUST(argc - 2);
  int reason = 0;
  if (!strcmp(argv[1], "thread")) {
    for (int round = 0; round < 3; round++) {
      int made = threads_until_it_fails(&reason);
      check(reason == EAGAIN && made > 90, "pthread_create fails with %s after %d threads", strerrorname_np(reason), made);
    }
    return attack_end();
  }
  if (!strcmp(argv[1], "share")) {
    // A bomb by an ordinary user leaves room for others.
    pid_t bomb = MUST(fork());
    if (bomb == 0) {
      become_user(1000);
      int made = fork_until_it_fails(&reason);
      check(reason == EAGAIN && made <= 100, "a user's bomb ends with %s after %d processes", strerrorname_np(reason), made);
      end_children();
      _exit(attack_failures);
    }
    check(outcome(bomb) == 0, "the bomb of a user is over");
    pid_t other = MUST(fork());
    if (other == 0) _exit(5);
    check(outcome(other) == 5, "another user can make processes");
    return attack_end();
  }
  for (int round = 0; round < 3; round++) {
    int made = fork_until_it_fails(&reason);
    end_children();
    check(reason == EAGAIN || reason == ENOMEM, "fork fails with %s after %d processes", strerrorname_np(reason), made);
    pid_t child = fork();
    if (child == 0) _exit(6);
    check(child > 0 && outcome(child) == 6, "and works again when they have ended");
  }
  return attack_end();
}
