// Walks upwards in a changed root, while another process exchanges directories inside it: no ".." may lead past the root. The control
// takes the same way without the changed root and gets out.
//
// run: --cpus 2 --user 0 -- @
// expect: ok no walk leaves the root .*
// expect: ok control: .*
// run: --cpus 1 --user 0 -- @
#include "attack.h"

static char reads(const char *path) {
  char text[16] = {0};
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return '-';
  if (read(fd, text, sizeof text - 1) < 1) text[0] = '?';
  close(fd);
  return text[0];
}

static void make(const char *path, const char *content) {
  int fd = MUST(open(path, O_CREAT | O_WRONLY, 0644));
  MUST(write(fd, content, strlen(content)));
  close(fd);
}

static const char *ways[] = {
  "file", "/a/b/file", "a/b/file", "../b/file", "../../a/b/../b/file", "../../../../mark", "/a/b/../../../../../../mark",
  "../../out/b/file", "/out/../../mark",
};

int main(void) {
  MUST(chdir("/tmp"));
  make("mark", "outside");
  MUST(mkdir("jail", 0755)), MUST(mkdir("jail/a", 0755)), MUST(mkdir("jail/a/b", 0755)), MUST(mkdir("jail/out", 0755));
  MUST(mkdir("jail/out/b", 0755));
  make("jail/mark", "inside"), make("jail/a/b/file", "inside"), make("jail/out/b/file", "inside");
  MUST(chdir("jail/a/b"));
  check(reads("../../../mark") == 'o', "control: without a changed root the way leads out");
  volatile long *exchanges = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_t mover = fork();
  if (mover == 0)
    for (;;)
      if (syscall(SYS_renameat2, AT_FDCWD, "/tmp/jail/a/b", AT_FDCWD, "/tmp/jail/out/b", 2) == 0) exchanges[0]++;
  MUST(chroot("/tmp/jail"));
  long inside = 0, outside = 0, absent = 0;
  for (long i = 0; i < 20000 || (exchanges[0] < 3000 && i < 3000000); i++) {
    if (i % 64 == 0) chdir("/a/b");
    switch (reads(ways[i % (sizeof ways / sizeof *ways)])) {
    case 'i': inside++; break;
    case '-': absent++; break;
    default: outside++;
    }
  }
  kill(mover, SIGKILL), outcome(mover);
  check(outside == 0 && inside > 0, "no walk leaves the root (%ld inside, %ld outside, %ld absent)", inside, outside, absent);
  return attack_end();
}
