// Does anything of one program reach the next? A process serves one program after another, frames of memory and kernel stacks go from
// hand to hand. Programs leave marks in every register of the processor that they can write (vectors, masks, x87, control words, segment
// selectors and bases) and in memory; new programs and processes look for the marks: in their own extended state at the first instruction,
// in fresh memory of each kind, in holes and tails of files, and in the padding of structures that the kernel fills.
//
// run: --cpus 2 --user 0 --memory 512M -- @
// expect: ok control: .*
// run: --cpus 1 --user 1000 --memory 512M -- @
#include "attack.h"

#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>

// No values that the C library leaves in registers before main.
#define MARK 0xa5a5a5a5a5a5a5a5ull
#define MASK_MARK 0xa5a5u
enum { AREA = 16384, MEMORY = 48 << 20 };
static unsigned char area[AREA] __attribute__((aligned(64)));

static bool has_avx512(void) { return __builtin_cpu_supports("avx512f"); }

__attribute__((target("avx512f"))) static void dirty_wide(void) {
  __asm__ volatile(
    "vpbroadcastq %0, %%zmm0; vmovdqa64 %%zmm0, %%zmm1; vmovdqa64 %%zmm0, %%zmm15; vmovdqa64 %%zmm0, %%zmm31;"
    "kmovw %1, %%k1; kmovw %1, %%k7" ::"r"(MARK), "r"(MASK_MARK) : "memory");
}

// Marks in every register of the extended state, the control words, the data selectors and the GS base.
static void dirty(void) {
  unsigned short control = 0x0f7f, selector = 0x2b;
  unsigned vector_control = 0xff80;
  if (has_avx512()) dirty_wide();
  __asm__ volatile("movq %0, %%xmm2; punpcklqdq %%xmm2, %%xmm2; movdqa %%xmm2, %%xmm5; movdqa %%xmm2, %%xmm14; fldpi; fldpi" ::"r"(MARK)
                   : "memory");
  __asm__ volatile("fldcw %0; ldmxcsr %1" ::"m"(control), "m"(vector_control));
  __asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"((unsigned)selector));
  __asm__ volatile("wrgsbase %0" ::"r"(0x123456789000ull));
}

// Parts of the extended state that are not as at the start of a program.
__attribute__((target("xsave"))) static int odd_state(void) {
  int odd = 0;
  memset(area, 0, sizeof area);
  __asm__ volatile("xsave64 %0" : "=m"(area) : "a"(~0u), "d"(~0u) : "memory");
  if (*(uint16_t *)area != 0x37f || *(uint32_t *)(area + 24) != 0x1f80) odd++;
  for (int i = 160; i < 512; i += 16) odd += *(uint64_t *)(area + i) == MARK;
  for (int i = 576; i < 12000; i += 8) odd += *(uint64_t *)(area + i) == MARK || *(uint64_t *)(area + i) == MASK_MARK;
  unsigned short es, ds, gs, fs;
  __asm__ volatile("mov %%es, %0; mov %%ds, %1; mov %%gs, %2; mov %%fs, %3" : "=r"(es), "=r"(ds), "=r"(gs), "=r"(fs));
  return odd + (es || ds || gs || fs);
}

static void look_after_execve(void) {
  int found = 0;
  for (int i = 0; i < 100; i++) {
    if (outcome(in_child(dirty)) != 0) found += 1000;
    pid_t child = MUST(fork());
    if (child == 0) {
      dirty();
      execl("/proc/self/exe", "leaks", "look", NULL);
      _exit(200);
    }
    found += outcome(child) != 0;
  }
  check(found == 0, "programs begin with a clean state of the processor (%d do not)", found);
  pid_t child = MUST(fork());
  if (child == 0) {
    dirty();
    _exit(odd_state() > 3 ? 0 : 1);
  }
  check(outcome(child) == 0, "control: the look finds the marks of its own process");
}

static long marks(const volatile void *at, size_t size) {
  const volatile unsigned char *bytes = at;
  long n = 0;
  for (size_t i = 0; i < size; i++) n += bytes[i] != 0;
  return n;
}

static void leave_marks_in_memory(void) {
  int ends[2];
  char *memory = MUST(mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  memset(memory, 0xa5, MEMORY);
  int file = MUST(open("/tmp/leaks-marks", O_RDWR | O_CREAT | O_TRUNC, 0600));
  for (int i = 0; i < 16; i++) MUST(write(file, memory, 1 << 20));
  MUST(unlink("/tmp/leaks-marks"));
  MUST(pipe(ends));
  MUST(write(ends[1], memory, 60000));
}

static void look_in_memory(void) {
  leave_marks_in_memory();  // The control: this process has them.
  check(outcome(in_child(leave_marks_in_memory)) == 0, "a process leaves marks in its memory");
  char *memory = MUST(mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  check(marks(memory, MEMORY) == 0, "fresh private memory is empty");
  memset(memory, 0xa5, 4096);
  check(marks(memory, 8192) == 4096, "control: marks are found");
  munmap(memory, MEMORY);
  memory = MUST(mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  check(marks(memory, MEMORY) == 0, "fresh shared memory is empty");
  munmap(memory, MEMORY);
  char *heap = sbrk(1 << 20);
  check(marks(heap + 4096, (1 << 20) - 4096) == 0, "a fresh heap is empty");
  int file = MUST(open("/tmp/leaks-file", O_RDWR | O_CREAT | O_TRUNC, 0600));
  MUST(unlink("/tmp/leaks-file"));
  MUST(ftruncate(file, 4 << 20));
  memory = MUST(mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  check(marks(memory, 4 << 20) == 0, "a hole of a file is empty");
  MUST(ftruncate(file, 100));
  memory[4000] = 7;  // behind the end: does not belong to the file
  MUST(ftruncate(file, 8192));
  char text[8192];
  MUST(pread(file, text, sizeof text, 0));
  check(marks(text, sizeof text) == 0, "a file that grows does not show what was written behind its end");
  if (fallocate(file, 0, 0, 2 << 20) == 0) check(marks(memory + 8192, (2 << 20) - 8192) == 0, "allocated space is empty");
  int shared = MUST(memfd_create("leaks", 0));
  MUST(ftruncate(shared, 1 << 20));
  memory = MUST(mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, shared, 0));
  check(marks(memory, 1 << 20) == 0, "a fresh memory file is empty");
  struct stat status;
  file = MUST(open("/proc/self/exe", O_RDONLY));
  MUST(fstat(file, &status));
  memory = MUST(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, status.st_size & ~4095));
  check(marks(memory + status.st_size % 4096, 4096 - status.st_size % 4096) == 0, "behind the end of a host's file the page is empty");
}

// Bytes of a structure between two offsets that the kernel neither left alone nor set to 0.
static int padding(const unsigned char *bytes, int from, int to) {
  int n = 0;
  for (int i = from; i < to; i++) n += bytes[i] != 0xee && bytes[i] != 0;
  return n;
}

static void look_in_padding(void) {
  unsigned char bytes[4096];
  int found = 0;
#define LOOK(call, from, to)                        \
  do {                                              \
    memset(bytes, 0xee, sizeof bytes);              \
    call;                                           \
    int n_ = padding(bytes, from, to);              \
    if (n_) say("%d bytes after %s", n_, #call);    \
    found += n_;                                    \
  } while (0)
  LOOK(syscall(SYS_newfstatat, AT_FDCWD, "/", bytes, 0), 120, 144);
  LOOK(syscall(SYS_statx, AT_FDCWD, "/", 0, 0xfff, bytes), 0xb8, 0x100);
  LOOK(syscall(SYS_uname, bytes), 65 * 4 + 7, 65 * 5);
  LOOK(syscall(SYS_sysinfo, bytes), 108, 112);
  LOOK(syscall(SYS_sysinfo, bytes), 82, 88);
  LOOK(syscall(SYS_statfs, "/", bytes), 88, 120);
  siginfo_t information;
  if (MUST(fork()) == 0) _exit(3);
  memset(&information, 0xee, sizeof information);
  if (fork() == 0) _exit(3);
  waitid(P_ALL, 0, &information, WEXITED);
  found += padding((unsigned char *)&information, 28, 128);
  int directory = MUST(open("/", O_RDONLY | O_DIRECTORY));
  memset(bytes, 0xee, sizeof bytes);
  long n = syscall(SYS_getdents64, directory, bytes, sizeof bytes);
  for (long at = 0; at < n;) {
    int length = *(uint16_t *)(bytes + at + 16), end = 19 + strlen((char *)bytes + at + 19) + 1;
    found += padding(bytes + at, end, length);
    at += length;
  }
  check(found == 0, "structures of the kernel have nothing in their padding (%d bytes)", found);
  memset(bytes, 0x11, 8);
  check(padding(bytes, 0, 8) == 8, "control: bytes in padding are found");
}

int main(int count, char **words) {
  if (count > 1 && !strcmp(words[1], "look")) return odd_state();
  look_after_execve();
  look_in_memory();
  look_in_padding();
  return attack_end();
}
