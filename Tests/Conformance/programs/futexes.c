// futex(2): waiting, waking, comparing, moving waiters, timeouts, shared memory, robust lists.
#include "../conformance.h"
#include <dirent.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

static long futex(void *word, int operation, uint32_t value, void *timeout, void *second, uint32_t third) {
  return syscall(SYS_futex, word, operation, value, timeout, second, third);
}

static _Atomic uint32_t word, other;
static _Atomic int woken, timed_out;
static uint32_t bits = FUTEX_BITSET_MATCH_ANY;

static void *waiter(void *unused) {
  long r = futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, bits);
  if (r == 0) woken++;
  return NULL;
}

// How many other threads of this process rest.
static int sleepers(void) {
  int count = 0;
  char path[300];
  DIR *threads = opendir("/proc/self/task");
  for (struct dirent *e; (e = readdir(threads));) {
    snprintf(path, sizeof path, "/proc/self/task/%s/stat", e->d_name);
    count += e->d_name[0] != '.' && atoi(e->d_name) != getpid() && rests(path);
  }
  closedir(threads);
  return count;
}

// Starts waiters; they sleep when it returns.
static void start(pthread_t *threads, int count) {
  woken = 0;
  for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, waiter, NULL);
  UNTIL(sleepers() >= count && (sleep_ms(5), sleepers() >= count));
}

static void *wake_shared(void *page) { return NULL; }

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static long counter;
static void *adder(void *unused) {
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(&mutex);
    counter++;
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}
static void *die_with_lock(void *m) {
  pthread_mutex_lock(m);
  return NULL;
}

int main(void) {
  section("errors and timeouts");
  FAILS(futex(&word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0), EAGAIN);
  struct timespec t = {0, 20000000}, bad = {0, -1};
  int64_t begin = now_ns(CLOCK_MONOTONIC);
  FAILS(futex(&word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0), ETIMEDOUT);
  CHECK(now_ns(CLOCK_MONOTONIC) - begin >= 20000000);
  FAILS(futex(&word, FUTEX_WAIT_PRIVATE, 0, &bad, NULL, 0), EINVAL);
  FAILS(futex((char *)&word + 1, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0), EINVAL);
  FAILS(futex((void *)4096, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0), EFAULT);
  FAILS(futex(&word, 99, 0, NULL, NULL, 0), ENOSYS);
  // Addresses that no program can have.
  static void *const beyond[] = {(void *)0x7ffffffff004, (void *)0x800000000000, (void *)0xffff800000000000, (void *)-4096};
  for (int i = 0; i < 4; i++) {
    FAILS(futex(beyond[i], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), EFAULT);
    FAILS(futex(beyond[i], FUTEX_WAKE, 1, NULL, NULL, 0), EFAULT);
    FAILS(futex(beyond[i], FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0), EFAULT);
    FAILS(futex(beyond[i], FUTEX_WAIT, 0, &t, NULL, 0), EFAULT);
    FAILS(futex(beyond[i], FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 1), EFAULT);
    FAILS(futex(&word, FUTEX_REQUEUE_PRIVATE, 1, (void *)1, beyond[i], 0), EFAULT);
    FAILS(futex(beyond[i], FUTEX_REQUEUE_PRIVATE, 1, (void *)1, (void *)&word, 0), EFAULT);
    FAILS(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, beyond[i], 0), EFAULT);
  }
  FAILS(futex((char *)beyond[2] + 1, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), EINVAL);
  EQUAL(futex((void *)0x7ffffffff000, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
  EQUAL(futex((void *)4096, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
  FAILS(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 0), EINVAL);
  EQUAL(futex(&word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 0);
  clock_gettime(CLOCK_MONOTONIC, &t);
  t.tv_nsec += 10000000;
  if (t.tv_nsec >= 1000000000) t.tv_nsec -= 1000000000, t.tv_sec++;
  FAILS(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, NULL, 1), ETIMEDOUT);
  clock_gettime(CLOCK_REALTIME, &t);
  FAILS(futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &t, NULL, 1), ETIMEDOUT);

  section("wake");
  pthread_t threads[8];
  start(threads, 5);
  EQUAL(futex(&word, FUTEX_WAKE_PRIVATE, 2, NULL, NULL, 0), 2);
  UNTIL(woken == 2);
  sleep_ms(10);
  EQUAL(woken, 2);
  EQUAL(futex(&word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 3);
  for (int i = 0; i < 5; i++) pthread_join(threads[i], NULL);
  EQUAL(woken, 5);
  bits = 2;
  start(threads, 2);
  EQUAL(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, NULL, NULL, 1), 0);
  EQUAL(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, NULL, NULL, 3), 2);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  bits = FUTEX_BITSET_MATCH_ANY;

  section("requeue and wake_op");
  start(threads, 6);
  FAILS(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)5L, &other, 77), EAGAIN);
  EQUAL(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)3L, &other, 0), 4);
  UNTIL(woken == 1);
  sleep_ms(10);
  EQUAL(woken, 1);
  EQUAL(futex(&other, FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0), 3);
  EQUAL(futex(&word, FUTEX_REQUEUE_PRIVATE, 0, (void *)9L, &other, 0), 2);
  other = 5;
  EQUAL(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)9L, &other, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)), 2);
  EQUAL(other, 8);
  EQUAL(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)9L, &other, FUTEX_OP(FUTEX_OP_ANDN, 8, FUTEX_OP_CMP_GT, 9)), 0);
  EQUAL(other, 0);
  for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
  EQUAL(woken, 6);

  section("between processes");
  _Atomic uint32_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t child = CHILD({
    while (*page == 0) futex(page, FUTEX_WAIT, 0, NULL, NULL, 0);
    _exit(*page);
  });
  UNTIL(at_rest(child));
  *page = 5;
  EQUAL(futex(page, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
  EQUAL(outcome(child), 5);
  // A private word of a child is not the parent's, though the address is the same.
  child = CHILD({
    struct timespec t = {0, 100000000};
    _exit(futex(&word, FUTEX_WAIT, 0, &t, NULL, 0) < 0 && errno == ETIMEDOUT ? 0 : 1);
  });
  UNTIL(at_rest(child));
  EQUAL(futex(&word, FUTEX_WAKE, 9, NULL, NULL, 0), 0);
  EQUAL(outcome(child), 0);

  section("mutexes and conditions");
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, adder, NULL);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  EQUAL(counter, 80000);

  section("robust mutexes");
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_t *robust = (pthread_mutex_t *)(page + 64);
  pthread_mutex_init(robust, &attributes);
  pthread_create(&threads[0], NULL, die_with_lock, robust);
  pthread_join(threads[0], NULL);
  EQUAL(pthread_mutex_lock(robust), EOWNERDEAD);
  OK(pthread_mutex_consistent(robust));
  OK(pthread_mutex_unlock(robust));
  child = CHILD(pthread_mutex_lock(robust); raise(SIGKILL));
  EQUAL(outcome(child), SIGNALLED(SIGKILL));
  EQUAL(pthread_mutex_lock(robust), EOWNERDEAD);
  pthread_mutex_consistent(robust);
  child = CHILD({
    int r = pthread_mutex_lock(robust);
    _exit(r == 0 ? 0 : r);
  });
  UNTIL(at_rest(child));
  OK(pthread_mutex_unlock(robust));
  EQUAL(outcome(child), 0);
  struct robust_list_head *head;
  size_t size;
  OK(syscall(SYS_get_robust_list, 0, &head, &size));
  EQUAL(size, sizeof *head);
  FAILS(syscall(SYS_set_robust_list, head, 1), EINVAL);
  return conformance_end();
}
