// Structures of process control, time and limits: clone3(2), getrusage(2), times(2), sysinfo(2), uname(2), capget(2),
// timer_create(2), setitimer(2); and the ELF file format (System V ABI, chapter 4).
#ifndef LINUX_PROCESS_H
#define LINUX_PROCESS_H
#include <stdint.h>

struct linux_clone_args {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

struct linux_time_pair { int64_t seconds, fraction; };  // timespec (nanoseconds) and timeval (microseconds)
struct linux_interval { struct linux_time_pair interval, value; };

struct linux_rusage {
  struct linux_time_pair user_time, system_time;
  int64_t maxrss, ixrss, idrss, isrss, minflt, majflt, nswap, inblock, oublock, msgsnd, msgrcv, nsignals, nvcsw, nivcsw;
};

struct linux_tms { int64_t user, system, children_user, children_system; };

struct linux_sysinfo {
  int64_t uptime;
  uint64_t loads[3];
  uint64_t totalram, freeram, sharedram, bufferram, totalswap, freeswap;
  uint16_t procs, padding;
  uint32_t padding2;
  uint64_t totalhigh, freehigh;
  uint32_t mem_unit;
  uint32_t padding3;
};

struct linux_cap_header { uint32_t version; int32_t pid; };
struct linux_cap_data { uint32_t effective, permitted, inheritable; };

struct linux_robust_list_head { uint64_t next; int64_t futex_offset; uint64_t pending; };

struct linux_sched_attr {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
  uint32_t util_min, util_max;
};

struct elf64_header {
  uint8_t ident[16];
  uint16_t type, machine;
  uint32_t version;
  uint64_t entry, program_offset, section_offset;
  uint32_t flags;
  uint16_t header_size, program_entry_size, program_count, section_entry_size, section_count, string_section;
};

struct elf64_program_header {
  uint32_t type, flags;
  uint64_t offset, virtual_address, physical_address, file_size, memory_size, alignment;
};
#endif
