// Offsets at and beyond the largest one, in every call that takes one; the ends of directories and of files of /proc.
#include "../conformance.h"
#include <sys/mman.h>
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
  int p[2];
  MUST(pipe(p));
  T(sendfile(n, f, &o, 8));
  o = M; T(splice(f, &o, p[1], 0, 8, 0));
  o = M; T(copy_file_range(f, &o, g, &q, 8, 0));
  o = 0; q = M; T(copy_file_range(f, &o, g, &q, 8, 0));
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
  locks(f);
  ends();
  return conformance_end();
}
