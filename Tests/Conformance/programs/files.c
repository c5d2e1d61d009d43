// Regular files: open, read, write, seek, truncate, attributes, names.
// directory: overlay tmpfs bind root
#include "../conformance.h"
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <linux/openat2.h>

static void opening(void) {
  section("open");
  FAILS(open("none", O_RDONLY), ENOENT);
  int fd = MUST(open("a", O_CREAT | O_EXCL | O_RDWR, 0640));
  FAILS(open("a", O_CREAT | O_EXCL | O_RDWR, 0640), EEXIST);
  EQUAL(write(fd, "hello world", 11), 11);
  EQUAL(lseek(fd, 0, SEEK_CUR), 11);
  OK(close(fd));
  FAILS(close(fd), EBADF);
  fd = MUST(open("a", O_RDONLY));
  FAILS(write(fd, "x", 1), EBADF);
  char buffer[64] = {0};
  EQUAL(read(fd, buffer, 5), 5);
  CHECK(!memcmp(buffer, "hello", 5));
  EQUAL(read(fd, buffer, 64), 6);
  EQUAL(read(fd, buffer, 64), 0);
  close(fd);
  fd = MUST(open("a", O_WRONLY | O_APPEND));
  FAILS(read(fd, buffer, 1), EBADF);
  EQUAL(write(fd, "!", 1), 1);
  EQUAL(lseek(fd, 0, SEEK_CUR), 12);
  EQUAL(lseek(fd, 3, SEEK_SET), 3);
  EQUAL(write(fd, "?", 1), 1);
  EQUAL(lseek(fd, 0, SEEK_CUR), 13);
  EQUAL(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
  close(fd);
  fd = MUST(open("a", O_RDWR | O_TRUNC));
  EQUAL(lseek(fd, 0, SEEK_END), 0);
  close(fd);
  FAILS(open("a/b", O_RDONLY), ENOTDIR);
  FAILS(open("a/", O_RDONLY), ENOTDIR);
  FAILS(open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
  FAILS(open(".", O_WRONLY), EISDIR);
  FAILS(open("", O_RDONLY), ENOENT);
  FAILS(open((char *)8, O_RDONLY), EFAULT);
  FAILS(openat(-1, "a", O_RDONLY), EBADF);
  FAILS(openat(999, "a", O_RDONLY), EBADF);
  fd = MUST(open("a", O_PATH));
  FAILS(read(fd, buffer, 1), EBADF);
  FAILS(openat(fd, "b", O_RDONLY), ENOTDIR);
  close(fd);
  fd = MUST(creat("created", 0600));
  EQUAL(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
  close(fd);
  struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_BENEATH};
  fd = syscall(SYS_openat2, AT_FDCWD, "a", &how, sizeof how);
  CHECK(fd >= 0);
  close(fd);
  FAILS(syscall(SYS_openat2, AT_FDCWD, "../x", &how, sizeof how), EXDEV);
  FAILS(syscall(SYS_openat2, AT_FDCWD, "a", &how, 8), EINVAL);
  how.flags = O_RDONLY | O_CREAT | O_DIRECTORY;
  FAILS(syscall(SYS_openat2, AT_FDCWD, "a", &how, sizeof how), EINVAL);
  fd = MUST(open(".", O_TMPFILE | O_RDWR, 0600));
  EQUAL(write(fd, "tmp", 3), 3);
  struct stat s;
  OK(fstat(fd, &s));
  EQUAL(s.st_nlink, 0);
  EQUAL(s.st_size, 3);
  close(fd);
}

static void seeking(void) {
  section("seek");
  int fd = MUST(open("s", O_RDWR | O_CREAT | O_TRUNC, 0644));
  EQUAL(write(fd, "0123456789", 10), 10);
  EQUAL(lseek(fd, -3, SEEK_END), 7);
  EQUAL(lseek(fd, -2, SEEK_CUR), 5);
  FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
  FAILS(lseek(fd, 0, 99), EINVAL);
  EQUAL(lseek(fd, 100000, SEEK_SET), 100000);
  EQUAL(write(fd, "x", 1), 1);
  struct stat s;
  OK(fstat(fd, &s));
  EQUAL(s.st_size, 100001);
  char c = 1;
  EQUAL(pread(fd, &c, 1, 50000), 1);
  EQUAL(c, 0);
  EQUAL(lseek(fd, 0, SEEK_CUR), 100001);
  EQUAL(pwrite(fd, "Z", 1, 2), 1);
  EQUAL(pread(fd, &c, 1, 2), 1);
  EQUAL(c, 'Z');
  FAILS(pread(fd, &c, 1, -1), EINVAL);
  FAILS(pwrite(fd, &c, 1, -1), EINVAL);
  EQUAL(lseek(fd, 0, SEEK_DATA), 0);
  // Two pages of data far from each other.
  int sparse = MUST(open("sparse", O_CREAT | O_RDWR, 0600));
  EQUAL(pwrite(sparse, "x", 1, 1L << 33), 1);
  EQUAL(pwrite(sparse, "x", 1, 1L << 36), 1);
  OK(ftruncate(sparse, 1L << 37));
  EQUAL(lseek(sparse, 0, SEEK_DATA), 1L << 33);
  EQUAL(lseek(sparse, 0, SEEK_HOLE), 0);
  EQUAL(lseek(sparse, (1L << 33) + 5, SEEK_DATA), (1L << 33) + 5);
  EQUAL(lseek(sparse, 1L << 33, SEEK_HOLE), (1L << 33) + 4096);
  EQUAL(lseek(sparse, (1L << 33) + 4096, SEEK_DATA), 1L << 36);
  FAILS(lseek(sparse, (1L << 36) + 4096, SEEK_DATA), ENXIO);
  FAILS(lseek(sparse, 1L << 37, SEEK_HOLE), ENXIO);
  close(sparse);
  unlink("sparse");
  FAILS(lseek(fd, 100001, SEEK_DATA), ENXIO);
  FAILS(lseek(fd, 100002, SEEK_HOLE), ENXIO);
  CHECK(lseek(fd, 0, SEEK_HOLE) <= 100001);
  OK(ftruncate(fd, 4));
  EQUAL(lseek(fd, 0, SEEK_END), 4);
  OK(ftruncate(fd, 6));
  char b[8];
  EQUAL(pread(fd, b, 8, 0), 6);
  CHECK(!memcmp(b, "01Z3\0\0", 6));
  FAILS(ftruncate(fd, -1), EINVAL);
  OK(truncate("s", 1));
  EQUAL(lseek(fd, 0, SEEK_END), 1);
  FAILS(truncate("none", 1), ENOENT);
  FAILS(truncate(".", 1), EISDIR);
  OK(fsync(fd));
  OK(fdatasync(fd));
  OK(syncfs(fd));
  sync();
  OK(sync_file_range(fd, 0, 1, SYNC_FILE_RANGE_WRITE));
  OK(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
  EQUAL(readahead(fd, 0, 1), 0);
  close(fd);
  FAILS(fsync(fd), EBADF);
  fd = MUST(open("s", O_RDONLY));
  FAILS(ftruncate(fd, 0), EINVAL);
  close(fd);
}

static void vectors(void) {
  section("vectors");
  int fd = MUST(open("v", O_RDWR | O_CREAT | O_TRUNC, 0644));
  struct iovec out[3] = {{"abc", 3}, {NULL, 0}, {"defgh", 5}};
  EQUAL(writev(fd, out, 3), 8);
  char x[2], y[20];
  struct iovec in[2] = {{x, 2}, {y, 20}};
  EQUAL(preadv(fd, in, 2, 1), 7);
  CHECK(!memcmp(x, "bc", 2) && !memcmp(y, "defgh", 5));
  EQUAL(lseek(fd, 0, SEEK_SET), 0);
  EQUAL(readv(fd, in, 2), 8);
  EQUAL(pwritev(fd, out, 3, 8), 8);
  EQUAL(preadv2(fd, in, 2, 8, 0), 8);
  EQUAL(pwritev2(fd, out, 1, 0, RWF_DSYNC), 3);
  FAILS(preadv2(fd, in, 2, 0, 0x4000), EOPNOTSUPP);
  FAILS(readv(fd, in, -1), EINVAL);
  FAILS(writev(fd, in, 1025), EINVAL);
  struct iovec bad[2] = {{x, 2}, {(void *)16, 4}};
  EQUAL(preadv(fd, bad, 2, 0), 2);
  FAILS(preadv(fd, bad + 1, 1, 0), EFAULT);
  lseek(fd, 0, SEEK_SET);
  FAILS(read(fd, (void *)16, 4), EFAULT);
  FAILS(write(fd, (void *)16, 4), EFAULT);
  EQUAL(write(fd, NULL, 0), 0);
  close(fd);
}

static void attributes(void) {
  section("attributes");
  struct stat s;
  umask(027);
  int fd = MUST(open("m", O_RDWR | O_CREAT, 0777));
  OK(fstat(fd, &s));
  EQUAL(s.st_mode & 07777, 0750);
  EQUAL(umask(022), 027);
  OK(chmod("m", 04711));
  OK(stat("m", &s));
  EQUAL(s.st_mode, S_IFREG | 04711);
  OK(fchmod(fd, 0600));
  OK(fchmodat(AT_FDCWD, "m", 0644, 0));
  OK(stat("m", &s));
  EQUAL(s.st_mode & 07777, 0644);
  EQUAL(s.st_uid, geteuid());
  EQUAL(s.st_nlink, 1);
  CHECK(s.st_ino != 0);
  struct timespec t[2] = {{1000000000, 123000000}, {1100000000, 456000000}};
  OK(utimensat(AT_FDCWD, "m", t, 0));
  OK(stat("m", &s));
  EQUAL(s.st_atim.tv_sec, 1000000000);
  EQUAL(s.st_mtim.tv_sec, 1100000000);
  EQUAL(s.st_mtim.tv_nsec, 456000000);
  t[0].tv_nsec = UTIME_OMIT;
  t[1].tv_nsec = UTIME_NOW;
  OK(futimens(fd, t));
  OK(stat("m", &s));
  EQUAL(s.st_atim.tv_sec, 1000000000);
  CHECK(s.st_mtim.tv_sec > 1100000000);
  struct timeval tv[2] = {{5, 0}, {6, 0}};
  OK(utimes("m", tv));
  OK(futimesat(AT_FDCWD, "m", tv));
  OK(syscall(SYS_utime, "m", NULL));
  t[0].tv_nsec = 1000000000;
  FAILS(utimensat(AT_FDCWD, "m", t, 0), EINVAL);
  if (geteuid() == 0) {
    OK(chown("m", 12, 34));
    OK(stat("m", &s));
    CHECK(s.st_uid == 12 && s.st_gid == 34);
    OK(fchown(fd, -1, 35));
    OK(lchown("m", 13, -1));
    OK(fchownat(fd, "", -1, 36, AT_EMPTY_PATH));
    OK(stat("m", &s));
    CHECK(s.st_uid == 13 && s.st_gid == 36);
  }
  struct statx x;
  OK(statx(AT_FDCWD, "m", 0, STATX_BASIC_STATS, &x));
  EQUAL(x.stx_mode & 07777, 0644);
  EQUAL(x.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
  OK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &x));
  EQUAL(x.stx_size, 0);
  FAILS(statx(AT_FDCWD, "m", 0x40000000, STATX_SIZE, &x), EINVAL);
  FAILS(statx(AT_FDCWD, "m", 0, 0x80000000u, &x), EINVAL);
  FAILS(fstatat(AT_FDCWD, "", &s, 0), ENOENT);
  OK(fstatat(fd, "", &s, AT_EMPTY_PATH));
  FAILS(stat("none", &s), ENOENT);
  FAILS(fstat(-1, &s), EBADF);
  OK(access("m", R_OK | W_OK));
  OK(access("m", F_OK));
  FAILS(access("none", F_OK), ENOENT);
  FAILS(access("m", 8), EINVAL);
  FAILS(access("m", X_OK), EACCES);
  OK(faccessat(AT_FDCWD, "m", R_OK, AT_EACCESS));
  OK(syscall(SYS_faccessat2, AT_FDCWD, "m", R_OK, AT_EACCESS));
  struct statfs f;
  OK(statfs(".", &f));
  CHECK(f.f_bsize > 0 && f.f_namelen == 255);
  OK(fstatfs(fd, &f));
  FAILS(statfs("none", &f), ENOENT);
  close(fd);
}

static void names(void) {
  section("names");
  struct stat s, t;
  make_file("one", "1");
  OK(link("one", "two"));
  OK(stat("one", &s));
  OK(stat("two", &t));
  CHECK(s.st_ino == t.st_ino && s.st_nlink == 2);
  FAILS(link("one", "two"), EEXIST);
  FAILS(link("none", "three"), ENOENT);
  FAILS(link(".", "dotlink"), EPERM);
  OK(unlink("one"));
  OK(stat("two", &t));
  EQUAL(t.st_nlink, 1);
  FAILS(unlink("one"), ENOENT);
  FAILS(unlink("."), EISDIR);
  OK(rename("two", "three"));
  FAILS(stat("two", &s), ENOENT);
  make_file("four", "4444");
  OK(rename("three", "four"));
  OK(stat("four", &s));
  EQUAL(s.st_size, 1);
  make_file("five", "55555");
  FAILS(renameat2(AT_FDCWD, "four", AT_FDCWD, "five", RENAME_NOREPLACE), EEXIST);
  OK(renameat2(AT_FDCWD, "four", AT_FDCWD, "five", RENAME_EXCHANGE));
  OK(stat("four", &s));
  EQUAL(s.st_size, 5);
  FAILS(renameat2(AT_FDCWD, "four", AT_FDCWD, "five", 0x100), EINVAL);
  OK(rename("four", "four"));
  OK(linkat(AT_FDCWD, "four", AT_FDCWD, "six", 0));
  OK(rename("four", "six"));
  OK(stat("four", &s));
  EQUAL(s.st_nlink, 2);
  OK(symlink("five", "sym"));
  char b[16];
  EQUAL(readlink("sym", b, 16), 4);
  CHECK(!memcmp(b, "five", 4));
  EQUAL(readlink("sym", b, 2), 2);
  EQUAL(readlinkat(AT_FDCWD, "sym", b, 16), 4);
  FAILS(readlinkat(-1, "sym", b, 16), EBADF);
  FAILS(readlink("five", b, 16), EINVAL);
  FAILS(readlink("sym", b, 0), EINVAL);
  OK(lstat("sym", &s));
  CHECK(S_ISLNK(s.st_mode) && s.st_size == 4);
  FAILS(open("sym", O_RDONLY | O_NOFOLLOW), ELOOP);
  OK(symlink("loop2", "loop1"));
  OK(symlink("loop1", "loop2"));
  FAILS(open("loop1", O_RDONLY), ELOOP);
  FAILS(symlink("", "empty"), ENOENT);
  OK(symlinkat("nowhere", AT_FDCWD, "dangling"));
  FAILS(open("dangling", O_RDONLY), ENOENT);
  FAILS(open("dangling", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
  int fd = MUST(open("dangling", O_RDWR | O_CREAT, 0600));
  close(fd);
  OK(stat("nowhere", &s));
  OK(unlinkat(AT_FDCWD, "sym", 0));
  char name[300];
  memset(name, 'n', 256);
  name[256] = 0;
  FAILS(open(name, O_RDWR | O_CREAT, 0600), ENAMETOOLONG);
  name[255] = 0;
  fd = MUST(open(name, O_RDWR | O_CREAT, 0600));
  close(fd);
  OK(unlink(name));
  static char path[5000];
  for (int i = 0; i < 4998; i += 2) memcpy(path + i, "./", 3);
  FAILS(stat(path, &s), ENAMETOOLONG);
  // A file without a name lives until it is closed.
  fd = MUST(open("gone", O_RDWR | O_CREAT, 0600));
  OK(unlink("gone"));
  EQUAL(write(fd, "still", 5), 5);
  EQUAL(pread(fd, b, 16, 0), 5);
  OK(fstat(fd, &s));
  EQUAL(s.st_nlink, 0);
  close(fd);
  OK(mknod("node", S_IFREG | 0600, 0));
  OK(stat("node", &s));
  CHECK(S_ISREG(s.st_mode));
  OK(mknodat(AT_FDCWD, "fifo", S_IFIFO | 0600, 0));
  OK(stat("fifo", &s));
  CHECK(S_ISFIFO(s.st_mode));
  FAILS(mknod("node", S_IFREG | 0600, 0), EEXIST);
  FAILS(mknod("dirnode", S_IFDIR | 0600, 0), EPERM);
}

static void moving(void) {
  section("moving data");
  make_file("source", "The quick brown fox");
  int in = MUST(open("source", O_RDONLY)), out = MUST(open("target", O_RDWR | O_CREAT | O_TRUNC, 0600));
  off_t offset = 4;
  EQUAL(sendfile(out, in, &offset, 5), 5);
  EQUAL(offset, 9);
  EQUAL(sendfile(out, in, NULL, 3), 3);
  EQUAL(lseek(in, 0, SEEK_CUR), 3);
  char b[32] = {0};
  EQUAL(pread(out, b, 32, 0), 8);
  CHECK(!strcmp(b, "quickThe"));
  loff_t from = 0;
  EQUAL(copy_file_range(in, &from, out, NULL, 4, 0), 4);
  EQUAL(from, 4);
  FAILS(copy_file_range(in, &from, out, NULL, 4, 1), EINVAL);
  EQUAL(fallocate(out, 0, 0, 100), 0);
  struct stat s;
  OK(fstat(out, &s));
  EQUAL(s.st_size, 100);
  EQUAL(fallocate(out, FALLOC_FL_KEEP_SIZE, 0, 200), 0);
  OK(fstat(out, &s));
  EQUAL(s.st_size, 100);
  FAILS(fallocate(out, 0, -1, 10), EINVAL);
  FAILS(fallocate(out, 0, 0, 0), EINVAL);
  FAILS(fallocate(in, 0, 0, 10), EBADF);
  int p[2];
  MUST(pipe(p));
  from = 0;
  EQUAL(splice(in, &from, p[1], NULL, 9, 0), 9);
  EQUAL(splice(p[0], NULL, out, NULL, 9, 0), 9);
  FAILS(splice(in, NULL, out, NULL, 9, 0), EINVAL);
  close(in), close(out), close(p[0]), close(p[1]);
}

static void locking(void) {
  section("locks");
  int a = MUST(open("lock", O_RDWR | O_CREAT, 0600)), b = MUST(open("lock", O_RDWR));
  OK(flock(a, LOCK_EX));
  FAILS(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  OK(flock(a, LOCK_SH));
  OK(flock(b, LOCK_SH | LOCK_NB));
  OK(flock(a, LOCK_UN));
  OK(flock(b, LOCK_EX | LOCK_NB));
  close(b);
  OK(flock(a, LOCK_EX | LOCK_NB));
  FAILS(flock(a, 64), EINVAL);
  struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
  OK(fcntl(a, F_SETLK, &range));
  pid_t child = CHILD({
    int c = open("lock", O_RDWR);
    struct flock r = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 1};
    FAILS(fcntl(c, F_SETLK, &r), EAGAIN);
    OK(fcntl(c, F_GETLK, &r));
    CHECK(r.l_pid == getppid() && r.l_start == 10 && r.l_len == 10 && r.l_type == F_WRLCK);
    r = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    OK(fcntl(c, F_SETLK, &r));
    r.l_type = F_UNLCK;
    OK(fcntl(c, F_SETLK, &r));
    _exit(checks_failed);
  });
  EQUAL(outcome(child), 0);
  range.l_type = F_UNLCK;
  OK(fcntl(a, F_SETLK, &range));
  // Open-file-description locks: two descriptions of one process exclude each other.
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  b = MUST(open("lock", O_RDWR));
  OK(fcntl(a, F_OFD_SETLK, &whole));
  FAILS(fcntl(b, F_OFD_SETLK, &whole), EAGAIN);
  close(a);
  OK(fcntl(b, F_OFD_SETLK, &whole));
  close(b);
}

int main(void) {
  enter_work_directory();
  opening();
  seeking();
  vectors();
  attributes();
  names();
  moving();
  locking();
  return conformance_end();
}
