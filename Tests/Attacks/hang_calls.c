// Long system calls on a machine with one CPU: while one runs, another program that wants the CPU gets it. Each call is made with
// a range so large that it takes a fifth of a second of CPU time at least; the caller must then have lost the CPU once for each
// 50 ms of that. CPU time and switches are counted, real time is not: a busy host changes neither. What cannot be made to take so
// long, within the limits of the kind, passes.
// The control: a computation in user mode, which the kernel interrupts, loses the CPU in the same way.
//
// run: --cpus 1 --memory 512M --user 1000 -- @
// expect: ok in user mode .*
// expect: ok no call keeps .*
// run: --cpus 1 --memory 512M --user 0 -- @
// expect: ok no call keeps .*
#include "attack.h"
#include "sandbox_only.h"

#include <poll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static volatile long *count;  // of the other program
static char *space;           // 256 MiB
static int zero, null, random_device;
static int loud;  // calls that took long enough

#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

// CPU time in microseconds, and switches to others while there was more to do, of this program and its children.
static int64_t used(long *switches) {
  int64_t time = 0;
  *switches = 0;
  for (int i = 0; i < 2; i++) {
    struct rusage usage;
    getrusage(i ? RUSAGE_CHILDREN : RUSAGE_SELF, &usage);
    time += (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    *switches += usage.ru_nivcsw;
  }
  return time;
}

// The calls: `size` is in bytes and at most `most`.
static void c_user(uint64_t size) { for (volatile uint64_t i = 0; i < size / 16; i++) {} }
static void c_read_zero(uint64_t size) { read(zero, space, size); }
static void c_readv_zero(uint64_t size) { struct iovec parts[16]; for (int i = 0; i < 16; i++) parts[i] = (struct iovec){space, size / 16}; readv(zero, parts, 16); }
static void c_read_random(uint64_t size) { read(random_device, space, size); }
static void c_getrandom(uint64_t size) { getrandom(space, size, 0); }
static void c_write_null(uint64_t size) { write(null, space, size); }
static void c_mincore(uint64_t size) {
  static unsigned char *result;
  if (!result) result = mmap(NULL, 1 << 28, PROT_READ | PROT_WRITE, PRIVATE, -1, 0);
  char *range = mmap(NULL, size, PROT_READ | PROT_WRITE, PRIVATE, -1, 0);
  mincore(range, size, result);
  munmap(range, size);
}
static void c_populate(uint64_t size) { char *range = mmap(NULL, size, PROT_READ, PRIVATE, -1, 0); madvise(range, size, 22); munmap(range, size); }
static void c_fill(uint64_t size) { char *range = mmap(NULL, size, PROT_READ | PROT_WRITE, PRIVATE | MAP_POPULATE, -1, 0); munmap(range, size); }
static void c_sparse(uint64_t size) {
  char *range = mmap(NULL, size, PROT_READ | PROT_WRITE, PRIVATE, -1, 0);
  madvise(range, size, MADV_DONTNEED);
  mprotect(range, size, PROT_READ);
  madvise(range, size, MADV_COLD);
  munmap(range, size);
}
static void c_process_read(uint64_t size) { struct iovec near = {space, size}, far = {space + (128 << 20), size}; process_vm_readv(getpid(), &near, 1, &far, 1, 0); }
static void c_pipe(uint64_t size) { int ends[2]; if (pipe(ends)) return; fcntl(ends[1], F_SETPIPE_SZ, 1 << 20); fcntl(ends[1], F_SETFL, O_NONBLOCK); for (uint64_t done = 0; done < size; done += 1 << 20) { write(ends[1], space, 1 << 20); read(ends[0], space, 1 << 20); } close(ends[0]); close(ends[1]); }
static void c_file(uint64_t size) {
  int file = open("/dev/shm/hang", O_CREAT | O_RDWR | O_TRUNC, 0600), other = open("/dev/shm/hang.other", O_CREAT | O_RDWR | O_TRUNC, 0600);
  write(file, space, size);
  syscall(SYS_copy_file_range, file, NULL, other, NULL, size, 0);
  loff_t at = 0;
  sendfile(null, file, &at, size);
  fallocate(file, FALLOC_FL_ZERO_RANGE, 0, size);
  ftruncate(file, 0);
  close(file);
  close(other);
  unlink("/dev/shm/hang");
  unlink("/dev/shm/hang.other");
}
static void c_holes(uint64_t size) { int file = memfd_create("hang", 0); ftruncate(file, size); pread(file, space, 4096, size / 2); lseek(file, 0, SEEK_DATA); sendfile(null, file, NULL, size); close(file); }
static void c_poll(uint64_t size) { static struct pollfd list[1000]; for (int i = 0; i < 1000; i++) list[i].fd = zero; for (uint64_t done = 0; done < size; done += 1 << 20) poll(list, 1000, 0); }
static void c_move_pages(uint64_t size) { static void *pages[1 << 16]; static int status[1 << 16]; for (int i = 0; i < 1 << 16; i++) pages[i] = space; for (uint64_t done = 0; done < size; done += 1 << 20) syscall(SYS_move_pages, 0, 1 << 16, pages, NULL, status, 0); }
static void c_areas(uint64_t size) {
  if (fork() == 0) {
    char *range = mmap(NULL, size, PROT_READ, PRIVATE, -1, 0);
    for (uint64_t at = 0; at < size; at += 8192) mprotect(range + at, 4096, PROT_NONE);
    mprotect(range, size, PROT_READ | PROT_WRITE);
    for (uint64_t at = 0; at < size; at += 8192) mprotect(range + at, 4096, PROT_NONE);
    if (fork() == 0) _exit(0);
    wait(NULL);
    _exit(0);
  }
  wait(NULL);
}
static void c_exit(uint64_t size) {
  if (fork() == 0) {
    char *range = mmap(NULL, size, PROT_READ | PROT_WRITE, PRIVATE | MAP_POPULATE, -1, 0);
    if (range != MAP_FAILED) range[0] = 1;
    _exit(0);
  }
  wait(NULL);
}
static void c_getdents(uint64_t size) {
  static int made;
  char name[64];
  for (; made < 5000; made++) {
    snprintf(name, sizeof name, "/dev/shm/hang.%d", made);
    close(open(name, O_CREAT, 0600));
  }
  for (uint64_t done = 0; done < size; done += 1 << 20) {
    int directory = open("/dev/shm", O_DIRECTORY);
    while (syscall(SYS_getdents64, directory, space, 1 << 20) > 0) {}
    close(directory);
  }
}
static void c_close_range(uint64_t size) {
  for (uint64_t done = 0; done < size; done += 1 << 20) {
    for (int i = 0; i < 900; i++) dup(zero);
    syscall(436, 10, ~0u, 0);
  }
}
static void c_arguments(uint64_t size) {
  static char *list[2000];
  for (int i = 0; i < 1999; i++) list[i] = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
  for (uint64_t done = 0; done < size; done += 4 << 20) {
    if (fork() == 0) _exit(execv("/mnt/hang_calls", (list[0] = "hang_calls", list[1] = "--exit", list)));
    wait(NULL);
  }
}

static const struct call { const char *name; void (*run)(uint64_t); uint64_t least, most; } calls[] = {
    {"a computation in user mode", c_user, 1 << 20, 1ull << 40}, {"read of /dev/zero", c_read_zero, 1 << 24, 1 << 30},
    {"readv of /dev/zero", c_readv_zero, 1 << 24, 1 << 28}, {"read of /dev/urandom", c_read_random, 1 << 24, 1 << 28}, {"getrandom", c_getrandom, 1 << 24, 1 << 28},
    {"write to /dev/null", c_write_null, 1 << 26, 1 << 28}, {"mincore", c_mincore, 1ull << 32, 1ull << 40}, {"populate to read", c_populate, 1 << 26, 1 << 30},
    {"populate", c_fill, 1 << 24, 1 << 27}, {"changes of sparse memory", c_sparse, 1ull << 32, 1ull << 45}, {"process_vm_readv", c_process_read, 1 << 24, 1 << 27},
    {"pipe", c_pipe, 1 << 24, 1 << 30}, {"files in memory", c_file, 1 << 24, 1 << 26}, {"holes", c_holes, 1 << 28, 1ull << 31}, {"poll", c_poll, 1 << 24, 1ull << 34},
    {"move_pages", c_move_pages, 1 << 22, 1ull << 32}, {"areas", c_areas, 1 << 24, 1 << 28}, {"exit", c_exit, 1 << 24, 1 << 27}, {"getdents", c_getdents, 1 << 20, 1 << 30},
    {"close_range", c_close_range, 1 << 22, 1ull << 32}, {"arguments", c_arguments, 1 << 22, 1 << 28},
};

static bool letsOthersRun(const struct call *call) {
  for (uint64_t size = call->least;; size *= 2) {
    long before, after;
    int64_t start = used(&before);
    call->run(size);
    int64_t time = used(&after) - start;
    if (time >= 200000) {
      loud++;
      // Far less often than the scheduler changes, because a busy host counts its own delays as time of the call.
      bool lets = after - before >= time / 250000;
      if (!lets) say("%s keeps the CPU: %ld switches in %ld ms", call->name, after - before, (long)time / 1000);
      return lets;
    }
    if (size >= call->most) return true;
  }
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--exit") == 0) return 0;
  count = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  space = MUST(mmap(NULL, 1 << 28, PROT_READ | PROT_WRITE, PRIVATE, -1, 0));
  zero = MUST(open("/dev/zero", O_RDWR));
  null = MUST(open("/dev/null", O_WRONLY));
  random_device = MUST(open("/dev/urandom", O_RDONLY));
  pid_t other = MUST(fork());
  if (other == 0)
    for (;;) ++*count;
  UNTIL(*count > 0);
  int good = 0, total = sizeof calls / sizeof calls[0];
  for (int i = 0; i < total; i++) {
    bool lets = letsOthersRun(&calls[i]);
    if (i == 0) check(lets && loud == 1, "in user mode others run");
    good += lets;
  }
  check(good == total, "no call keeps the CPU (%d of %d, %d took long)", good, total, loud);
  kill(other, SIGKILL);
  return attack_end();
}
