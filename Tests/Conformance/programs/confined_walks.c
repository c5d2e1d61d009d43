// Walks that must not leave a directory, while another thread moves the directories on the way: openat2(2) with
// RESOLVE_BENEATH and RESOLVE_IN_ROOT, and ".." in a bind mount and in a directory that was moved.
#include "../conformance.h"
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

static volatile bool over;
static volatile long exchanges;

static void *exchange(void *unused) {
  while (!over)
    if (syscall(SYS_renameat2, AT_FDCWD, "in/a/b", AT_FDCWD, "out/b", 2) == 0) exchanges++;
  return NULL;
}

static int open2(int directory, const char *path, uint64_t resolve, uint64_t flags) {
  struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
  return syscall(SYS_openat2, directory, path, &how, sizeof how);
}

// Whether the file that is open is the one outside.
static bool is_secret(int fd) {
  char text[16] = {0};
  return read(fd, text, sizeof text - 1) >= 0 && strcmp(text, "secret") == 0;
}

static void race(uint64_t resolve, const char *way) {
  const int root = MUST(open("in", O_PATH | O_CLOEXEC));
  long escapes = 0, inside = 0, refused = 0, others = 0;
  const long before = exchanges;
  // Until both sides have often met; on one CPU they change places at each preemption.
  for (long i = 0; i < 20000 || (exchanges < before + 2000 && i < 4000000); i++) {
    int fd = open2(root, i & 1 ? way : "a/b/c/../mark", resolve, O_RDONLY);
    if (fd >= 0) {
      if (is_secret(fd)) escapes++;
      else inside++;
      close(fd);
    } else if (errno == EXDEV || errno == EAGAIN || errno == ENOENT) {
      refused++;
    } else {
      others++;
    }
  }
  close(root);
  EQUAL(escapes, 0);
  EQUAL(others, 0);
  // The control: the same way leads to the secret when nothing forbids it, and inside when nobody moves.
  CHECK(inside > 0);
  CHECK(refused > 0);
}

int main(void) {
  enter_work_directory();
  MUST(mkdir("in", 0755)), MUST(mkdir("in/a", 0755)), MUST(mkdir("in/a/b", 0755)), MUST(mkdir("in/a/b/c", 0755));
  MUST(mkdir("out", 0755)), MUST(mkdir("out/b", 0755)), MUST(mkdir("out/b/c", 0755));
  MUST(make_file("secret", "secret"));
  MUST(make_file("in/a/b/mark", "inside")), MUST(make_file("out/b/mark", "inside"));
  MUST(symlink("/in/a", "in/absolute")), MUST(symlink("../../secret", "in/a/upwards")), MUST(symlink("a/b", "in/short"));

  section("without a race");
  int root = MUST(open("in", O_PATH | O_CLOEXEC));
  FAILS(open2(root, "a/b/c/../../../../secret", RESOLVE_BENEATH, O_RDONLY), EXDEV);
  FAILS(open2(root, "a/b/c/../../../../secret", RESOLVE_IN_ROOT, O_RDONLY), ENOENT);
  FAILS(open2(root, "/a", RESOLVE_BENEATH, O_RDONLY), EXDEV);
  FAILS(open2(root, "absolute", RESOLVE_BENEATH, O_RDONLY), EXDEV);
  FAILS(open2(root, "absolute", RESOLVE_IN_ROOT, O_RDONLY), ENOENT);
  FAILS(open2(root, "a/upwards", RESOLVE_BENEATH, O_RDONLY), EXDEV);
  FAILS(open2(root, "a/upwards", RESOLVE_IN_ROOT, O_RDONLY), ENOENT);
  FAILS(open2(root, "..", RESOLVE_BENEATH, O_RDONLY), EXDEV);
  FAILS(open2(root, "short/mark", RESOLVE_NO_SYMLINKS, O_RDONLY), ELOOP);
  FAILS(open2(AT_FDCWD, "/proc/self/cwd", RESOLVE_NO_MAGICLINKS, O_RDONLY), ELOOP);
  FAILS(open2(AT_FDCWD, "/proc/self/exe", RESOLVE_BENEATH, O_RDONLY), EXDEV);
  FAILS(open2(AT_FDCWD, "/proc/self/stat", RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS, O_RDONLY), EXDEV);
  FAILS(open2(root, "a", RESOLVE_BENEATH | RESOLVE_IN_ROOT, O_RDONLY), EINVAL);
  FAILS(open2(root, "a", 1 << 20, O_RDONLY), EINVAL);
  int fd = open2(root, "short/c/../mark", RESOLVE_BENEATH, O_RDONLY);
  CHECK(fd >= 0);
  close(fd);
  fd = open2(root, "../../../a/b/mark", RESOLVE_IN_ROOT, O_RDONLY);
  CHECK(fd >= 0);
  close(fd);
  // An absolute path is not a crossing, wherever the caller stands.
  int proc = MUST(open("/proc", O_PATH | O_CLOEXEC));
  fd = open2(proc, "/", RESOLVE_NO_XDEV, O_PATH);
  CHECK(fd >= 0);
  close(fd), close(proc);
  // What does not walk upwards does not mind who moves.
  MUST(syscall(SYS_renameat2, AT_FDCWD, "in/a/b", AT_FDCWD, "out/b", 2));
  fd = open2(root, "a/b/mark", RESOLVE_BENEATH, O_RDONLY);
  CHECK(fd >= 0);
  close(fd), close(root);
  fd = MUST(open("in/a/b/c/../../../../secret", O_RDONLY | O_CLOEXEC));
  CHECK(is_secret(fd));
  close(fd);

  pthread_t thread;
  MUST(pthread_create(&thread, NULL, exchange, NULL) == 0 ? 0 : -1);
  section("RESOLVE_BENEATH while directories move");
  race(RESOLVE_BENEATH, "a/b/c/../../../secret");
  section("RESOLVE_IN_ROOT while directories move");
  race(RESOLVE_IN_ROOT, "a/b/c/../../../secret");
  over = true;
  pthread_join(thread, NULL);

  section("a directory leaves a bind mount");
  if (geteuid() == 0) {
    EQUAL(outcome(CHILD({
      if (access("/proc/apus", F_OK) < 0) {
        MUST(unshare(CLONE_NEWNS));
        MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
      }
      MUST(mkdir("shown", 0755)), MUST(mkdir("shown/inner", 0755)), MUST(mkdir("window", 0755));
      MUST(mount("shown", "window", NULL, MS_BIND, NULL));
      MUST(chdir("window/inner"));
      int up = MUST(open("..", O_PATH | O_CLOEXEC));
      close(up);
      MUST(rename("../../shown/inner", "../../outside"));
      FAILS(open("..", O_PATH), ENOENT);
      FAILS(open("../secret", O_RDONLY), ENOENT);
      FAILS(open2(AT_FDCWD, "..", RESOLVE_BENEATH, O_PATH), EXDEV);
      MUST(chdir("/"));
      char path[PATH_MAX];
      snprintf(path, sizeof path, "%s/window", work_directory);
      MUST(umount2(path, MNT_DETACH));
      _exit(checks_failed);
    })), 0);
  } else {
    line("ok only root mounts");
  }
  return conformance_end();
}
