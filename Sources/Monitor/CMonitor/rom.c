// The ROM of the user machine. Each operation gets a thunk: load the function's address, switch to the host stack of
// this CPU, call, switch back. Kernel stacks are small and the kernel's; host code (libc, the Swift runtime) must not
// run on them.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "monitor.h"
#include "user_machine.h"

struct monitor_hooks monitor_hooks;

static int64_t device_queue(uint64_t d, uint64_t q, uint64_t s, uint64_t desc, uint64_t avail, uint64_t used) {
  return monitor_hooks.device_queue(d, q, s, desc, avail, used);
}
static void device_kick(uint64_t device, uint64_t queue) { monitor_hooks.device_kick(device, queue); }
static void console_write(const uint8_t *bytes, uint64_t count) { monitor_hooks.console_write(bytes, count); }
static void power_off(uint64_t status) { monitor_hooks.power_off(status); }
// The one operation that makes memory executable. It works once, at the start, while no guest code has run: what later changes
// the kernel's text has to be done by another process.
static int64_t text_seal(void) {
  int64_t error = mprotect(monitor_hooks.text, monitor_hooks.text_size, PROT_READ | PROT_EXEC) != 0 ? -errno : 0;
  if (error == 0) error = um_confine_text();
  if (error != 0) {
    dprintf(STDERR_FILENO, "apus: cannot seal the kernel's text: %s\n", strerror((int)-error));
    _exit(125);
  }
  return 0;
}

#define FUNCTION(name, function) [MACHINE_OP_##name] = (uint64_t)(uintptr_t)(function)
static uint64_t function_of(unsigned operation) {
  const uint64_t functions[MACHINE_OP_COUNT] = {
      FUNCTION(pause, um_pause), FUNCTION(clock_monotonic, um_clock_monotonic),
      FUNCTION(clock_realtime, um_clock_realtime), FUNCTION(idle, um_idle), FUNCTION(cpu_start, um_cpu_start),
      FUNCTION(cpu_kick, um_cpu_kick), FUNCTION(space_create, um_space_create),
      FUNCTION(space_destroy, um_space_destroy), FUNCTION(space_map, um_space_map),
      FUNCTION(space_unmap, um_space_unmap), FUNCTION(space_protect, um_space_protect),
      FUNCTION(space_commit, um_space_commit), FUNCTION(user_create, um_user_create),
      FUNCTION(user_destroy, um_user_destroy), FUNCTION(user_run, um_user_run),
      FUNCTION(user_xstate_read, um_user_xstate_read), FUNCTION(user_xstate_write, um_user_xstate_write),
      FUNCTION(user_xstate_copy, um_user_xstate_copy), FUNCTION(device_queue, device_queue),
      FUNCTION(device_kick, device_kick), FUNCTION(console_write, console_write), FUNCTION(random, um_random),
      FUNCTION(power_off, power_off), FUNCTION(memory_release, um_memory_release),
      FUNCTION(interrupts_pending, um_interrupts_pending), FUNCTION(thread_stack, um_thread_stack),
      FUNCTION(text_seal, text_seal), FUNCTION(memory_enlarge, um_memory_enlarge),
      FUNCTION(space_user, um_space_user),
      FUNCTION(text_replace, um_text_replace),
  };
  return functions[operation];
}

enum { THUNK_SIZE = 16 };

// push %rbp; mov %rsp,%rbp; mov %gs:16,%rsp; call *%rax; mov %rbp,%rsp; pop %rbp; ret
static const uint8_t switch_and_call[] = {0x55, 0x48, 0x89, 0xe5, 0x65, 0x48, 0x8b, 0x24, 0x25, 0x10, 0x00,
                                          0x00, 0x00, 0xff, 0xd0, 0x48, 0x89, 0xec, 0x5d, 0xc3};
_Static_assert(offsetof(struct machine_cpu, host_stack) == 16, "the thunk loads machine_cpu.host_stack");

const struct machine_rom *monitor_build_rom(uint8_t *area, size_t size) {
  size_t table = 32 + MACHINE_OP_COUNT * THUNK_SIZE;
  struct machine_rom *rom = (struct machine_rom *)(area + ((table + 7) & ~(size_t)7));
  if ((uint8_t *)&rom->entries[MACHINE_OP_COUNT] > area + size) return NULL;
  *rom = (struct machine_rom){MACHINE_ROM_SIGNATURE, MACHINE_VERSION, MACHINE_OP_COUNT};
  memcpy(area, switch_and_call, sizeof switch_and_call);
  uint8_t *code = area + 32;
  for (unsigned op = 0; op < MACHINE_OP_COUNT; op++, code += THUNK_SIZE) {
    uint64_t function = function_of(op);
    int32_t distance = (int32_t)(area - (code + 15));
    code[0] = 0x48, code[1] = 0xb8;  // movabs $function,%rax
    memcpy(code + 2, &function, 8);
    code[10] = 0xe9;  // jmp switch_and_call
    memcpy(code + 11, &distance, 4);
    rom->entries[op] = (struct machine_rom_entry){.kind = MACHINE_ROM_CALL, .target = (uint64_t)(uintptr_t)code};
  }
  return rom;
}

// The first stack of a CPU, which becomes the stack of its idle thread.
enum { FIRST_STACK = 64 << 10 };

static _Noreturn void enter(uint64_t index, uint64_t entry, uint64_t argument) {
  struct machine_cpu *cpu = aligned_alloc(64, (sizeof *cpu + 63) & ~(size_t)63);
  uint64_t stack = um_first_stack(FIRST_STACK);
  if (!cpu || !stack) abort();
  *cpu = (struct machine_cpu){.self = cpu, .index = index};
  monitor_enter_kernel(cpu, entry, argument, stack + FIRST_STACK);
}

void monitor_cpu_main(uint64_t index) { enter(index, monitor_hooks.cpu_entry, index); }
void monitor_boot(uint64_t start, const struct machine_boot_info *info) { enter(0, start, (uint64_t)(uintptr_t)info); }

struct timeout {
  struct timespec after;
  uint64_t status;
  void (*act)(uint64_t status);
};

static void *time_out(void *argument) {
  struct timeout timeout = *(struct timeout *)argument;
  free(argument);
  while (clock_nanosleep(CLOCK_MONOTONIC, 0, &timeout.after, &timeout.after) == EINTR) continue;
  timeout.act(timeout.status);
  return NULL;
}

static int act_after(uint64_t nanoseconds, uint64_t status, void (*act)(uint64_t)) {
  struct timeout *timeout = malloc(sizeof *timeout);
  if (!timeout) return ENOMEM;
  *timeout = (struct timeout){{(time_t)(nanoseconds / 1000000000), (long)(nanoseconds % 1000000000)}, status, act};
  pthread_t thread;
  int error = pthread_create(&thread, NULL, time_out, timeout);
  if (error == 0) pthread_detach(thread);
  return error;
}

// An orderly end may have to wait: for a disk, for a terminal, for a thread that holds a lock. The time limit does not.
static void end_at_once(uint64_t status) { _exit((int)(status >> 8)); }
static const uint64_t ORDERLY_END_NANOSECONDS = 3000000000;

int monitor_set_timeout(uint64_t nanoseconds, uint64_t status) {
  int error = act_after(nanoseconds, status, power_off);
  return error ? error : act_after(nanoseconds + ORDERLY_END_NANOSECONDS, status, end_at_once);
}
