// A file that had several names and has none is gone, and its memory free: an ordinary user makes files of 4 MiB, gives each another
// name and removes both, many times what the sandbox has. Also by way of a file without a name (O_TMPFILE) and a rename over a
// name. The control: a descriptor keeps the file, so that the memory is missing meanwhile.
//
// run: --cpus 1 --user 1000 --memory 32M -- @ /tmp
// expect: ok .*16 files.*
// run: --cpus 2 --user 1000 --memory 32M -- @ /dev/shm
#include "attack.h"

#include <sys/statfs.h>

enum { SIZE = 4 << 20, FILES = 16 };
static char piece[65536];

static bool fill(int file) {
  for (int i = 0; i < SIZE / (int)sizeof piece; i++)
    if (write(file, piece, sizeof piece) != sizeof piece) return false;
  return true;
}

static long free_kib(void) {
  char text[4096] = "";
  int file = MUST(open("/proc/meminfo", O_RDONLY));
  MUST(read(file, text, sizeof text - 1));
  close(file);
  return atol(strstr(text, "MemFree:") + 8);
}

int main(int count, char **words) {
  char directory[128], link_path[64];
  snprintf(directory, sizeof directory, "%s/links-XXXXXX", words[count - 1]);
  MUST(mkdtemp(directory));
  MUST(chdir(directory));
  memset(piece, 7, sizeof piece);
  int filled = 0;
  for (int i = 0; i < FILES; i++) {
    int file = i % 3 == 1 ? MUST(open(".", O_TMPFILE | O_RDWR, 0600)) : MUST(open("one", O_CREAT | O_EXCL | O_RDWR, 0600));
    if (fill(file)) filled++;
    snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", file);
    MUST(linkat(AT_FDCWD, link_path, AT_FDCWD, "two", AT_SYMLINK_FOLLOW));
    close(file);
    if (i % 3 != 1) MUST(unlink("one"));
    if (i % 3 == 2) {
      // The last name goes by a rename.
      close(MUST(open("three", O_CREAT | O_RDWR, 0600)));
      MUST(rename("three", "two"));
    }
    MUST(unlink("two"));
  }
  check(filled == FILES, "%d of %d files of %d MiB found memory, 16 files expected", filled, FILES, SIZE >> 20);
  int file = MUST(open("kept", O_CREAT | O_RDWR, 0600));
  MUST(unlink("kept"));
  long before = free_kib();
  fill(file);
  check(before - free_kib() > SIZE / 2048, "control: a descriptor keeps the memory of a file");
  MUST(rmdir(directory));
  return attack_end();
}
