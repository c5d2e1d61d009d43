// Many threads and processes at once: hand-overs between CPUs, wake-ups that race with sleeps, ends, forks and signals.
#include "../conformance.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { THREADS = 8, ROUNDS = 500, SIGNALS = 4000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int turn, counter;

// Each thread waits for its turn: every step is a wake-up of all and a sleep of all but one.
static void *take_turns(void *argument) {
  int mine = (int)(long)argument;
  for (int i = 0; i < ROUNDS / 5; i++) {
    pthread_mutex_lock(&mutex);
    while (turn != mine) pthread_cond_wait(&condition, &mutex);
    turn = (turn + 1) % THREADS;
    counter++;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

static void *nothing(void *argument) { return argument; }

// Wakes the partner and sleeps until it answers, by a pair of semaphores that processes may share.
static int play(sem_t *mine, sem_t *theirs, int rounds) {
  for (int i = 0; i < rounds; i++) {
    sem_post(theirs);
    while (sem_wait(mine) != 0)
      if (errno != EINTR) return -1;
  }
  return 0;
}

static _Atomic int signals_taken;
static void take(int number) { signals_taken++; }

static _Atomic int stop;
// Short sleeps: the timer and another wake-up (a signal) arrive at about the same time.
static void *nap(void *argument) {
  while (!stop) usleep(50);
  return NULL;
}

static int ping_pong(int rounds) {
  int there[2], back[2];
  char byte = 'x';
  MUST(pipe(there));
  MUST(pipe(back));
  pid_t child = CHILD({
    for (int i = 0; i < rounds; i++)
      if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1) _exit(1);
    _exit(0);
  });
  int good = 0;
  for (int i = 0; i < rounds; i++) good += write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1;
  int status = outcome(child);
  close(there[0]), close(there[1]), close(back[0]), close(back[1]);
  return good == rounds && status == 0;
}

int main(void) {
  section("threads");
  pthread_t thread[THREADS];
  for (long i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, take_turns, (void *)i);
  for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
  EQUAL(counter, THREADS * (ROUNDS / 5));
  int good = 0;
  for (int i = 0; i < ROUNDS / THREADS; i++) {
    void *value;
    for (long j = 0; j < THREADS; j++) pthread_create(&thread[j], NULL, nothing, (void *)j);
    for (long j = 0; j < THREADS; j++) good += pthread_join(thread[j], &value) == 0 && value == (void *)j;
  }
  EQUAL(good, ROUNDS / THREADS * THREADS);

  section("processes");
  sem_t *semaphores = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  MUST(sem_init(&semaphores[0], 1, 0));
  MUST(sem_init(&semaphores[1], 1, 0));
  pid_t child = CHILD(_exit(play(&semaphores[0], &semaphores[1], ROUNDS)));
  EQUAL(play(&semaphores[1], &semaphores[0], ROUNDS), 0);
  EQUAL(outcome(child), 0);
  pid_t pairs[4];
  for (int i = 0; i < 4; i++) pairs[i] = CHILD(_exit(ping_pong(ROUNDS)));
  for (int i = 0; i < 4; i++) EQUAL(outcome(pairs[i]), 1);
  pid_t storms[4];
  for (int i = 0; i < 4; i++)
    storms[i] = CHILD({
      int fine = 0;
      for (int j = 0; j < 50; j++) fine += outcome(CHILD(_exit(j))) == j;
      _exit(fine);
    });
  for (int i = 0; i < 4; i++) EQUAL(outcome(storms[i]), 50);

  section("signals");
  signal(SIGUSR1, take);
  pthread_create(&thread[0], NULL, nap, NULL);
  pthread_create(&thread[1], NULL, nap, NULL);
  for (int i = 0; i < SIGNALS; i++) {
    pthread_kill(thread[i & 1], SIGUSR1);
    if (i % 8 == 0) usleep(100);
  }
  stop = 1;
  pthread_join(thread[0], NULL);
  pthread_join(thread[1], NULL);
  CHECK(signals_taken > 0 && signals_taken <= SIGNALS);
  // A signal to a process that is just ending, or has ended and not been waited for, does nothing.
  good = 0;
  for (int i = 0; i < ROUNDS / 5; i++) {
    pid_t victim = fork();
    if (victim == 0) _exit(0);
    for (int j = 0; j < 20; j++) good += kill(victim, SIGUSR1 * (j & 1)) == 0;
    int status;
    waitpid(victim, &status, 0);
  }
  EQUAL(good, ROUNDS / 5 * 20);

  section("a group that forks while it is killed");
  int survivors = 0;
  for (int i = 0; i < 10; i++) {
    int ends[2];
    char byte;
    MUST(pipe(ends));
    pid_t leader = CHILD({
      setpgid(0, 0);
      close(ends[0]);
      for (;;) {
        pid_t next = fork();
        if (next > 0) _exit(0);
        if (next < 0) usleep(1000);
      }
    });
    setpgid(leader, leader);
    close(ends[1]);
    usleep(3000 + 1000 * i);
    kill(-leader, SIGKILL);
    // The end of file comes when nobody of the group is left.
    struct pollfd end = {ends[0], POLLIN, 0};
    if (poll(&end, 1, 60000) != 1 || read(ends[0], &byte, 1) != 0) survivors++;
    close(ends[0]);
    outcome(leader);
  }
  EQUAL(survivors, 0);
  return conformance_end();
}
