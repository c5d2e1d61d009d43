// The user machine: runs user code of the guest in processes of the host, one for each guest address space.
//
// Who calls what: the monitor configures and starts the machine (um_initialize), creates the threads that serve as
// CPUs and points the ROM's entries at the um_ functions which carry the names of machine.h. Those run on the host
// stack of a CPU's thread, after um_cpu_attach. um_raise_interrupt may be called by any thread.
//
// Errors are negative Linux error numbers, as in machine.h.

#ifndef USER_MACHINE_H
#define USER_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine.h"

// User programs may use the addresses from the first of these up to the second: below and above it lie the stub's
// code and data, in every user process.
#define UM_USER_MINIMUM 0x20000ull
#define UM_USER_LIMIT 0x7ffff0000000ull
#define UM_MAX_THREADS_PER_SPACE 1024
#define UM_MAX_SPACES 4096

// Rules that the attack tests turn off one by one, to show that each of them is what stops its attack.
enum um_test_switch {
  UM_TEST_NO_FILTERS = 1,        // user threads and mappers run without a seccomp filter
  UM_TEST_WRITABLE_PARAMETERS = 2,  // the kernel's parameter pages and command rings are writable by user code
  UM_TEST_NO_EXECUTION_LIMIT = 4,   // a thread that ignores the preemption signal is not killed
  UM_TEST_NO_PROOF = 8,             // a user process gets its next program without a proof that its thread is at rest
  UM_TEST_UNCONFINED = 16,          // um_confine does nothing
  UM_TEST_NO_GATE = 32,             // every system call traps
  UM_TEST_ALL_QUICK = 64,           // a system call counts as quick however long it took
  UM_TEST_NO_BARRIER = 128,         // as on a host that grants no branch-predictor barrier
};

// How a CPU and its user threads wait for each other.
enum um_hand_over {
  UM_HAND_OVER_AUTOMATIC = 0,  // adaptive where the host has two CPUs for each, else sleeping
  UM_HAND_OVER_SLEEPING = 1,   // on one host CPU, each asleep while the other runs
  UM_HAND_OVER_POLLING = 2,    // always on two host CPUs, polling for the given times
  UM_HAND_OVER_ADAPTIVE = 3,   // a thread polls while it makes one quick system call after another
};

struct um_config {
  uint64_t memory_size;     // bytes of guest memory, a multiple of the page size
  uint32_t cpu_count;       // 1 … MACHINE_MAX_CPUS
  uint32_t maximum_spaces;  // 0: UM_MAX_SPACES
  uint32_t pool_size;       // empty user processes kept ready; 0: 4
  uint32_t maximum_threads; // host threads for user threads, in all spaces together; 0: no limit
  uint64_t mapping_limit;   // bytes that the mappings of user processes may cost the host's kernel; 0: an eighth of memory and 32 MiB
  uint32_t test_switches;   // a set of um_test_switch; 0 in production
  uint32_t hand_over;       // enum um_hand_over
  uint32_t zygote_namespaces;  // CLONE_NEW… flags: what user processes leave of the host, as far as it permits
  // UM_HAND_OVER_POLLING: TSC ticks for which a CPU polls for the event of its user thread, and a user thread for its
  // resumption, before they sleep.
  uint64_t kernel_spin, user_spin;
  // Runs as CPU `index`, on a thread that um_cpu_start made and attached.
  void (*cpu_main)(uint64_t index);
};

// Why um_initialize failed, for messages.
struct um_failure {
  int64_t error;      // a negative error number
  const char *step;   // what was being done, a C string constant
};

// What a machine takes of the host's limits beside what the monitor has already: bytes of address space (RLIMIT_AS), of them
// private memory that may be written to (RLIMIT_DATA), and of the largest memory file (RLIMIT_FSIZE). Most of it is
// reserved only and costs no memory.
struct um_needs {
  uint64_t address_space, private_memory, file_size;
};
void um_needs(const struct um_config *config, struct um_needs *needs);
// How many descriptors the process has from which others are cloned, and the lowest number from which on it needs as many more
// while it starts.
int um_zygote_files(int *base);

// Starts the machine: guest memory, the process from which user processes are cloned, and the first of them.
// Returns 0 or a negative error number, with `failure` (may be NULL) telling the step.
int64_t um_initialize(const struct um_config *config, struct um_failure *failure);
// Kills every user process and gives everything back. No CPU may be running.
void um_shutdown(void);

// Guest-physical address 0, in this process.
uint8_t *um_memory_base(void);
// Bytes of a thread's extended state (machine_boot_info.xstate_size).
uint64_t um_xstate_size(void);

// The kernel image: a processor exception whose rip lies in the range calls `trap` on the interrupted stack.
void um_set_kernel(uint64_t image_base, uint64_t image_end, void (*trap)(struct machine_trap_frame *));

// What is done last when the monitor fails by a signal: it ends with a message and status 125. Called in a signal handler.
void um_set_last_act(void (*act)(void));

// Makes the calling thread CPU `index`: pins it to a host CPU and gives it an alternate signal stack.
int64_t um_cpu_attach(uint64_t index);
void um_cpu_detach(void);
// The stack with which a CPU enters the kernel, of `size` bytes, with a guard below; its lowest usable address, or 0.
uint64_t um_first_stack(uint64_t size);
// The index of the calling thread's CPU, or -1.
int64_t um_cpu_index(void);
// Waits until the threads made by um_cpu_start have returned from cpu_main.
void um_cpu_join(void);

// Makes `bit` (1 + device number) of CPU `cpu`'s interrupts pending. Any thread.
void um_raise_interrupt(uint64_t cpu, uint32_t bit);

// A system call that is allowed: with any arguments, or when argument number `argument` (0 … 5), a C int, has `value`.
struct um_permission {
  uint32_t number;
  int32_t argument;  // -1: any arguments
  uint32_t value;
};
// Restricts this process, with all its threads, to the system calls that the machine needs and those in `extra`. For good:
// any other call ends the process with a message and status 125. After um_set_kernel.
int64_t um_confine(const struct um_permission *extra, size_t count);
// The exception: at `place`, the address behind the SYSCALL instruction by which devices do what requests of the guest ask for,
// a call that is not allowed fails with EPERM. A line on standard error names each such call once. Before um_confine.
void um_set_refusable_call(uint64_t place);
// Forbids for good that any memory becomes executable: once the kernel's text is sealed. After um_confine.
int64_t um_confine_text(void);
// Restricts the calling thread further, to what its kind of work needs. Does nothing before um_confine_text, and again.
enum um_thread_kind { UM_THREAD_REAPER, UM_THREAD_MAKER, UM_THREAD_WATCH, UM_THREAD_STREAMS, UM_THREAD_DISK };
void um_confine_thread(enum um_thread_kind kind);

// MARK: The operations of machine.h

void um_pause(uint64_t spins);
uint64_t um_clock_monotonic(void);
uint64_t um_clock_realtime(void);
void um_idle(uint64_t deadline);
uint64_t um_interrupts_pending(void);
int64_t um_cpu_start(uint64_t index);
void um_cpu_kick(uint64_t index);

int64_t um_space_create(uint64_t user);
void um_space_user(int64_t space, uint64_t user);
void um_space_destroy(int64_t space);
void um_space_map(int64_t space, uint64_t address, uint64_t physical, uint64_t length, uint64_t protection);
void um_space_unmap(int64_t space, uint64_t address, uint64_t length);
void um_space_protect(int64_t space, uint64_t address, uint64_t length, uint64_t protection);
int64_t um_space_commit(int64_t space);
void um_text_replace(int64_t space, uint64_t address, uint64_t physical, uint64_t owner);

int64_t um_user_create(int64_t space);
void um_user_destroy(int64_t user);
void um_user_run(int64_t user, struct machine_registers *registers, struct machine_event *event, uint64_t deadline);
int64_t um_user_xstate_read(int64_t user, void *buffer, uint64_t size);
int64_t um_user_xstate_write(int64_t user, const void *buffer, uint64_t size);
int64_t um_user_xstate_copy(int64_t from, int64_t to);

void um_random(void *buffer, uint64_t count);
int64_t um_memory_release(uint64_t physical, uint64_t length);
int64_t um_memory_enlarge(uint64_t physical, uint64_t length);
uint64_t um_thread_stack(uint64_t physical, uint64_t old);

// Values of machine_event.vector in a MACHINE_EVENT_FOREIGN.
enum um_foreign_entry { UM_FOREIGN_INT80 = 0x80, UM_FOREIGN_X32 = 0x32, UM_FOREIGN_VSYSCALL = 0xff };

// MARK: Knowledge

// What the host offers, for `apus info`. Works before um_initialize.
struct um_probe {
  uint32_t fsgsbase;        // 1: user code may read and write the FS and GS bases
  uint32_t seccomp;         // 1: filters can be installed
  uint32_t memfd;           // 1: memfd_create works, with seals
  uint32_t host_cpus;       // CPUs that this process may use
  uint32_t hand_over;       // enum um_hand_over: what the running machine does; before: what one CPU would do
  uint64_t xstate_size;
  uint64_t xstate_features; // XCR0 as far as user programs get it
  uint64_t signal_frame;    // the largest signal frame (AT_MINSIGSTKSZ)
  uint64_t maximum_areas;   // vm.max_map_count: mappings of one user process
  uint64_t maximum_processes, maximum_files;  // resource limits; UINT64_MAX: none
  uint32_t barrier;         // 1: branch predictors can be cleared between programs of different users, or need not be
};
void um_probe(struct um_probe *probe);

// For tests: the length of the instruction at `at` (0: not known), and the replacement of the SYSCALL at `site` in a page of
// code, some of whose sites may have been replaced before; false when there is no room.
uint32_t um_instruction_length(const uint8_t *at, uint32_t available);
bool um_patch_page(const uint8_t *original, uint8_t *page, uint32_t site);

// Why a user process was ended by the monitor.
enum um_reason {
  UM_REASON_UNRESPONSIVE,  // it had a host CPU and did not answer the preemption signal
  UM_REASON_ASLEEP,        // it slept in the host where it should have run
  UM_REASON_UNGRANTED,     // it used more of the host's time than its threads were given
  UM_REASON_MAPPER,        // its mapper slept over commands
  UM_REASON_FORGED,        // its report named a signal frame where none can be
  UM_REASON_COUNT
};

struct um_statistics {
  uint64_t spaces_created, spaces_destroyed, processes_made, processes_reaped, processes_reused, threads_made;
  uint64_t runs, syscalls, faults, interrupts, kicks, commands, acknowledgements;
  uint64_t commands_lost;                 // commands that found no room in their ring: their range was unmapped instead
  uint64_t spaces_dropped, mapping_cost;  // spaces that lost their mappings for their cost, and what all cost now
  uint64_t gate_calls, sites_replaced;  // system calls that came without a trap, and the places where they were made
  uint64_t polled_runs, polling_begun, polling_ended;  // runs on two host CPUs, and how often threads went there and back
  uint64_t condemned[UM_REASON_COUNT];  // user processes that were ended, by reason
  uint64_t wakeups_repeated;            // threads that slept through their resumption and were woken again
  uint64_t barriers;                    // of branch predictors, between programs of different users in one process
  uint64_t processes_discarded;         // processes that a program left behind and that could not be used again
};
void um_statistics(struct um_statistics *statistics);

// The address, in every user process, of the host's own clock_gettime (vdso(7)), a function of the C convention for user
// code; 0 when the host has none that could be kept. Where it cannot tell the time itself it makes a system call, which
// traps like any other.
uint64_t um_vdso_clock_gettime(void);

// Those of um_config.zygote_namespaces that the host has permitted.
uint32_t um_zygote_namespaces(void);

// The host process of a space and the host thread of a user thread, for tests and `apus info`; 0 when there is none.
int32_t um_space_process(int64_t space);
int32_t um_user_thread(int64_t user);

#endif
