// Guest code that jumps to the stub. A guest can execute each instruction of the stub with registers of its choice: the filter of the
// process, not the stub's code, stands between it and the host. Each SYSCALL instruction of the stub is tried with system calls that
// would break the isolation, from 64-bit and from 32-bit code; the pages of the stub are written to; the kernel's memory calls
// are given addresses in the reserved region; and privileged instructions are executed. None may reach the host or change the stub.
//
// expect: ok no page of the stub is writable .*
// expect: ok no host call .*
// expect: ok the reserved region .*
// run: --cpus 2 --user 0 -- @ users
// run: --cpus 1 --user 0 -- @
#include "attack.h"

// Stores to every page that belongs to the stub. The control is a page that is writable: the test sees the store succeed.
static void write_pages(void) {
  const uint64_t regions[][2] = {
    {UM_GATE, UM_GATE + UM_GATE_SIZE},
    {UM_CODE, UM_PARAMETERS + UM_PART},
    {UM_HOST_CLOCK, UM_HOST_CLOCK + UM_HOST_CLOCK_SIZE},
  };
  volatile int tried = 0, written = 0;
  catch_faults();
  for (volatile int i = 0; i < 3; i++)
    for (volatile uint64_t page = regions[i][0]; page < regions[i][1]; page += 4096) {
      tried++;
      if (TRAPPED(*(volatile char *)(page + 8) = *(volatile char *)page) == 0) {
        written++;
        say("page %lx of the stub is writable", page);
      }
    }
  check(tried > 64 && written == 0, "no page of the stub is writable (%d tried)", tried);
  check(TRAPPED(U64(own_report() + 2048) = 0) == 0, "control: a store to the own report succeeds");
}

// System calls of the kernel on the reserved region: nothing may be mapped, unmapped, protected or read there.
static void change_reserved_region(void) {
  const uint64_t places[] = {
    0, 0x1000, UM_GATE, UM_CODE, UM_CONSTANTS, UM_RING, UM_PARAMETERS, REPORT(0), REPORT(1), UM_HOST_CLOCK,
    UM_HOST_CLOCK + UM_HOST_CLOCK_SIZE, UM_TASK_END - 4096,
  };
  char *page = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  int changed = 0, ends[2];
  MUST(pipe(ends));
  for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
    void *at = (void *)places[i];
    // Below the first address of programs root may map, as on Linux; the gate stays out of reach.
    if (places[i] >= UM_GATE || getuid() != 0) {
      if (mmap(at, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
        changed++, say("mmap changed %p", at);
    }
    if (places[i] < UM_GATE) continue;
    if (mprotect(at, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0) changed++, say("mprotect changed %p", at);
    if (madvise(at, 4096, MADV_DONTNEED) == 0) changed++, say("madvise changed %p", at);
    if (mlock(at, 4096) == 0) changed++, say("mlock found %p", at);
    if (mremap(at, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page) != MAP_FAILED) changed++, say("mremap moved %p", at);
    if (mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, at) != MAP_FAILED) changed++, say("mremap reached %p", at);
    if (write(ends[1], at, 64) > 0) changed++, say("write read %p", at);
  }
  check(changed == 0, "the reserved region is out of reach of system calls");
  check(write(ends[1], page, 64) == 64 && mprotect(page, 4096, PROT_NONE) == 0, "control: the same calls work on a page of the program");
}

static const struct { const char *name; long number, arguments[6]; } host_calls[] = {
  {"getppid", SYS_getppid, {}},
  {"mmap", SYS_mmap, {0x60000000, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, UM_FD_MEMORY, 0}},
  {"mprotect", SYS_mprotect, {UM_CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC}},
  {"munmap", SYS_munmap, {UM_CODE, 4096}},
  {"write", SYS_write, {UM_FD_EVENTS, UM_CONSTANTS, 8}},
  {"clone", SYS_clone, {0x50f00}},
  {"seccomp", SYS_seccomp, {1, 0, UM_USER_FILTER}},
  {"exit", SYS_exit, {0}},
  {"openat", SYS_openat, {-100, (long)"/etc/passwd", 0}},
  {"kill", SYS_kill, {1, 0}},
  {"ptrace", SYS_ptrace, {0x4206, 1}},
  {"execve", SYS_execve, {(long)"/bin/sh", 0, 0}},
  {"prctl", SYS_prctl, {15, (long)"x"}},
  {"process_vm_readv", SYS_process_vm_readv, {1}},
  {"io_uring_setup", SYS_io_uring_setup, {1}},
  {"futex WAKE_OP", SYS_futex, {UM_CODE, 5, 1, 1, UM_CODE, 0}},
  {"futex LOCK_PI", SYS_futex, {REPORT(0) + UM_REPORT_AWAKE, 6}},
  {"futex LOCK_PI2", SYS_futex, {REPORT(0) + UM_REPORT_AWAKE, 13}},
  {"uretprobe", 335, {}},
  {"x32 getpid", 0x40000000 + SYS_getpid, {}},
};

// A child jumps to a site. What the filter of the process refuses comes to the kernel as a system call of the program; execution goes on
// in the stub, and ends by a fault or by the exit of the stub, which the kernel serves too. A host call that succeeds leaves a trace.
static void *jump_target;
static uid_t jump_user;  // a user for each attempt: one owes the time of a program that had to be ended
static long jump_number, jump_arguments[6];
static void jump(void) {
  if (jump_user != 0) become_user(jump_user);
  catch_faults();
  alarm(1);
  register long r10 __asm__("r10") = jump_arguments[3], r8 __asm__("r8") = jump_arguments[4], r9 __asm__("r9") = jump_arguments[5];
  register void *target __asm__("r11") = jump_target;
  // The registers in which the stub keeps its ring and parameters point nowhere: with memory of ours as a ring, the stub's code would
  // make any system calls for us, for ever.
  if (sigsetjmp(trapped_back, 1) == 0)
    __asm__ volatile(
      "mov $8, %%ebx; mov $8, %%ebp; mov $8, %%r12d; mov $8, %%r13d; mov $8, %%r14d; mov $8, %%r15d; call *%%r11" ::"a"(jump_number),
      "D"(jump_arguments[0]), "S"(jump_arguments[1]), "d"(jump_arguments[2]), "r"(r10), "r"(r8), "r"(r9), "r"(target)
      : "memory");
  // Here after a fault only.
  if (jump_number == SYS_mmap && TRAPPED(U64(0x60000000)) == 0 && U64(0x60000000) != 0) _exit(51);
  if (jump_number == SYS_munmap && TRAPPED(U32(UM_CODE)) != 0) _exit(52);
  if (jump_number == SYS_mprotect && TRAPPED(U32(UM_CODE) = U32(UM_CODE)) == 0) _exit(53);
  _exit(50);
}

static void call_host(void) {
  const int calls = sizeof host_calls / sizeof *host_calls;
  int attempts = 0, effects = 0;
  find_stub_sites();
  for (int site = 0; site < stub_site_count; site++)
    for (int i = 0; i < calls; i++) {
      jump_target = (void *)stub_sites[site];
      jump_number = host_calls[i].number;
      memcpy(jump_arguments, host_calls[i].arguments, sizeof jump_arguments);
      if (jump_user != 0) jump_user++;
      int end = outcome(in_child(jump));
      attempts++;
      // 0: an exit or a shell that the kernel served; 1: the exit of the stub's code, served by the kernel as well.
      if (end > 1 && end < 1000 && end != 50) effects++, say("site %d with %s: the child ended with %d", site, host_calls[i].name, end);
    }
  check(stub_site_count >= 3 && effects == 0, "no host call through the stub's sites (%d attempts)", attempts);
}

// 32-bit code enters the kernel by other numbers, which a filter for 64-bit numbers would misread.
static void compatibility_mode(void) {
  static const uint8_t entries[][3] = {{0xcd, 0x80, 0xf4}, {0x0f, 0x34, 0xf4}, {0x0f, 0x05, 0xf4}};
  catch_faults();
  uint8_t *low = MUST(mmap((void *)0x30000000, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
  volatile int refused = 0;
  for (volatile int i = 0; i < 3; i++) {
    memcpy(low, "\xb8\x14\0\0\0", 5);  // getpid of the 32-bit interface
    memcpy(low + 5, entries[i], 3);
    refused += TRAPPED(__asm__ volatile("mov $0x30002000, %%eax; mov %%rax, %%rsp; pushq $0x23; pushq %0; lretq" ::"r"((uint64_t)low) : "rax", "memory")) != 0;
  }
  check(refused == 3, "32-bit code reaches no system call");
  volatile int result = -1;
  int signal = TRAPPED(({ int value = 20; __asm__ volatile("int $0x80" : "+a"(value)::"memory"); result = value; }));
  check(signal != 0 || result < 0, "int 0x80 from 64-bit code ends in a signal or an error");
}

static void privileged_instructions(void) {
  volatile int tried = 0, trapped = 0;
  catch_faults();
#define PRIVILEGED(text) tried++, trapped += TRAPPED(__asm__ volatile(text ::: "memory", "rax", "rbx", "rcx", "rdx")) != 0
  PRIVILEGED("cli");
  PRIVILEGED("sti");
  PRIVILEGED("hlt");
  PRIVILEGED("in $0x60, %%al");
  PRIVILEGED("mov %%cr0, %%rax");
  PRIVILEGED("rdmsr");
  PRIVILEGED("lgdt (%%rsp)");
  PRIVILEGED("wbinvd");
  PRIVILEGED("swapgs");
  PRIVILEGED("sysretq");
  PRIVILEGED("mov $0xffff, %%eax; mov %%eax, %%ds");
  PRIVILEGED("int $0x2e");
  PRIVILEGED("ud2");
#undef PRIVILEGED
  check(trapped == tried, "%d privileged instructions trap", tried);
  check(TRAPPED(__asm__ volatile("nop")) == 0, "control: another instruction does not");
}

int main(int count, char **words) {
  (void)words;
  if (count > 1) jump_user = 2000;
  write_pages();
  change_reserved_region();
  call_host();
  compatibility_mode();
  privileged_instructions();
  return attack_end();
}
