// An ordinary user looks into root's processes. /proc/PID/cwd leads past a directory that only root may search; maps, environ and
// stat tell where root's program lies; process_vm_readv and pidfd_getfd take what it has. None may work: what the user may not open by
// name it must not reach through a process, and no file that was opened before an execve of a set-user-ID program may show that program.
//
// run: --cpus 1 --user 0 -- @
// expect: ok no way into root's process .*
// expect: ok control: .*
// expect: ok files of before .*
// run: --cpus 4 --user 0 -- @
#include "attack.h"

#include <sys/uio.h>

static char secret[64] = "in the memory of root";
static pid_t target;
static const char *name(const char *entry) {
  static char path[80];
  snprintf(path, sizeof path, "/proc/%d/%s", target, entry);
  return path;
}

// What a user gets from the process: the number of ways that worked, each with a line.
static int ways(void) {
  static const char *files[] = {"cwd/file", "root/tmp/private/in/file", "maps", "smaps", "environ", "auxv", "pagemap", "fd/0"};
  static const char *links[] = {"cwd", "root", "exe", "fd/0"};
  char text[64];
  int found = 0;
  for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
    int fd = open(name(files[i]), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    say("way: %s opens", files[i]);
    found++, close(fd);
  }
  for (unsigned i = 0; i < sizeof links / sizeof *links; i++)
    if (readlink(name(links[i]), text, sizeof text) >= 0) say("way: %s is read", links[i]), found++;
  struct iovec here = {text, sizeof text}, there = {secret, sizeof secret};
  if (process_vm_readv(target, &here, 1, &there, 1, 0) > 0) say("way: its memory is read"), found++;
  if (process_vm_writev(target, &here, 1, &there, 1, 0) > 0) say("way: its memory is written"), found++;
  int pidfd = syscall(SYS_pidfd_open, target, 0), fd = syscall(SYS_pidfd_getfd, pidfd, 0, 0);
  if (fd >= 0) say("way: its descriptor is taken"), found++, close(fd);
  char stat[1000] = {0}, *field = stat;
  int file = open(name("stat"), O_RDONLY | O_CLOEXEC);
  if (read(file, stat, sizeof stat - 1) > 0 && (field = strrchr(stat, ')'))) {
    for (int i = 0; i < 26 && field; i++) field = strchr(field + 1, ' ');
    if (field && strtoul(field, NULL, 10)) say("way: stat tells where the stack is"), found++;
  }
  close(file);
  return found;
}

static void wait_here(void) {
  MUST(chdir("/tmp/private/in"));
  for (;;) pause();
}
static void wait_as_user(void) {
  become_user(1000);
  MUST(prctl(PR_SET_DUMPABLE, 1));
  for (;;) pause();
}
static void look(void) {
  become_user(1000);
  _exit(ways());
}

static bool is_there(const char *entry, const char *text) {
  char link[80] = {0};
  return readlink(name(entry), link, sizeof link - 1) > 0 && strcmp(link, text) == 0;
}

int main(int argc, char **argv) {
  if (argc > 1) {
    MUST(write(1, "", 0));
    for (;;) pause();
  }
  MUST(mkdir("/tmp/private", 0700));
  MUST(mkdir("/tmp/private/in", 0755));
  close(MUST(open("/tmp/private/in/file", O_CREAT | O_WRONLY, 0644)));

  target = in_child(wait_here);
  UNTIL(is_there("cwd", "/tmp/private/in"));
  int found = outcome(in_child(look));
  check(found == 0, "no way into root's process (%d found)", found);
  kill(target, SIGKILL), outcome(target);

  target = in_child(wait_as_user);
  struct stat status;
  UNTIL(stat(name("maps"), &status) == 0 && status.st_uid == 1000);
  found = outcome(in_child(look));
  check(found > 10, "control: the same ways lead into a process of the same user (%d found)", found);
  kill(target, SIGKILL), outcome(target);

  // The target becomes root by a set-user-ID program while the user holds its files open.
  char self[200] = {0}, text[4096];
  MUST(readlink("/proc/self/exe", self, sizeof self - 1));
  int from = MUST(open(self, O_RDONLY)), to = MUST(open("/tmp/set-id", O_CREAT | O_WRONLY, 0755));
  for (ssize_t n; (n = read(from, text, sizeof text)) > 0;) MUST(write(to, text, n));
  MUST(fchmod(to, 04755));
  close(from), close(to);
  int go[2];
  MUST(pipe2(go, O_CLOEXEC));
  target = fork();
  if (target == 0) {
    become_user(1000);
    MUST(prctl(PR_SET_DUMPABLE, 1));
    read(go[0], text, 1);
    execl("/tmp/set-id", "set-id", "wait", NULL);
    _exit(97);
  }
  UNTIL(stat(name("maps"), &status) == 0 && status.st_uid == 1000);
  pid_t reader = fork();
  if (reader == 0) {
    become_user(1000);
    int maps = MUST(open(name("maps"), O_RDONLY)), pages = MUST(open(name("pagemap"), O_RDONLY));
    int directory = MUST(open(name("."), O_RDONLY | O_DIRECTORY));
    bool shows = pread(maps, text, sizeof text, 0) > 0 && pread(pages, text, 8, 0) == 8;
    MUST(write(go[1], "x", 1));
    UNTIL(stat(name("maps"), &status) == 0 && status.st_uid == 0);
    bool hides = pread(maps, text, sizeof text, 0) <= 0 && pread(pages, text, 8, 0) <= 0;
    hides &= readlinkat(directory, "exe", text, sizeof text) < 0 && openat(directory, "maps", O_RDONLY) < 0;
    _exit(check(shows && hides, "files of before the set-user-ID program show nothing of it (%d, %d)", shows, hides) ? 0 : 1);
  }
  if (outcome(reader) != 0) attack_failures++;
  kill(target, SIGKILL), outcome(target);
  return attack_end();
}
