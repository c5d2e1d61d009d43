// Threads: creation, local storage, joining, exit of the group, exec from a thread, signals to threads.
#include "../conformance.h"
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/prctl.h>

static __thread int local = 7;
static _Atomic int counter, handled_in;
static pthread_barrier_t barrier;
static pthread_key_t key;

static void *body(void *argument) {
  long n = (long)argument;
  if (local != 7) return (void *)-1;
  local = n;
  pthread_setspecific(key, (void *)(n + 1));
  pthread_barrier_wait(&barrier);
  counter++;
  return local == n && getpid() != 0 ? (void *)(n * 2) : (void *)-1;
}
static void destroy(void *value) { counter += 100; }
static void *forever(void *unused) { for (;;) pause(); }
static void *spinning(void *unused) { for (;;) counter++; }
static void *leave(void *unused) { sleep_ms(20); exit(33); }
static void *leave_thread(void *unused) { sleep_ms(20); syscall(SYS_exit, 6); return NULL; }
static void *execute(void *unused) {
  execl("/proc/self/exe", "threads", "after-exec", NULL);
  _exit(1);
}
// Not by way of /proc/self, which is that of the leader.
static char program[PATH_MAX];
static void *execute_leaving(void *unused) {
  execl(program, "threads", "leave", "5", NULL);
  _exit(1);
}
static char proc_text[4096];
static const char *proc_of(pid_t pid, const char *file) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
  int fd = open(path, O_RDONLY);
  ssize_t n = fd < 0 ? -1 : read(fd, proc_text, sizeof proc_text - 1);
  if (fd >= 0) close(fd);
  proc_text[n < 0 ? 0 : n] = 0;
  return proc_text;
}
static char state_of(pid_t pid, const char *file) {
  const char *end = strrchr(proc_of(pid, file), ')');
  return end ? end[2] : '?';
}
static void *crash(void *unused) { *(volatile int *)0 = 1; return NULL; }
static void handler(int number) { handled_in = gettid(); }

static int thread_count(void) {
  DIR *d = opendir("/proc/self/task");
  int n = 0;
  for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
  if (d) closedir(d);
  return n;
}

// Who joins a thread learns of its end (CLONE_CHILD_CLEARTID) a moment before it has left the process.
static int threads_left(void) {
  int n = thread_count();
  for (int i = 0; i < 5000 && n > 1; i++, n = thread_count()) sleep_ms(1);
  return n;
}

static sem_t ping, pong;
static void *ponger(void *unused) {
  for (int i = 0; i < 1000; i++) sem_wait(&ping), sem_post(&pong);
  return NULL;
}

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int queue[16], head, tail, done;
static void *consumer(void *unused) {
  long sum = 0;
  for (;;) {
    pthread_mutex_lock(&m);
    while (head == tail && !done) pthread_cond_wait(&c, &m);
    if (head == tail) { pthread_mutex_unlock(&m); return (void *)sum; }
    sum += queue[tail++ & 15];
    pthread_cond_broadcast(&c);
    pthread_mutex_unlock(&m);
  }
}
static void *once_body(void *unused) { sched_yield(); return NULL; }
static void *cancelled(void *unused) { sleep(100); return NULL; }
static volatile bool may_leave;
static void *tid_of(void *tid) {
  *(pid_t *)tid = gettid();
  while (!may_leave) sleep_ms(1);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc > 2) syscall(SYS_exit, atoi(argv[2]));
  if (argc > 1) {
    EQUAL(thread_count(), 1);
    CHECK(gettid() == getpid());
    return checks_failed;
  }
  section("create and join");
  pthread_t t[20];
  pthread_key_create(&key, destroy);
  pthread_barrier_init(&barrier, NULL, 20);
  for (long i = 0; i < 20; i++) OK(pthread_create(&t[i], NULL, body, (void *)i));
  long sum = 0;
  for (int i = 0; i < 20; i++) {
    void *r;
    pthread_join(t[i], &r);
    sum += (long)r;
  }
  EQUAL(sum, 380);
  EQUAL(counter, 20 + 20 * 100);
  EQUAL(local, 7);
  EQUAL(threads_left(), 1);
  for (int i = 0; i < 500; i++) {
    pthread_create(&t[0], NULL, once_body, NULL);
    pthread_join(t[0], NULL);
  }
  EQUAL(threads_left(), 1);
  pthread_create(&t[0], NULL, forever, NULL);
  EQUAL(thread_count(), 2);
  OK(pthread_cancel(t[0]));
  OK(pthread_join(t[0], NULL));
  pthread_create(&t[0], NULL, cancelled, NULL);
  sleep_ms(10);
  pthread_cancel(t[0]);
  void *result;
  pthread_join(t[0], &result);
  CHECK(result == PTHREAD_CANCELED);

  section("semaphores and conditions");
  sem_init(&ping, 0, 0), sem_init(&pong, 0, 0);
  pthread_create(&t[0], NULL, ponger, NULL);
  for (int i = 0; i < 1000; i++) sem_post(&ping), sem_wait(&pong);
  OK(pthread_join(t[0], NULL));
  for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, consumer, NULL);
  for (int i = 1; i <= 2000; i++) {
    pthread_mutex_lock(&m);
    while (head - tail == 16) pthread_cond_wait(&c, &m);
    queue[head++ & 15] = i;
    pthread_cond_broadcast(&c);
    pthread_mutex_unlock(&m);
  }
  pthread_mutex_lock(&m), done = 1, pthread_cond_broadcast(&c), pthread_mutex_unlock(&m);
  sum = 0;
  for (int i = 0; i < 3; i++) {
    pthread_join(t[i], &result);
    sum += (long)result;
  }
  EQUAL(sum, 2001000);

  section("signals and threads");
  pid_t tid = 0;
  signal(SIGUSR1, handler);
  pthread_create(&t[0], NULL, tid_of, &tid);
  while (!*(volatile pid_t *)&tid) sleep_ms(1);
  OK(pthread_kill(t[0], SIGUSR1));
  UNTIL(handled_in == tid);
  CHECK(handled_in == tid);
  OK(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1));
  CHECK(handled_in == getpid());
  // A signal to the process goes to a thread which does not block it.
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  handled_in = 0;
  pthread_create(&t[1], NULL, forever, NULL);
  sigset_t none;
  sigemptyset(&none);
  pthread_kill(t[1], 0);
  kill(getpid(), SIGUSR1);
  UNTIL(handled_in != 0);
  CHECK(handled_in == tid);
  may_leave = true;
  pthread_join(t[0], NULL);
  pthread_cancel(t[1]), pthread_join(t[1], NULL);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);

  section("ending the group");
  pid_t child = CHILD({
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, forever, NULL);
    pthread_create(&t[4], NULL, spinning, NULL);
    pthread_create(&t[5], NULL, leave, NULL);
    pause();
  });
  EQUAL(outcome(child), 33);
  child = CHILD({
    pthread_create(&t[0], NULL, leave_thread, NULL);
    syscall(SYS_exit, 6);
  });
  // The leader is gone and waits as a zombie for its last thread.
  EQUAL(outcome(child), 6);
  child = CHILD({
    pthread_create(&t[0], NULL, spinning, NULL);
    pthread_create(&t[1], NULL, crash, NULL);
    pause();
  });
  EQUAL(outcome(child), SIGNALLED(SIGSEGV));
  child = CHILD({
    pthread_create(&t[0], NULL, spinning, NULL);
    pthread_create(&t[1], NULL, forever, NULL);
    pthread_create(&t[2], NULL, execute, NULL);
    for (;;) pause();
  });
  EQUAL(outcome(child), 0);
  child = CHILD({
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, spinning, NULL);
    pid_t g = fork();
    if (g == 0) _exit(thread_count());
    _exit(outcome(g));
  });
  EQUAL(outcome(child), 1);
  child = CHILD({
    pthread_create(&t[0], NULL, spinning, NULL);
    pthread_create(&t[1], NULL, forever, NULL);
    for (;;) pause();
  });
  sleep_ms(20);
  kill(child, SIGSTOP);
  int status;
  CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
  kill(child, SIGKILL);
  EQUAL(outcome(child), SIGNALLED(SIGKILL));

  section("a leader that ends first");
  child = CHILD({
    pthread_create(&t[0], NULL, forever, NULL);
    syscall(SYS_exit, 3);
  });
  UNTIL(state_of(child, "stat") == 'Z');
  CHECK(strstr(proc_of(child, "status"), "State:\tZ (zombie)\n") && strstr(proc_text, "\nThreads:\t2\n") && !strstr(proc_text, "VmRSS"));
  EQUAL(strlen(proc_of(child, "cmdline")), 0);
  EQUAL(strlen(proc_of(child, "maps")), 0);
  char link[PATH_MAX], file[64];
  sprintf(file, "/proc/%d/exe", child);
  FAILS(readlink(file, link, sizeof link), ENOENT);
  sprintf(file, "task/%d/stat", child);
  EQUAL(state_of(child, file), 'Z');
  sprintf(file, "/proc/%d/task", child);
  struct stat tasks;
  OK(stat(file, &tasks));
  EQUAL(tasks.st_nlink, 4);
  OK(kill(child, 0));
  EQUAL(waitpid(child, NULL, WNOHANG), 0);
  kill(child, SIGKILL);
  EQUAL(outcome(child), SIGNALLED(SIGKILL));
  MUST(readlink("/proc/self/exe", program, sizeof program - 1));
  // Its status is forgotten when another thread takes its place.
  child = CHILD({
    pthread_create(&t[0], NULL, execute_leaving, NULL);
    syscall(SYS_exit, 3);
  });
  EQUAL(outcome(child), 5);

  section("names");
  char name[17] = {0};
  OK(prctl(PR_SET_NAME, "a-name-that-is-too-long"));
  OK(prctl(PR_GET_NAME, name));
  CHECK(!strcmp(name, "a-name-that-is-"));
  return conformance_end();
}
