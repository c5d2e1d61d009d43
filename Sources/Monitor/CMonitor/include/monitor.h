// What the monitor needs below Swift: the switch between the host's stack and kernel stacks, and the ROM of the user
// machine.

#ifndef MONITOR_H
#define MONITOR_H

#include <stddef.h>
#include <stdint.h>

#include "isolation.h"
#include "machine.h"

// Makes `cpu` the calling thread's CPU record (GS base) and continues at `entry(argument)` on the stack that ends at
// `stack_top`. ROM routines run below the caller's frame from then on. Does not return.
_Noreturn void monitor_enter_kernel(struct machine_cpu *cpu, uint64_t entry, uint64_t argument, uint64_t stack_top);

// Writes the user machine's ROM, its code first, into `area` (writable, within 2 GiB of the image) and returns the ROM,
// or NULL when `size` is too small.
const struct machine_rom *monitor_build_rom(uint8_t *area, size_t size);

// The entry of CPUs other than the first, for um_config.cpu_main: a record and a stack, then the kernel's cpu_entry.
void monitor_cpu_main(uint64_t index);
// Enters the kernel's start as CPU 0 with `info`.
_Noreturn void monitor_boot(uint64_t start, const struct machine_boot_info *info);

// Set before the machine starts.
struct monitor_hooks {
  uint64_t cpu_entry;                     // address of the kernel's entry for further CPUs
  uint8_t *text;                          // the image's code, for text_seal
  size_t text_size;
  int64_t (*device_queue)(uint64_t device, uint64_t queue, uint64_t size, uint64_t descriptors, uint64_t available, uint64_t used);
  void (*device_kick)(uint64_t device, uint64_t queue);
  void (*console_write)(const uint8_t *bytes, uint64_t count);
  void (*power_off)(uint64_t status);     // does not return
};
extern struct monitor_hooks monitor_hooks;

// Confines this process to the system calls that the machine and its devices need from now on; those that change files
// only if `writes`, and those of disks only on their descriptors. For good. 0 or a negative error number.
struct monitor_disk {
  int descriptor;
  int writes;
};
enum { MONITOR_MOST_DISKS = 8 };
int64_t monitor_confine(int writes, const struct monitor_disk *disks, size_t count);

// Has a child of this process put it into a control group with these limits, where the host permits one, and remove the group
// when this process has ended. `tells` 1: the child says on standard error what came of it. To be called before there are
// other threads. 0 or a negative error number.
int monitor_control_group(uint64_t memory, uint64_t tasks, int tells);
// Whether a group could be made: 0 and the version of control groups, or a negative error number and version 0.
int monitor_control_group_probe(int *version);

// Ends the machine with waitpid status `status` after `nanoseconds`, from a thread of its own.
int monitor_set_timeout(uint64_t nanoseconds, uint64_t status);

// The commit that the program was built from; empty when it was not built from a repository.
const char *monitor_commit(void);

#endif
