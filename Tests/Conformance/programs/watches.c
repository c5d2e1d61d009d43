// inotify(7): which events each operation causes, at a watch on the file and at one on its directory, and in which order.
// directory: overlay tmpfs bind root
#include "../conformance.h"
#include <dirent.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static int instance, directory_watch, file_watch;

static void show(const char *what) {
  static const char *const names[] = {"ACCESS", "MODIFY", "ATTRIB", "CLOSE_WRITE", "CLOSE_NOWRITE", "OPEN", "MOVED_FROM",
                                      "MOVED_TO", "CREATE", "DELETE", "DELETE_SELF", "MOVE_SELF", "?", "UNMOUNT", "OVERFLOW", "IGNORED"};
  char buffer[65536] __attribute__((aligned(8))), text[4096];
  int length = 0;
  uint32_t cookie = 0;
  text[0] = 0;
  for (ssize_t n; (n = read(instance, buffer, sizeof buffer)) > 0;)
    for (char *at = buffer; at < buffer + n;) {
      struct inotify_event *event = (struct inotify_event *)at;
      at += sizeof *event + event->len;
      length += snprintf(text + length, sizeof text - length, " %s", event->wd == directory_watch ? "dir:" : event->wd == file_watch ? "file:" : "?:");
      for (int i = 0; i < 16; i++)
        if (event->mask & 1u << i) length += snprintf(text + length, sizeof text - length, "%s", names[i]);
      if (event->mask & IN_ISDIR) length += snprintf(text + length, sizeof text - length, "+dir");
      if (event->len) length += snprintf(text + length, sizeof text - length, "(%s)", event->name);
      if (event->cookie) {
        if (event->mask & IN_MOVED_TO) length += snprintf(text + length, sizeof text - length, "%s", event->cookie == cookie ? "=" : "!");
        cookie = event->cookie;
      }
    }
  line("%s:%s", what, text);
}

static void watch(const char *file) {
  if (file_watch) inotify_rm_watch(instance, file_watch);
  char buffer[4096];
  while (read(instance, buffer, sizeof buffer) > 0) continue;
  file_watch = MUST(inotify_add_watch(instance, file, IN_ALL_EVENTS));
}

static void make(const char *name, const char *text) {
  int fd = MUST(open(name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0755));
  if (*text) MUST(write(fd, text, strlen(text)));
  close(fd);
}

static void files(void) {
  section("files");
  make("f", "text");
  watch("f");
  char bytes[8] = "";
  int fd = MUST(open("f", O_RDWR | O_CLOEXEC));
  show("open");
  MUST(read(fd, bytes, 2));
  show("read");
  MUST(pread(fd, bytes, 2, 100));
  show("pread at the end");
  MUST(write(fd, bytes, 2));
  show("write");
  MUST(write(fd, bytes, 0));
  show("write nothing");
  MUST(ftruncate(fd, 100));
  show("ftruncate");
  MUST(ftruncate(fd, 100));
  show("ftruncate to the same size");
  MUST(fallocate(fd, 0, 0, 200));
  show("fallocate");
  MUST(fchmod(fd, 0700));
  show("fchmod");
  struct timespec times[2] = {{1, 0}, {2, 0}};
  MUST(futimens(fd, times));
  show("futimens");
  void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  *(volatile char *)memory = 1;
  munmap(memory, 4096);
  show("a write to a mapping");
  close(fd);
  show("close");
  MUST(truncate("f", 10));
  show("truncate");
  close(MUST(open("f", O_WRONLY | O_TRUNC | O_CLOEXEC)));
  show("open to truncate");
  close(MUST(open("f", O_WRONLY | O_TRUNC | O_CLOEXEC)));
  show("open to truncate what is empty");
  close(MUST(open("f", O_RDONLY | O_CLOEXEC)));
  show("open and close");
  close(MUST(open("f", O_PATH | O_CLOEXEC)));
  show("open a path");
  MUST(chown("f", getuid(), getgid()));
  show("chown");
  struct stat status;
  MUST(stat("f", &status));
  MUST(access("f", R_OK));
  show("stat and access");
}

static void names(void) {
  section("names");
  make("f", "text");
  watch("f");
  MUST(link("f", "g"));
  show("link");
  MUST(unlink("g"));
  show("unlink of one of two names");
  MUST(rename("f", "h"));
  show("rename");
  make("o", "");
  char buffer[4096];
  while (read(instance, buffer, sizeof buffer) > 0) continue;
  MUST(rename("o", "h"));
  show("rename over the watched file");
  file_watch = 0;
  watch("h");
  MUST(unlink("h"));
  show("unlink of the last name");
  file_watch = 0;
  make("f", "text");
  watch("f");
  int fd = MUST(open("f", O_RDONLY | O_CLOEXEC));
  show("open");
  MUST(unlink("f"));
  show("unlink of an open file");
  close(fd);
  show("close of a file without a name");
  file_watch = 0;
  make("a", "");
  make("b", "");
  watch("a");
  MUST(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE));
  show("exchange");
  MUST(unlink("a"));
  MUST(unlink("b"));
  while (read(instance, buffer, sizeof buffer) > 0) continue;
  file_watch = 0;
  MUST(symlink("nothing", "s"));
  show("symlink");
  MUST(unlink("s"));
  show("unlink of a symbolic link");
  MUST(mkfifo("p", 0600));
  show("mkfifo");
  MUST(unlink("p"));
  show("unlink of a FIFO");
}

static void directories(void) {
  section("directories");
  MUST(mkdir("d", 0755));
  show("mkdir");
  watch("d");
  DIR *stream = opendir("d");
  show("opendir");
  while (readdir(stream)) continue;
  show("readdir");
  closedir(stream);
  show("closedir");
  make("d/x", "");
  show("a file in it");
  MUST(unlink("d/x"));
  show("and it goes");
  MUST(chmod("d", 0700));
  show("chmod");
  MUST(rename("d", "e"));
  show("rename");
  MUST(rmdir("e"));
  show("rmdir");
  file_watch = 0;
}

static void programs(void) {
  section("programs");
  char path[] = "/bin/true";
  int from = MUST(open(path, O_RDONLY | O_CLOEXEC)), to = MUST(open("prog", O_CREAT | O_WRONLY | O_CLOEXEC, 0755));
  while (sendfile(to, from, NULL, 1 << 20) > 0) continue;
  close(from);
  close(to);
  watch("prog");
  pid_t child = fork();
  if (child == 0) {
    execl("./prog", "prog", NULL);
    _exit(9);
  }
  int status;
  MUST(waitpid(child, &status, 0));
  EQUAL(status, 0);
  char buffer[65536];
  uint32_t seen = 0, first = 0;
  for (ssize_t n; (n = read(instance, buffer, sizeof buffer)) > 0;)
    for (char *at = buffer; at < buffer + n;) {
      struct inotify_event *event = (struct inotify_event *)at;
      at += sizeof *event + event->len;
      if (event->wd != file_watch) continue;
      if (!first) first = event->mask;
      seen |= event->mask;
    }
  line("exec: first %x, all %x", first, seen);
  MUST(unlink("prog"));
  while (read(instance, buffer, sizeof buffer) > 0) continue;
  file_watch = 0;
}

static void watches(void) {
  section("watches");
  char buffer[4096];
  make("f", "");
  int one = MUST(inotify_add_watch(instance, "f", IN_OPEN | IN_ONESHOT));
  while (read(instance, buffer, sizeof buffer) > 0) continue;
  file_watch = one;
  close(MUST(open("f", O_RDONLY | O_CLOEXEC)));
  show("once");
  FAILS(inotify_rm_watch(instance, one), EINVAL);
  file_watch = 0;
  FAILS(inotify_add_watch(instance, "f", IN_OPEN | IN_ONLYDIR), ENOTDIR);
  FAILS(inotify_add_watch(instance, "f", 0), EINVAL);
  FAILS(inotify_add_watch(instance, "none", IN_OPEN), ENOENT);
  FAILS(inotify_add_watch(0, "f", IN_OPEN), EINVAL);
  file_watch = MUST(inotify_add_watch(instance, "f", IN_OPEN));
  FAILS(inotify_add_watch(instance, "f", IN_CLOSE | IN_MASK_CREATE), EEXIST);
  FAILS(inotify_add_watch(instance, "f", IN_CLOSE | IN_MASK_CREATE | IN_MASK_ADD), EINVAL);
  EQUAL(inotify_add_watch(instance, "f", IN_CLOSE | IN_MASK_ADD), file_watch);
  close(MUST(open("f", O_RDONLY | O_CLOEXEC)));
  show("added to the mask");
  MUST(inotify_rm_watch(instance, file_watch));
  show("removed");
  file_watch = 0;
  MUST(symlink("f", "l"));
  while (read(instance, buffer, sizeof buffer) > 0) continue;
  file_watch = MUST(inotify_add_watch(instance, "l", IN_ALL_EVENTS | IN_DONT_FOLLOW));
  close(MUST(open("l", O_RDONLY | O_CLOEXEC)));
  show("a link that is followed");
  MUST(unlink("l"));
  show("a link that goes");
  file_watch = 0;
  int excluding = MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), kept = instance;
  MUST(inotify_rm_watch(instance, directory_watch));
  show("no more");
  instance = excluding;
  directory_watch = MUST(inotify_add_watch(instance, ".", IN_ALL_EVENTS | IN_EXCL_UNLINK));
  int fd = MUST(open("f", O_RDWR | O_CLOEXEC));
  show("open");
  MUST(unlink("f"));
  show("unlink");
  MUST(write(fd, "x", 1));
  close(fd);
  show("write and close after unlink, excluded");
  close(excluding);
  instance = kept;
}

int main(void) {
  enter_work_directory();
  instance = MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  directory_watch = MUST(inotify_add_watch(instance, ".", IN_ALL_EVENTS));
  files();
  names();
  directories();
  programs();
  watches();
  return conformance_end();
}
