// A walk with openat2(2) that must stay beneath a directory meets renames by another process: RESOLVE_BENEATH and RESOLVE_IN_ROOT must
// not let it out. The control walks the same way without them and gets out.
//
// run: --cpus 2 --user 1000 -- @
// expect: ok no walk escapes .*
// expect: ok control: .*
// run: --cpus 1 --user 1000 -- @
#include "attack.h"

#include <linux/openat2.h>

static bool is_secret(int fd) {
  char text[16] = {0};
  return read(fd, text, sizeof text - 1) > 0 && strcmp(text, "secret") == 0;
}

int main(void) {
  MUST(chdir("/tmp"));
  static const char *directories[] = {"in", "in/a", "in/a/b", "in/a/b/c", "out", "out/b", "out/b/c"};
  for (int i = 0; i < 7; i++) MUST(mkdir(directories[i], 0755));
  int fd = MUST(open("secret", O_CREAT | O_WRONLY, 0644));
  MUST(write(fd, "secret", 6));
  close(fd);
  volatile long *exchanges = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_t mover = fork();
  if (mover == 0)
    for (;;)
      if (syscall(SYS_renameat2, AT_FDCWD, "in/a/b", AT_FDCWD, "out/b", 2) == 0) exchanges[0]++;
  const int root = MUST(open("in", O_PATH));
  const uint64_t ways[] = {RESOLVE_BENEATH, RESOLVE_IN_ROOT};
  long escapes[2] = {0}, others[2] = {0};
  for (int way = 0; way < 2; way++) {
    struct open_how how = {.flags = O_RDONLY, .resolve = ways[way]};
    long before = exchanges[0];
    for (long i = 0; i < 20000 || (exchanges[0] < before + 3000 && i < 3000000); i++) {
      fd = syscall(SYS_openat2, root, "a/b/c/../../../secret", &how, sizeof how);
      if (fd >= 0) {
        if (is_secret(fd)) escapes[way]++;
        close(fd);
      } else if (errno != EXDEV && errno != EAGAIN && errno != ENOENT) {
        others[way]++;
      }
    }
  }
  kill(mover, SIGKILL), outcome(mover);
  check(escapes[0] == 0 && escapes[1] == 0 && others[0] == 0 && others[1] == 0,
        "no walk escapes (%ld, %ld; other errors %ld, %ld)", escapes[0], escapes[1], others[0], others[1]);
  // With nobody in the way: "a/b/c/../../../secret" is in "in", where no secret is; one more ".." is outside.
  struct open_how how = {.flags = O_RDONLY};
  fd = syscall(SYS_openat2, root, "a/b/c/../../../../secret", &how, sizeof how);
  check(fd >= 0 && is_secret(fd), "control: an ordinary walk leaves the directory");
  return attack_end();
}
