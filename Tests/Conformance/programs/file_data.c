// Contents of files: mappings beside read(2) and write(2), several descriptors of one file, holes, fallocate(2), copies, locks.
// directory: overlay tmpfs bind root
#include "../conformance.h"
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

enum { PAGE = 4096 };

static void coherence(void) {
  section("mappings and descriptors are one file");
  int fd = MUST(open("m", O_CREAT | O_RDWR, 0644));
  OK(ftruncate(fd, 3 * PAGE));
  char *shared = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(shared != MAP_FAILED);
  int other = MUST(open("m", O_RDWR));
  EQUAL(pwrite(other, "written", 7, PAGE), 7);
  CHECK(!memcmp(shared + PAGE, "written", 7));
  memcpy(shared + PAGE, "MAPPED", 6);
  char text[16] = {0};
  EQUAL(pread(other, text, 7, PAGE), 7);
  CHECK(!memcmp(text, "MAPPEDn", 7));
  char *private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, other, PAGE);
  CHECK(!memcmp(private, "MAPPED", 6));
  private[0] = 'P';
  EQUAL(shared[PAGE], 'M');
  EQUAL(pread(fd, text, 1, PAGE), 1);
  EQUAL(text[0], 'M');
  OK(msync(shared, 3 * PAGE, MS_SYNC));
  EQUAL(outcome(CHILD({
    int mine = open("m", O_RDWR);
    if (pread(mine, text, 6, PAGE) != 6 || memcmp(text, "MAPPED", 6)) _exit(1);
    if (pwrite(mine, "child", 5, 2 * PAGE) != 5) _exit(2);
    shared[0] = 'c';
    _exit(0);
  })), 0);
  CHECK(!memcmp(shared + 2 * PAGE, "child", 5));
  EQUAL(pread(fd, text, 1, 0), 1);
  EQUAL(text[0], 'c');
  // What is beyond a new end is zeros when the file grows again.
  OK(ftruncate(fd, PAGE + 3));
  EQUAL(shared[PAGE + 2], 'P');
  OK(ftruncate(fd, 3 * PAGE));
  EQUAL(shared[PAGE + 3], 0);
  EQUAL(pread(other, text, 4, PAGE + 2), 4);
  CHECK(!memcmp(text, "P\0\0\0", 4));
  // A descriptor that truncates shows it to the others.
  int cut = MUST(open("m", O_WRONLY | O_TRUNC));
  EQUAL(lseek(other, 0, SEEK_END), 0);
  EQUAL(pread(fd, text, 4, 0), 0);
  close(cut);
  munmap(shared, 3 * PAGE);
  munmap(private, PAGE);
  // Appending by two.
  int a = MUST(open("log", O_CREAT | O_WRONLY | O_APPEND, 0644)), b = MUST(open("log", O_WRONLY | O_APPEND));
  for (int i = 0; i < 100; i++) {
    if (write(a, "aaaaa\n", 6) != 6 || write(b, "bbb\n", 4) != 4) line("NOT OK append %d", i);
  }
  struct stat s;
  OK(fstat(a, &s));
  EQUAL(s.st_size, 1000);
  close(a);
  close(b);
  a = MUST(open("log", O_RDONLY));
  char all[1000];
  EQUAL(read(a, all, sizeof all), 1000);
  CHECK(!memcmp(all, "aaaaa\nbbb\naaaaa\nbbb\n", 20) && !memcmp(all + 990, "aaaaa\nbbb\n", 10));
  close(a);
  close(fd);
  close(other);
}

static void space(void) {
  int fd = MUST(open("h", O_CREAT | O_RDWR, 0644));
  EQUAL(pwrite(fd, "begin", 5, 0), 5);
  EQUAL(pwrite(fd, "end", 3, 1 << 20), 3);
  struct stat s;
  OK(fstat(fd, &s));
  CHECK(s.st_blocks < 64);

  section("fallocate");
  OK(fallocate(fd, 0, 0, 2 << 20));
  OK(fstat(fd, &s));
  EQUAL(s.st_size, 2 << 20);
  OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 2 << 20, 1 << 20));
  OK(fstat(fd, &s));
  EQUAL(s.st_size, 2 << 20);
  char text[8] = {0};
  EQUAL(pwrite(fd, "inside", 6, 3 * PAGE), 6);
  OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * PAGE, PAGE));
  EQUAL(pread(fd, text, 6, 3 * PAGE), 6);
  CHECK(!memcmp(text, "\0\0\0\0\0\0", 6));
  EQUAL(pread(fd, text, 5, 0), 5);
  CHECK(!memcmp(text, "begin", 5));
  // Not every file system has it.
  int zeroed = fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, PAGE);
  CHECK(zeroed == 0 || errno == EOPNOTSUPP);
  EQUAL(pread(fd, text, 5, 0), 5);
  CHECK(!memcmp(text, zeroed == 0 ? "\0\0\0\0\0" : "begin", 5));
  if (zeroed == 0) zeroed = fallocate(fd, FALLOC_FL_ZERO_RANGE, 2 << 20, PAGE);
  struct stat after;
  CHECK(fstat(fd, &after) == 0 && after.st_size == (2 << 20) + (zeroed == 0 ? PAGE : 0));
  FAILS(fallocate(fd, 0, -1, 5), EINVAL);
  FAILS(fallocate(fd, 0, 0, 0), EINVAL);
  FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, PAGE), EOPNOTSUPP);
  close(fd);
  fd = MUST(open("h", O_RDONLY));
  FAILS(fallocate(fd, 0, 0, PAGE), EBADF);
  close(fd);

  section("copies");
  int from = MUST(open("from", O_CREAT | O_RDWR, 0644)), to = MUST(open("to", O_CREAT | O_RDWR, 0644));
  char block[3 * PAGE];
  for (size_t i = 0; i < sizeof block; i++) block[i] = i % 251;
  EQUAL(write(from, block, sizeof block), sizeof block);
  loff_t in = 100, out = 50;
  EQUAL(copy_file_range(from, &in, to, &out, 5000, 0), 5000);
  EQUAL(in, 5100);
  EQUAL(out, 5050);
  char back[3 * PAGE];
  EQUAL(pread(to, back, sizeof back, 0), 5050);
  CHECK(!memcmp(back + 50, block + 100, 5000) && back[0] == 0 && back[49] == 0);
  EQUAL(copy_file_range(from, &in, to, &out, 1 << 20, 0), (int)sizeof block - 5100);
  off_t offset = 10;
  OK(ftruncate(to, 0));
  EQUAL(lseek(to, 0, SEEK_SET), 0);
  EQUAL(sendfile(to, from, &offset, 8000), 8000);
  EQUAL(pread(to, back, 8000, 0), 8000);
  CHECK(!memcmp(back, block + 10, 8000));
  close(from);
  close(to);
}

static void locks(void) {
  section("locks");
  int fd = MUST(open("lock", O_CREAT | O_RDWR, 0644));
  OK(flock(fd, LOCK_EX));
  struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
  OK(fcntl(fd, F_SETLK, &range));
  EQUAL(outcome(CHILD({
    int mine = open("lock", O_RDWR);
    FAILS(flock(mine, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    struct flock theirs = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 1};
    FAILS(fcntl(mine, F_SETLK, &theirs), EAGAIN);
    OK(fcntl(mine, F_GETLK, &theirs));
    CHECK(theirs.l_pid == getppid() && theirs.l_start == 10 && theirs.l_len == 10);
    struct flock beside = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 1};
    OK(fcntl(mine, F_SETLK, &beside));
    _exit(checks_failed != 0);
  })), 0);
  // By another name it is the same file.
  OK(link("lock", "lock2"));
  int other = MUST(open("lock2", O_RDWR));
  FAILS(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  close(fd);
  OK(flock(other, LOCK_EX | LOCK_NB));
  close(other);
}

static int executed(int fd) {
  pid_t child = fork();
  if (child == 0) {
    char *arguments[] = {"program", "exit", NULL};
    syscall(SYS_execveat, fd, "", arguments, environ, AT_EMPTY_PATH);
    _exit(errno);
  }
  return outcome(child);
}

static void executing(void) {
  section("executing");
  int fd = MUST(open("program", O_CREAT | O_WRONLY | O_TRUNC, 0755)), self = MUST(open("/proc/self/exe", O_RDONLY));
  while (sendfile(fd, self, NULL, 1 << 20) > 0) {}
  close(self);
  if (fork() == 0) {
    execl("program", "program", "exit", NULL);
    _exit(errno == ETXTBSY ? 41 : 42);
  }
  EQUAL(outcome(-1), 41);
  close(fd);
  if (fork() == 0) {
    execl("program", "program", "exit", NULL);
    _exit(42);
  }
  EQUAL(outcome(-1), 7);

  section("executing what is in memory");
  // The descriptor with which a memfd was made does not keep it from being executed; those opened for writing later do.
  int own = MUST(memfd_create("program", MFD_ALLOW_SEALING));
  self = MUST(open("/proc/self/exe", O_RDONLY));
  while (sendfile(own, self, NULL, 1 << 20) > 0) {}
  char place[40];
  sprintf(place, "/proc/self/fd/%d", own);
  int only_read = MUST(open(place, O_RDONLY));
  EQUAL(executed(own), 7);
  EQUAL(executed(only_read), 7);
  int more = MUST(open(place, O_RDWR));
  EQUAL(executed(own), ETXTBSY);
  EQUAL(executed(only_read), ETXTBSY);
  EQUAL(executed(more), ETXTBSY);
  close(more);
  int copy = dup(own);
  EQUAL(executed(copy), 7);
  close(copy);
  OK(fcntl(own, F_ADD_SEALS, F_SEAL_WRITE));
  EQUAL(executed(own), 7);
  close(own);
  EQUAL(executed(only_read), 7);
  close(only_read), close(self);
  own = MUST(open("/dev/shm", O_TMPFILE | O_RDWR, 0755));
  EQUAL(executed(own), ETXTBSY);
  close(own);
}

int main(int count, char **arguments) {
  if (count > 1) return 7;
  umask(022);
  enter_work_directory();
  coherence();
  space();
  locks();
  executing();
  return conformance_end();
}
