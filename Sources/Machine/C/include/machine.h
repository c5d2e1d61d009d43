// The virtual machine interface (VMI), version 1.
//
// Everything that the kernel cannot say in Swift because it depends on the machine goes through the operations in
// this file: the clock, idling, waking another CPU, host or hardware mappings of user memory, running user code,
// devices. One image runs on every machine: each operation is a *site* of five bytes, a direct call to a native
// routine, recorded in the section `machine_sites`. At boot `machine_patch` looks at the ROM which the monitor left in
// memory and rewrites the sites into direct calls of the ROM's code, or into the ROM's own bytes. No table look-up and
// no indirect call is left at run time. On the host (unit tests of the rooms) the operations are those of the fake
// machine in fake.c.
//
// Errors: operations that can fail return a negative Linux error number.

#ifndef MACHINE_H
#define MACHINE_H

#include <stdint.h>

#define MACHINE_VERSION 1
#define MACHINE_PAGE_SIZE 4096
#define MACHINE_MAX_CPUS 64

// MARK: What the monitor hands to the kernel

// A device on offer. `kind` is the virtio device identifier (virtio 1.2, section 5).
struct machine_device {
  uint32_t kind;
  uint32_t queues;         // number of virtqueues
  uint32_t queue_size;     // the largest number of descriptors in a queue, a power of two
  uint32_t config_length;  // bytes of device-specific configuration
  uint64_t features;
  const uint8_t *config;
};

#define MACHINE_BOOT_MAGIC 0x31302d5355504121ull

// The only argument of the kernel's entry point. Everything that it points to stays valid and unchanged.
struct machine_boot_info {
  uint64_t magic;
  uint64_t version;
  uint64_t cpu_count;
  uint64_t memory_size;      // bytes of guest memory, which starts at physical address 0
  uint8_t *direct_map;       // guest-physical address 0 in the kernel's address space
  uint64_t user_limit;       // first address that user programs may not use
  uint64_t xstate_size;      // bytes of a thread's extended (FPU, vector) state
  const struct machine_rom *rom;
  const struct machine_device *devices;
  uint64_t device_count;
  const char *configuration; // NUL-terminated `key=value` strings, one after another
  uint64_t configuration_length;
  uint64_t image_base, image_end;  // the kernel's own code and data, for backtraces
  uint64_t host_vdso_clock_gettime; // 0, or the address, in every user address space, of the host's clock routine
};

// The first bytes of the image. Places are relative to the structure itself.
#define MACHINE_IMAGE_MAGIC 0x4547414d49555041ull  // "APUIMAGE"
struct machine_image_header {
  uint64_t magic;
  uint64_t version;      // of the VMI that the image was built for
  int64_t start;         // void start(const struct machine_boot_info *), on a kernel stack of CPU 0
  int64_t cpu_entry;     // void cpu_entry(uint64_t index), likewise for the CPUs that cpu_start starts
  int64_t kernel_trap;   // void kernel_trap(struct machine_trap_frame *), jumped to on the interrupted stack
};

// MARK: The CPU

// What the GS base points to while kernel code runs on a CPU. The first words are the machine's, the rest is the kernel's.
struct machine_cpu {
  struct machine_cpu *self;
  uint64_t index;
  void *host_stack;         // where the ROM's functions run; never a kernel stack
  void *machine_private;
  void *current;            // the kernel's current thread (unmanaged)
  void *scheduler;          // the kernel's per-CPU run queue (unmanaged)
  uint64_t preempt_depth;   // spin locks held
  uint64_t kernel_private[9];
};

// MARK: User threads

// Linux's struct user_regs_struct (ptrace(2), x86-64): the same order, so that it can be copied as it is.
struct machine_registers {
  uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
  uint64_t rax, rcx, rdx, rsi, rdi, orig_rax;
  uint64_t rip, cs, eflags, rsp, ss, fs_base, gs_base;
  uint64_t ds, es, fs, gs;
};

enum machine_event_kind {
  MACHINE_EVENT_INTERRUPT = 0,  // the deadline passed, a kick, or a device: nothing happened to the thread
  MACHINE_EVENT_SYSCALL = 1,    // SYSCALL executed; rip is behind it, rax and orig_rax hold the number
  MACHINE_EVENT_FAULT = 2,      // page fault: `address`, `access` are valid
  MACHINE_EVENT_TRAP = 3,       // another processor exception: `vector` (0 #DE, 1 #DB, 3 #BP, 6 #UD, 13 #GP, 16/19 #MF/#XM, 17 #AC)
  MACHINE_EVENT_DEAD = 4,       // the machine lost the thread (its host process was killed); it can never run again. `address`:
                                // nanoseconds of CPUs that its space has used besides its threads' runs
  MACHINE_EVENT_FOREIGN = 5,    // a system-call entry that is not 64-bit SYSCALL (int 0x80, x32, vsyscall): `vector` tells
};

enum machine_access {
  MACHINE_ACCESS_READ = 1, MACHINE_ACCESS_WRITE = 2, MACHINE_ACCESS_EXECUTE = 4,
};

struct machine_event {
  uint32_t kind;
  uint32_t vector;      // SYSCALL: 1 when the call would be cheaper after text_replace for its page; TRAP, FOREIGN
  uint32_t access;      // one of machine_access; READ also stands for "unknown, not a write"
  uint32_t error_code;  // the processor's page-fault error code
  uint64_t address;
};

// MARK: Kernel traps

// A trap of kernel code (a Swift runtime failure is #UD), delivered by calling machine_kernel_trap on the same stack.
struct machine_trap_frame {
  struct machine_registers registers;
  uint64_t vector, error_code, address;
};

// MARK: The ROM

#define MACHINE_ROM_SIGNATURE 0x004d4f522d494d56ull  // "VMI-ROM\0"

enum machine_rom_kind { MACHINE_ROM_ABSENT = 0, MACHINE_ROM_CALL = 1, MACHINE_ROM_INLINE = 2 };

struct machine_rom_entry {
  uint32_t kind;
  uint32_t length;      // of the inline bytes, at most 5
  uint64_t target;      // CALL: address of the routine, within 2 GiB of the image
  uint8_t bytes[8];     // INLINE: the instructions
};

// Operations by number: `X(name)`. The number is the place in this list; new ones are added at the end.
#define MACHINE_OPERATIONS(X)                                                                                       \
  X(pause) X(clock_monotonic) X(clock_realtime) X(idle) X(cpu_start) X(cpu_kick)                                    \
  X(space_create) X(space_destroy) X(space_map) X(space_unmap) X(space_protect) X(space_commit)                     \
  X(user_create) X(user_destroy) X(user_run) X(user_xstate_read) X(user_xstate_write)                               \
  X(device_queue) X(device_kick) X(console_write) X(random) X(power_off) X(memory_release) X(interrupts_pending)    \
  X(thread_stack) X(user_xstate_copy) X(text_seal) X(memory_enlarge) X(space_user) X(text_replace)

enum machine_operation {
#define X(name) MACHINE_OP_##name,
  MACHINE_OPERATIONS(X)
#undef X
  MACHINE_OP_COUNT
};

struct machine_rom {
  uint64_t signature;
  uint64_t version;
  uint64_t count;  // entries present; operations beyond it stay native
  struct machine_rom_entry entries[];
};

// One patchable site (section machine_sites).
struct machine_site {
  int32_t location;  // relative to this field
  uint16_t operation;
  uint16_t length;
};

// Rewrites every site of the image for `rom`; 0, or a negative error number when the ROM is malformed or out of reach.
int64_t machine_patch(const struct machine_rom *rom);

#if defined(__linux__)
#include "machine_fake.h"
#else
#include "machine_sites.h"
#endif

// MARK: The operations

// Tells the processor that the caller spins; `spins` counts the rounds, so that a machine under a hypervisor can yield.
MACHINE_OPERATION1(void, pause, uint64_t, spins)
// CLOCK_MONOTONIC and CLOCK_REALTIME of the machine, in nanoseconds.
MACHINE_OPERATION0(uint64_t, clock_monotonic)
MACHINE_OPERATION0(uint64_t, clock_realtime)
// Waits until an interrupt is pending for this CPU or the monotonic clock reaches `deadline` (UINT64_MAX: never).
MACHINE_OPERATION1(void, idle, uint64_t, deadline)
// Takes and clears this CPU's pending interrupts: bit 0 kick, bit 1+n device n.
MACHINE_OPERATION0(uint64_t, interrupts_pending)
// Starts CPU `index` at machine_cpu_entry(index).
MACHINE_OPERATION1(int64_t, cpu_start, uint64_t, index)
// Makes CPU `index` leave idle or user_run soon. May be called from any CPU at any time.
MACHINE_OPERATION1(void, cpu_kick, uint64_t, index)

// A user address space. The machine's own mappings are a TLB over the page tables: empty at first, and mappings that
// it loses come back through faults. `space_map` offers a mapping that the tables hold; `protection` is a set of
// machine_access and of the marks below. unmap and protect queue an invalidation, which is in force for a user thread when it runs
// next; `space_commit` returns when all that were queued for the space are in force on every CPU: only then may a frame be used again.
// map, unmap and protect never wait. After a commit, or an event of one of its threads, a space takes MACHINE_SPACE_COMMANDS of them;
// beyond that it may forget mappings instead, those that the commands speak of and what lies between.
#define MACHINE_SPACE_COMMANDS 100
#define MACHINE_MAP_TEXT 8   // code of a file: the machine may show a copy whose `syscall` instructions are jumps to its own entry
#define MACHINE_MAP_FILL 16  // the pages have contents, and the program is writing to one after another: map them to the last level now
// The programs of a space act for a user of the kernel, `user`, at first the one given to `space_create`: the machine lets nothing
// of what the processor remembers of one user's programs (its branch predictors) work on another's.
MACHINE_OPERATION1(int64_t, space_create, uint64_t, user)
MACHINE_OPERATION2(void, space_user, int64_t, space, uint64_t, user)
MACHINE_OPERATION1(void, space_destroy, int64_t, space)
MACHINE_OPERATION5(void, space_map, int64_t, space, uint64_t, address, uint64_t, physical, uint64_t, length, uint64_t, protection)
MACHINE_OPERATION3(void, space_unmap, int64_t, space, uint64_t, address, uint64_t, length)
MACHINE_OPERATION4(void, space_protect, int64_t, space, uint64_t, address, uint64_t, length, uint64_t, protection)
MACHINE_OPERATION1(int64_t, space_commit, int64_t, space)

// After an event whose `vector` says so: the page at `address`, code of a file that is mapped privately, is the page
// `physical`; the call may be replaced in a copy, and the copy mapped. Copies belong to `owner`, not 0: they are shown in no
// space but those for which an owner's replacement was asked last. Programs of one owner may harm each other anyway.
MACHINE_OPERATION4(void, text_replace, int64_t, space, uint64_t, address, uint64_t, physical, uint64_t, owner)

// A user thread of a space: a negative error number or a handle. It runs with the registers given, until `event`. The
// thread's extended state stays with the handle; a new handle has the processor's initial state.
MACHINE_OPERATION1(int64_t, user_create, int64_t, space)
MACHINE_OPERATION1(void, user_destroy, int64_t, user)
MACHINE_OPERATION4(void, user_run, int64_t, user, struct machine_registers *, registers, struct machine_event *, event, uint64_t, deadline)
// The extended state in XSAVE's standard format, boot_info.xstate_size bytes; write checks it and fails with -EINVAL.
MACHINE_OPERATION3(int64_t, user_xstate_read, int64_t, user, void *, buffer, uint64_t, size)
MACHINE_OPERATION3(int64_t, user_xstate_write, int64_t, user, const void *, buffer, uint64_t, size)
// Gives `to` the extended state of `from` (fork).
MACHINE_OPERATION2(int64_t, user_xstate_copy, int64_t, from, int64_t, to)

// Registers a virtqueue by the guest-physical addresses of its three parts (split ring); `size` 0 takes it away.
MACHINE_OPERATION6(int64_t, device_queue, uint64_t, device, uint64_t, queue, uint64_t, size, uint64_t, descriptors, uint64_t, available, uint64_t, used)
// Tells the device that the queue's available ring has grown. Requests may be complete when it returns.
MACHINE_OPERATION2(void, device_kick, uint64_t, device, uint64_t, queue)

// The machine's log (the monitor's, or a serial line).
MACHINE_OPERATION2(void, console_write, const uint8_t *, bytes, uint64_t, count)
MACHINE_OPERATION2(void, random, void *, buffer, uint64_t, count)
// Ends the machine; `status` is the exit status that the monitor reports: the command's, as waitpid's status word.
MACHINE_OPERATION1(void, power_off, uint64_t, status)
// The contents of these frames are no longer needed; they read as zero afterwards when the result is 1, else unchanged.
MACHINE_OPERATION2(int64_t, memory_release, uint64_t, physical, uint64_t, length)
// The frames of these 2 MiB extents, aligned to 2 MiB, will be used together: the machine puts large pages behind them
// if it can, and answers how many of the extents have one. Contents stay as they are.
MACHINE_OPERATION2(int64_t, memory_enlarge, uint64_t, physical, uint64_t, length)
// A kernel stack out of guest memory: maps the MACHINE_STACK_SIZE bytes at `physical`, a multiple of that, a second time, with
// a guard below; the lowest usable address, or 0. With an earlier result in `old` it takes that mapping away, and returns the
// guest-physical address.
#define MACHINE_STACK_SIZE 0x8000ull
MACHINE_OPERATION2(uint64_t, thread_stack, uint64_t, physical, uint64_t, old)

// Makes the image's code unwritable, once its sites have been patched.
MACHINE_OPERATION0(int64_t, text_seal)

// MARK: Not operations: the same on every machine

// The frame pointer of the caller, where a backtrace starts.
static inline __attribute__((always_inline)) uint64_t machine_frame_pointer(void) {
  return (uint64_t)__builtin_frame_address(0);
}

// CPUID: eax, ebx, ecx, edx of a leaf and subleaf.
static inline __attribute__((always_inline)) void machine_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *result) {
  __asm__ volatile("cpuid" : "=a"(result[0]), "=b"(result[1]), "=c"(result[2]), "=d"(result[3]) : "a"(leaf), "c"(subleaf));
}

// The vDSO's ELF image and its size in bytes; 0 bytes on the fake machine.
const uint8_t *machine_vdso(uint64_t *size);

// The processor's basic features (CPUID leaf 1, EDX), which programs find in AT_HWCAP.
static inline __attribute__((always_inline)) uint32_t machine_cpu_features(void) {
  uint32_t a = 1, b, c = 0, d;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return d;
}

// Saves the callee-saved registers on the current stack, stores the stack pointer in *from and continues on `to`.
void machine_switch_stack(uint64_t *from, uint64_t to);
// Prepares a fresh stack whose first switch calls entry(argument); returns the stack pointer to switch to.
uint64_t machine_prepare_stack(uint64_t top, void (*entry)(void *), void *argument);

#endif
