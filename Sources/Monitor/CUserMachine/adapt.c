// How a CPU and its user thread wait for each other: asleep on one host CPU, or polling on two.
//
// Polling on two host CPUs makes a system call twice as fast, but a wake-up across them costs as much as several calls,
// and a host CPU that is not idle loses what is polled away. So a thread begins asleep; after a row of calls without a
// pause it moves to the other host CPU and both sides poll. Polling that ends in sleep too often is given up for a time.

#include "internal.h"

#define QUICK_ROW 256           // quick calls, with few others between, until a thread polls
#define QUICK_LIMIT 30          // microseconds between resumption and call, at most
#define MISSES_LIMIT 64
#define FIRST_RETREAT 20000     // microseconds without polling when it was given up; doubled each time
#define LAST_RETREAT 2000000

// A run of `thread` is over, which lasted from `begun` to `ended` by the TSC.
void um_adapt(struct um_cpu *cpu, struct um_thread *thread, bool polling, bool call, uint64_t begun, uint64_t ended) {
  if (polling) {
    cpu->polled_runs++;
    if (!call) cpu->misses += UM_MISS / 4;  // faults and mappings are no faster on two host CPUs
    if (cpu->misses < MISSES_LIMIT) {
      if (cpu->misses) cpu->misses--;
      return;
    }
    thread->polling = 0;
    cpu->poller = NULL;
    cpu->quick = 0;
    cpu->polling_ended++;
    cpu->not_before = ended + cpu->retreat * um.ticks_per_microsecond;
    if (cpu->retreat < LAST_RETREAT) cpu->retreat *= 2;
    return;
  }
  bool quick = call && (ended - begun < QUICK_LIMIT * um.ticks_per_microsecond ||
                        um.config.test_switches & UM_TEST_ALL_QUICK);
  if (cpu->last != thread) cpu->quick = 0;
  cpu->last = thread;
  cpu->quick = quick ? cpu->quick + 1 : cpu->quick > UM_MISS ? cpu->quick - UM_MISS : 0;
  if (cpu->quick < QUICK_ROW || begun < cpu->not_before) return;
  // Polling that was last given up long ago starts with a clean record.
  if (cpu->retreat == 0 || begun - cpu->not_before > LAST_RETREAT * um.ticks_per_microsecond) cpu->retreat = FIRST_RETREAT;
  cpu->poller = thread;
  thread->polling = 1;
  cpu->misses = 0;
  cpu->quick = 0;
  cpu->polling_begun++;
}
