// The operations on the host: functions of the fake machine (fake.c), for unit tests of the rooms and for the monitor,
// which includes machine.h for its types only. Included by machine.h only.

#include <stdint.h>

#define MACHINE_OPERATION0(type, name) type machine_##name(void);
#define MACHINE_OPERATION1(type, name, t0, n0) type machine_##name(t0 n0);
#define MACHINE_OPERATION2(type, name, t0, n0, t1, n1) type machine_##name(t0 n0, t1 n1);
#define MACHINE_OPERATION3(type, name, t0, n0, t1, n1, t2, n2) type machine_##name(t0 n0, t1 n1, t2 n2);
#define MACHINE_OPERATION4(type, name, t0, n0, t1, n1, t2, n2, t3, n3) type machine_##name(t0 n0, t1 n1, t2 n2, t3 n3);
#define MACHINE_OPERATION5(type, name, t0, n0, t1, n1, t2, n2, t3, n3, t4, n4) \
  type machine_##name(t0 n0, t1 n1, t2 n2, t3 n3, t4 n4);
#define MACHINE_OPERATION6(type, name, t0, n0, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5) \
  type machine_##name(t0 n0, t1 n1, t2 n2, t3 n3, t4 n4, t5 n5);

struct machine_cpu *machine_this_cpu(void);

// What the fake machine counted; tests read and reset it.
struct machine_fake_counters {
  uint64_t maps, unmaps, protects, commits, kicks, releases, enlargements;
};
extern struct machine_fake_counters machine_fake_counters;
// Observes the user mappings that the fake machine receives, for tests of virtual memory; NULL: no observer.
struct machine_fake_spaces {
  void (*map)(int64_t space, uint64_t address, uint64_t physical, uint64_t length, uint64_t protection);
  void (*unmap)(int64_t space, uint64_t address, uint64_t length);
  void (*protect)(int64_t space, uint64_t address, uint64_t length, uint64_t protection);
  void (*destroy)(int64_t space);
  void (*commit)(int64_t space);
};
extern struct machine_fake_spaces machine_fake_spaces;
// The devices of the fake machine, for tests of drivers; NULL: there are none.
struct machine_fake_devices {
  int64_t (*queue)(uint64_t device, uint64_t queue, uint64_t size, uint64_t descriptors, uint64_t available, uint64_t used);
  void (*kick)(uint64_t device, uint64_t queue);
};
extern struct machine_fake_devices machine_fake_devices;
// The routines of memory.S and soft_float.c under the names that they have on the host, for unit tests.
void *machine_memcpy(void *to, const void *from, uint64_t count);
void *machine_memmove(void *to, const void *from, uint64_t count);
void *machine_memset(void *to, int byte, uint64_t count);
int machine_memcmp(const void *a, const void *b, uint64_t count);
uint64_t machine_soft___muldf3(uint64_t a, uint64_t b);
uint64_t machine_soft___divdf3(uint64_t a, uint64_t b);
uint64_t machine_soft___floatdidf(int64_t value);
int64_t machine_soft___fixdfdi(uint64_t a);
int machine_soft___gtdf2(uint64_t a, uint64_t b);
int machine_soft___ltdf2(uint64_t a, uint64_t b);
int machine_soft___eqdf2(uint64_t a, uint64_t b);
int machine_soft___unorddf2(uint64_t a, uint64_t b);
uint64_t machine_soft_ceil(uint64_t a);
// A boot record with `memory` bytes of zeroed guest memory, made on the first call and shared by all tests of a process.
struct machine_boot_info *machine_fake_boot_info(uint64_t memory);
