// Offsets at and beyond the largest one, in every call that takes one; the ends of directories and of files of /proc.
#include "../conformance.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#define M 0x7fffffffffffffffL
#define T(e)                                                              \
  do {                                                                    \
    errno = 0;                                                            \
    long result = (long)(e);                                              \
    line("%s: %ld %s", #e, result, result == -1 ? strerrorname_np(errno) : "ok"); \
  } while (0)

static void transfers(int f, int z, int n) {
  section("transfers");
  char b[16] = "abc";
  struct iovec i = {b, 8};
  T(pread(f, b, 8, M)); T(pread(f, b, 8, M - 8)); T(pread(f, b, 8, M - 7)); T(pread(f, b, 0, M)); T(pread(f, b, 8, -1)); T(pread(f, b, 8, 1L << 62));
  T(pwrite(f, b, 8, M)); T(pwrite(f, b, 8, M - 8)); T(pwrite(f, b, 0, M)); T(pwrite(f, b, 8, -1));
  T(preadv(f, &i, 1, M)); T(pwritev(f, &i, 1, M)); T(pread(z, b, 8, M)); T(pwrite(n, b, 8, M)); T(pread(z, b, 8, -1));
  T(lseek(f, M, SEEK_SET)); T(read(f, b, 8)); T(write(f, b, 8)); T(lseek(f, 1, SEEK_CUR)); T(lseek(f, 0, SEEK_SET));
  T(lseek(f, -1, SEEK_SET)); T(lseek(f, M, SEEK_END));
}

static void sizes(int f) {
  section("sizes");
  T(ftruncate(f, M)); T(ftruncate(f, -1)); T(fallocate(f, 0, M, 1));
  T(posix_fadvise(f, M, 8, 0)); T(posix_fadvise(f, 0, -1, 0)); T(readahead(f, M, 8)); T(readahead(f, 0, ~0ul));
  T(sync_file_range(f, M, 8, 0)); T(sync_file_range(f, M - 8, 8, 0));
}

static void copies(int f, int g, int n) {
  section("copies");
  loff_t o = M, q = 0;
  MUST(ftruncate(f, 10));
  int p[2];
  MUST(pipe(p));
  T(sendfile(n, f, &o, 8));
  o = M; T(splice(f, &o, p[1], 0, 8, 0));
  o = M; T(copy_file_range(f, &o, g, &q, 8, 0));
  o = 0; q = M; T(copy_file_range(f, &o, g, &q, 8, 0));
  o = 0; q = M; T(copy_file_range(f, &o, g, &q, 0, 0));
  o = 0; q = M - 5; T(copy_file_range(f, &o, g, &q, 10, 0)); CHECK(o == 5 && q == M);
  MUST(ftruncate(g, 0));
  o = -1; q = 0; T(copy_file_range(f, &o, g, &q, 8, 0)); o = 0; q = -1; T(copy_file_range(f, &o, g, &q, 8, 0));
  o = -20; q = 0; T(copy_file_range(f, &o, g, &q, 8, 0)); o = 0; q = -20; T(copy_file_range(f, &o, g, &q, 8, 0));
  o = 0; q = 1; T(copy_file_range(f, &o, g, &q, SIZE_MAX, 0)); T(copy_file_range(f, &o, g, &q, M, 0)); CHECK(o == 10 && q == 11);
  o = M; q = 0; T(copy_file_range(f, &o, g, &q, 1, 0));
  // Ranges of one file overlap as far as there is something to copy.
  o = 0; q = 5; T(copy_file_range(f, &o, f, &q, 10, 0)); o = 20; q = 22; T(copy_file_range(f, &o, f, &q, 10, 0));
  o = 0; q = 10; T(copy_file_range(f, &o, f, &q, 20, 0)); CHECK(o == 10 && q == 20);
  o = 10; q = 0; T(copy_file_range(f, &o, f, &q, 20, 0)); o = 0; q = 0; T(copy_file_range(f, &o, f, &q, 0, 0));
  MUST(ftruncate(f, 10));
}

static void limit(int f, int g) {
  section("a limit of the size");
  pid_t child = CHILD({
    struct rlimit l = {100, RLIM_INFINITY};
    MUST(setrlimit(RLIMIT_FSIZE, &l));
    signal(SIGXFSZ, SIG_IGN);
    loff_t o = 0, q = 95;
    // Standard output may be a file, too.
    if (copy_file_range(f, &o, g, &q, 10, 0) != 5) _exit(1);
    if (copy_file_range(f, &o, g, &q, 10, 0) >= 0 || errno != EFBIG) _exit(2);
    signal(SIGXFSZ, SIG_DFL);
    copy_file_range(f, &o, g, &q, 10, 0);
  });
  EQUAL(outcome(child), SIGNALLED(SIGXFSZ));
}

static void addresses(void) {
  section("addresses");
  char b[16];
  loff_t o = -8;
  struct iovec v = {b, 8};
  int f = MUST(open("/proc/self/mem", O_RDWR)), n = MUST(open("/dev/null", O_WRONLY));
  T(lseek(f, 0xffffffffff600000, SEEK_SET)); T(read(f, b, 8)); T(lseek(f, 1L << 63, SEEK_SET)); T(read(f, b, 8)); T(write(f, b, 8));
  T(lseek(f, -4096, SEEK_SET)); T(lseek(f, -4, SEEK_CUR)); T(lseek(f, 0, SEEK_END)); T(lseek(f, 0, SEEK_DATA)); T(lseek(f, M, SEEK_SET));
  T(lseek(f, 1, SEEK_CUR)); T(lseek(f, M - 4, SEEK_CUR)); T(read(f, b, 4)); T(read(f, b, 8)); T(read(f, b, 0));
  T(pread(f, b, 8, 1L << 63)); T(pread(f, b, 8, -8)); T(pread(f, b, 16, -8)); T(pwrite(f, b, 8, -8)); T(pread(f, b, 8, M)); T(preadv(f, &v, 1, 1L << 63));
  T(pread(f, b, 8, 0)); T(pread(f, v.iov_base, 8, (off_t)b));
  CHECK(sendfile(n, f, &o, 8) < 0);
  f = MUST(open("/proc/self/pagemap", O_RDONLY));
  T(lseek(f, 1L << 63, SEEK_SET)); T(read(f, b, 8)); T(pread(f, b, 8, 1L << 63)); T(pread(f, b, 8, -8));
}

static void locks(int f) {
  section("locks");
  struct flock l = {F_RDLCK, SEEK_SET, M, 8};
  T(fcntl(f, F_SETLK, &l)); l.l_len = 1; T(fcntl(f, F_SETLK, &l)); l.l_len = 0; T(fcntl(f, F_SETLK, &l));
  l.l_start = -1; T(fcntl(f, F_SETLK, &l)); l.l_start = 5; l.l_len = -10; T(fcntl(f, F_SETLK, &l));
  l.l_start = 5; l.l_len = -5; T(fcntl(f, F_SETLK, &l));
}

static void ends(void) {
  section("ends");
  T(lseek(MUST(open("/proc", O_RDONLY)), 0, SEEK_END)); T(lseek(MUST(open("/sys", O_RDONLY)), 0, SEEK_END));
  T(lseek(MUST(open("/proc/self", O_RDONLY)), 0, SEEK_END)); T(lseek(MUST(open("/proc/self/maps", O_RDONLY)), 0, SEEK_END));
  T(lseek(MUST(open("/proc/self/status", O_RDONLY)), 10, SEEK_SET)); T(lseek(MUST(open("/proc/version", O_RDONLY)), 0, SEEK_END));
}

int main(void) {
  // File systems have limits of their own; these files have none.
  int f = MUST(memfd_create("a", 0)), g = MUST(memfd_create("b", 0));
  int z = MUST(open("/dev/zero", O_RDWR)), n = MUST(open("/dev/null", O_RDWR));
  MUST(write(f, "0123456789", 10));
  transfers(f, z, n);
  sizes(f);
  copies(f, g, n);
  limit(f, g);
  locks(f);
  ends();
  addresses();
  return conformance_end();
}
