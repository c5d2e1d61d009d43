// The vDSO: a small shared object that the kernel maps into every program (vdso(7)). The C library finds it through
// AT_SYSINFO_EHDR and reads clocks through it without entering the kernel.
//
// The page before the object (vdso.lds) is the data page, written by the kernel: what to add to the machine's clocks so
// that they read as this kernel's, and where the machine offers its own clock routine to user code. With none, every
// call is the system call.

#include <stdint.h>

struct timespec64 {
  int64_t seconds, nanoseconds;
};
struct timeval64 {
  int64_t seconds, microseconds;
};

// Mirrored by VDSO.swift in the room Process.
struct vdso_data {
  uint64_t machine_clock_gettime;  // int (*)(int clock, struct timespec64 *), or 0
  int64_t monotonic_offset;        // nanoseconds to add to the machine's CLOCK_MONOTONIC
  int64_t realtime_offset;         // and to its CLOCK_REALTIME
};
extern const volatile struct vdso_data vdso_data __attribute__((visibility("hidden")));

enum {
  CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW,
  CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME,
};
enum { SYS_gettimeofday = 96, SYS_time = 201, SYS_clock_gettime = 228, SYS_clock_getres = 229, SYS_getcpu = 309 };
enum { BILLION = 1000000000 };

static inline int64_t system_call(int64_t number, uint64_t a, uint64_t b, uint64_t c) {
  int64_t result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

// Reads one of the clocks that the machine has; 0 when it cannot be read here.
static inline int read_clock(int clock, struct timespec64 *time) {
  int (*machine_clock)(int, struct timespec64 *) = (int (*)(int, struct timespec64 *))vdso_data.machine_clock_gettime;
  if (!machine_clock) return 0;
  int64_t offset;
  int machine_id;
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
      machine_id = CLOCK_REALTIME;
      offset = vdso_data.realtime_offset;
      break;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
      machine_id = CLOCK_MONOTONIC;
      offset = vdso_data.monotonic_offset;
      break;
    default:
      return 0;
  }
  if (machine_clock(machine_id, time)) return 0;
  int64_t nanoseconds = time->nanoseconds + offset % BILLION;
  time->seconds += offset / BILLION;
  if (nanoseconds < 0) {
    nanoseconds += BILLION;
    time->seconds--;
  } else if (nanoseconds >= BILLION) {
    nanoseconds -= BILLION;
    time->seconds++;
  }
  time->nanoseconds = nanoseconds;
  return 1;
}

#define EXPORT __attribute__((visibility("default")))
#define ALIAS(name) __attribute__((weak, alias(#name), visibility("default")))

EXPORT int __vdso_clock_gettime(int clock, struct timespec64 *time) {
  if (read_clock(clock, time)) return 0;
  return (int)system_call(SYS_clock_gettime, (uint64_t)clock, (uint64_t)time, 0);
}
int clock_gettime(int, struct timespec64 *) ALIAS(__vdso_clock_gettime);

EXPORT int __vdso_gettimeofday(struct timeval64 *time, void *zone) {
  struct timespec64 now;
  if (zone || !time || !read_clock(CLOCK_REALTIME, &now))
    return (int)system_call(SYS_gettimeofday, (uint64_t)time, (uint64_t)zone, 0);
  time->seconds = now.seconds;
  time->microseconds = now.nanoseconds / 1000;
  return 0;
}
int gettimeofday(struct timeval64 *, void *) ALIAS(__vdso_gettimeofday);

EXPORT int64_t __vdso_time(int64_t *result) {
  struct timespec64 now;
  if (!read_clock(CLOCK_REALTIME, &now)) return system_call(SYS_time, (uint64_t)result, 0, 0);
  if (result) *result = now.seconds;
  return now.seconds;
}
int64_t time(int64_t *) ALIAS(__vdso_time);

EXPORT int __vdso_clock_getres(int clock, struct timespec64 *resolution) {
  return (int)system_call(SYS_clock_getres, (uint64_t)clock, (uint64_t)resolution, 0);
}
int clock_getres(int, struct timespec64 *) ALIAS(__vdso_clock_getres);

EXPORT int __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused) {
  return (int)system_call(SYS_getcpu, (uint64_t)cpu, (uint64_t)node, (uint64_t)unused);
}
int getcpu(unsigned *, unsigned *, void *) ALIAS(__vdso_getcpu);
