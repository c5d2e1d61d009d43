// The pages through which a user process reports to the kernel process are memory of the host that the program can write. They must
// exist for the threads of the process and for no other: a program with one thread cannot make the host allocate the pages of a
// thousand, and the pages of threads that have ended are out of reach again, whatever order they end in.
//
// run: --memory 32M --user 1000 -- @
// expect: ok no report but its own .*
// expect: ok its own report .*
// expect: ok the reports of [0-9]+ running threads .*
// expect: ok not more reports .*
#include "attack.h"
#include "stub.h"

#define SLOTS (UM_REPORTS_SIZE >> UM_REPORT_SHIFT)
#define THREADS 200
#define KEPT 64  // host threads that wait for the next threads, in the whole sandbox

// How many of the reports can be written to; the store does not change them.
static int writable(void) {
  volatile int found = 0;
  for (volatile uint64_t slot = 0; slot < SLOTS; slot++)
    for (volatile uint64_t offset = 3072; offset < UM_REPORT_SIZE; offset += 4096)
      if (TRAPPED(__sync_fetch_and_add((volatile char *)(REPORT(slot) + offset), 0)) == 0) {
        found++;
        break;
      }
  return found;
}

static pthread_barrier_t started, finished;
static void *wait_for_the_end(void *unused) {
  pthread_barrier_wait(&started);
  pthread_barrier_wait(&finished);
  return NULL;
}

int main(void) {
  catch_faults();
  int alone = writable();
  check(alone <= 1, "no report but its own can be written by a program with one thread (%d)", alone);
  check(alone == 1, "its own report can (%d)", alone);
  pthread_barrier_init(&started, NULL, THREADS + 1);
  pthread_barrier_init(&finished, NULL, THREADS + 1);
  for (int round = 0; round < 3; round++) {
    pthread_t threads[THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    for (int i = 0; i < THREADS; i++) {
      int error = pthread_create(&threads[i], &attributes, wait_for_the_end, NULL);
      if (error) {
        say("FATAL pthread_create: %s", strerror(error));
        return 98;
      }
    }
    pthread_barrier_wait(&started);
    int many = writable();
    if (round == 2) check(many > THREADS && many <= THREADS + 1, "the reports of %d running threads can be written, no other", many);
    pthread_barrier_wait(&finished);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  }
  // A new thread collects those that have ended.
  int rest = SLOTS;
  UNTIL(({
    pthread_t one;
    pthread_barrier_init(&started, NULL, 1);
    pthread_barrier_init(&finished, NULL, 1);
    if (pthread_create(&one, NULL, wait_for_the_end, NULL) == 0) pthread_join(one, NULL);
    (rest = writable()) <= KEPT + 2;
  }));
  check(rest <= KEPT + 2, "not more reports than of the threads that are kept can be written when the threads have ended (%d)", rest);
  return attack_end();
}
