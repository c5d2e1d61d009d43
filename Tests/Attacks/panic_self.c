// Files that are used for themselves: a call that holds a file's position, or its lock, meets the same file once more. Nothing of it
// may hang or end the kernel; what it answers is as on Linux.
//
// run: -- @
// run: --user 1000 --cpus 2 -- @
// run: --user 1000 --cpus 1 --memory 16M -- @
// native: @
// expect: ok .*
#include "attack.h"

#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

// A descriptor of /proc/self/fdinfo/N that is N itself.
static void own_information(void) {
  char path[64], text[512];
  int file = MUST(open("/etc/passwd", O_RDONLY));
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", file);
  int information = MUST(open(path, O_RDONLY));
  MUST(dup2(information, file));
  ssize_t count = MUST(read(file, text, sizeof text - 1));
  text[count] = 0;
  check(strstr(text, "pos:\t0\n") != NULL, "the position of a file that is being read");
  MUST(lseek(file, 0, SEEK_SET));
  int out = MUST(memfd_create("copy", 0));
  ssize_t copied = sendfile(out, file, NULL, 4096);
  check(copied == count || (copied < 0 && errno == EINVAL), "a copy of it by sendfile");
  close(out);
  close(file);
  close(information);
}

static void own_copies(const char *directory) {
  char path[128];
  snprintf(path, sizeof path, "%s/self-%d", directory, (int)getpid());
  int file = MUST(open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
  char block[8192];
  memset(block, 7, sizeof block);
  MUST((int)write(file, block, sizeof block));
  MUST((int)lseek(file, 0, SEEK_SET));
  // One position for both ends: what is copied follows what was read.
  sendfile(file, file, NULL, 4096);
  off_t from = 0;
  sendfile(file, file, &from, 4096);
  loff_t in = 0, out = 16384;
  check(copy_file_range(file, &in, file, &out, 4096, 0) == 4096, "copy_file_range within a file in %s", directory);
  check(copy_file_range(file, NULL, file, NULL, 4096, 0) < 0 && errno == EINVAL, "not over itself");
  // Reads into, and writes from, a mapping of the same place, present or not.
  char *map = MUST(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  check(pread(file, map, 8192, 0) == 8192 && pwrite(file, map, 8192, 0) == 8192, "reads and writes with its own mapping");
  for (int i = 0; i < 20; i++) {
    MUST(madvise(map, 8192, MADV_DONTNEED));
    if (pread(file, map + 4096, 4096, 0) != 4096 || pwrite(file, map + 1, 8000, 3) != 8000) check(false, "with absent pages");
  }
  MUST(ftruncate(file, 0));
  check(pwrite(file, map, 4096, 0) < 0 && errno == EFAULT, "a write from what is beyond the end");
  munmap(map, 8192);
  unlink(path);
  close(file);
}

static void own_pipes(void) {
  int ends[2];
  MUST(pipe2(ends, O_NONBLOCK));
  MUST((int)write(ends[1], "abc", 3));
  check(splice(ends[0], NULL, ends[1], NULL, 3, SPLICE_F_NONBLOCK) < 0 && errno == EINVAL, "splice of a pipe into itself");
  check(tee(ends[0], ends[1], 3, SPLICE_F_NONBLOCK) < 0 && errno == EINVAL, "tee of a pipe into itself");
  close(ends[0]);
  close(ends[1]);
  int set = MUST(epoll_create1(0));
  struct epoll_event event = {.events = EPOLLIN};
  check(epoll_ctl(set, EPOLL_CTL_ADD, set, &event) < 0 && errno == EINVAL, "an epoll instance in itself");
  close(set);
}

static void own_memory(void) {
  int file = MUST(open("/proc/self/maps", O_RDONLY)), copy = MUST(dup(file));
  struct iovec parts[8];
  static char text[8][64];
  for (int i = 0; i < 8; i++) parts[i] = (struct iovec){text[i], sizeof text[i]};
  check(readv(file, parts, 8) > 0 && readv(copy, parts, 8) > 0, "/proc/self/maps by two descriptors of one file");
  close(file);
  close(copy);
}

int main(void) {
  own_information();
  own_copies("/tmp");
  own_copies("/dev/shm");
  own_pipes();
  own_memory();
  return attack_end();
}
