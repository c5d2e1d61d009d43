// The fake machine: one CPU per host thread, memory from the host, no user programs. Unit tests of the rooms run on it.
#if defined(__linux__)
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/single_threaded.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

struct machine_fake_counters machine_fake_counters;
struct machine_fake_spaces machine_fake_spaces;
struct machine_fake_devices machine_fake_devices;

static uint64_t nanoseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#define COUNT(field) __atomic_fetch_add(&machine_fake_counters.field, 1, __ATOMIC_RELAXED)

void machine_pause(uint64_t spins) { if (spins > 100) sched_yield(); }
uint64_t machine_clock_monotonic(void) { return nanoseconds(CLOCK_MONOTONIC); }
uint64_t machine_clock_realtime(void) { return nanoseconds(CLOCK_REALTIME); }
void machine_idle(uint64_t deadline) { (void)deadline; sched_yield(); }
uint64_t machine_interrupts_pending(void) { return 0; }
int64_t machine_cpu_start(uint64_t index) { (void)index; return -ENOSYS; }
void machine_cpu_kick(uint64_t index) { (void)index; COUNT(kicks); }
int64_t machine_space_create(uint64_t user) {
  (void)user;
  static int64_t next;
  return __atomic_add_fetch(&next, 1, __ATOMIC_RELAXED);
}
void machine_space_user(int64_t s, uint64_t user) { (void)s, (void)user; }
void machine_space_destroy(int64_t space) { if (machine_fake_spaces.destroy) machine_fake_spaces.destroy(space); }
void machine_space_map(int64_t s, uint64_t a, uint64_t p, uint64_t l, uint64_t r) {
  if (machine_fake_spaces.map) machine_fake_spaces.map(s, a, p, l, r);
  COUNT(maps);
}
void machine_space_unmap(int64_t s, uint64_t a, uint64_t l) {
  if (machine_fake_spaces.unmap) machine_fake_spaces.unmap(s, a, l);
  COUNT(unmaps);
}
void machine_space_protect(int64_t s, uint64_t a, uint64_t l, uint64_t r) {
  if (machine_fake_spaces.protect) machine_fake_spaces.protect(s, a, l, r);
  COUNT(protects);
}
int64_t machine_space_commit(int64_t space) {
  if (machine_fake_spaces.commit) machine_fake_spaces.commit(space);
  COUNT(commits);
  return 0;
}
int64_t machine_user_create(int64_t s) { (void)s; return -ENOSYS; }
void machine_user_destroy(int64_t user) { (void)user; }
void machine_user_run(int64_t user, struct machine_registers *r, struct machine_event *event, uint64_t deadline) {
  (void)user, (void)r, (void)deadline;
  event->kind = MACHINE_EVENT_DEAD;
}
int64_t machine_user_xstate_read(int64_t u, void *b, uint64_t s) { (void)u, (void)b, (void)s; return -ENOSYS; }
int64_t machine_user_xstate_write(int64_t u, const void *b, uint64_t s) { (void)u, (void)b, (void)s; return -ENOSYS; }
int64_t machine_user_xstate_copy(int64_t from, int64_t to) { (void)from, (void)to; return -ENOSYS; }
int64_t machine_device_queue(uint64_t d, uint64_t q, uint64_t s, uint64_t de, uint64_t av, uint64_t us) {
  return machine_fake_devices.queue ? machine_fake_devices.queue(d, q, s, de, av, us) : -ENODEV;
}
void machine_device_kick(uint64_t d, uint64_t q) {
  COUNT(kicks);
  if (machine_fake_devices.kick) machine_fake_devices.kick(d, q);
}
void machine_console_write(const uint8_t *bytes, uint64_t count) { if (write(2, bytes, count) < 0) return; }
void machine_random(void *buffer, uint64_t count) { if (getrandom(buffer, count, 0) < 0) abort(); }
void machine_power_off(uint64_t status) { exit((int)(status >> 8)); }
int64_t machine_memory_release(uint64_t p, uint64_t l) { (void)p, (void)l; COUNT(releases); return 0; }
void machine_text_replace(int64_t s, uint64_t a, uint64_t p, uint64_t o) { (void)s, (void)a, (void)p, (void)o; }
int64_t machine_memory_enlarge(uint64_t p, uint64_t l) { (void)p, (void)l; COUNT(enlargements); return 0; }
uint64_t machine_thread_stack(uint64_t p, uint64_t old) { (void)p, (void)old; return 0; }

int64_t machine_text_seal(void) { return 0; }

struct machine_cpu *machine_this_cpu(void) {
  static _Thread_local struct machine_cpu cpu;
  static uint64_t next;
  if (!cpu.self) {
    cpu.self = &cpu;
    cpu.index = (__atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) % MACHINE_MAX_CPUS;
  }
  return &cpu;
}

struct machine_boot_info *machine_fake_boot_info(uint64_t memory) {
  static struct machine_boot_info info;
  if (!info.magic) {
    void *map = mmap(NULL, memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) abort();
    info = (struct machine_boot_info){
        .magic = MACHINE_BOOT_MAGIC, .version = MACHINE_VERSION, .cpu_count = 4, .memory_size = memory,
        .direct_map = map, .user_limit = 0x7ffff0000000, .xstate_size = 832};
  }
  return &info;
}
#endif
