// Extended attributes (xattr(7)): the rule of each name space, for root and for an ordinary user; and the capabilities of
// files (capabilities(7)): who grants them, what executing the file gives, and when the file loses them.
#include "../conformance.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/xattr.h>

enum { USER = 4321 };

static void become(uid_t user) {
  MUST(setgroups(0, NULL));
  MUST(setresgid(user, user, user));
  MUST(setresuid(user, user, user));
}

static struct vfs_cap_data capabilities(uint32_t permitted, bool isEffective) {
  struct vfs_cap_data data = {.magic_etc = VFS_CAP_REVISION_2 | (isEffective ? VFS_CAP_FLAGS_EFFECTIVE : 0)};
  data.data[0].permitted = permitted;
  return data;
}

#define CAPS "security.capability"
static int grant(const char *path, uint32_t permitted) {
  struct vfs_cap_data data = capabilities(permitted, true);
  return setxattr(path, CAPS, &data, sizeof data, 0);
}
static bool is_granted(const char *path) {
  char value[100];
  return getxattr(path, CAPS, value, sizeof value) > 0;
}

// Whether the list of names has one.
static bool lists(const char *path, const char *name) {
  char names[4096];
  ssize_t n = llistxattr(path, names, sizeof names);
  for (char *p = names; n > 0 && p < names + n; p += strlen(p) + 1)
    if (strcmp(p, name) == 0) return true;
  return false;
}

// The effective capabilities of a process, from status(5).
static unsigned long long effective(void) {
  char text[4096] = {0};
  int fd = MUST(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  MUST(read(fd, text, sizeof text - 1));
  close(fd);
  char *at = strstr(text, "CapEff:");
  return at ? strtoull(at + 7, NULL, 16) : ~0ull;
}

static void user_space(void) {
  section("user.");
  OK(setxattr("mine", "user.a", "1", 1, 0));
  FAILS(setxattr("mine", "user.a", "1", 1, XATTR_CREATE), EEXIST);
  FAILS(setxattr("mine", "user.b", "1", 1, XATTR_REPLACE), ENODATA);
  CHECK(lists("mine", "user.a"));
  FAILS(setxattr("mine", "user.", "1", 1, 0), EINVAL);
  FAILS(setxattr("mine", "", "1", 1, 0), ERANGE);
  char name[300];
  memset(name, 'n', sizeof name);
  memcpy(name, "user.", 5);
  name[256] = 0;
  FAILS(setxattr("mine", name, "1", 1, 0), ERANGE);
  static char large[65537];
  FAILS(setxattr("mine", "user.large", large, sizeof large, 0), E2BIG);
  FAILS(getxattr("mine", "user.absent", name, sizeof name), ENODATA);
  FAILS(removexattr("mine", "user.absent"), ENODATA);
  OK(removexattr("mine", "user.a"));
  // Another's file: by its permission bits.
  FAILS(setxattr("root", "user.a", "1", 1, 0), EACCES);
  FAILS(removexattr("root", "user.kept"), EACCES);
  EQUAL(getxattr("root", "user.kept", name, sizeof name), 1);
  FAILS(getxattr("hidden", "user.kept", name, sizeof name), EACCES);
  OK(setxattr("public", "user.a", "1", 1, 0));
  OK(setxattr("open-directory", "user.a", "1", 1, 0));
  FAILS(setxattr("sticky", "user.a", "1", 1, 0), EPERM);
  // Only regular files and directories have them.
  FAILS(lsetxattr("link", "user.a", "1", 1, 0), EPERM);
  FAILS(lgetxattr("link", "user.a", name, sizeof name), ENODATA);
  FAILS(setxattr("fifo", "user.a", "1", 1, 0), EPERM);
  int handle = MUST(open("mine", O_PATH | O_CLOEXEC));
  FAILS(fsetxattr(handle, "user.a", "1", 1, 0), EBADF);
  close(handle);
}

static void privileged_spaces(const char *path) {
  char value[100];
  FAILS(setxattr(path, "trusted.a", "1", 1, 0), EPERM);
  FAILS(getxattr(path, "trusted.kept", value, sizeof value), ENODATA);
  FAILS(removexattr(path, "trusted.kept"), EPERM);
  CHECK(!lists(path, "trusted.kept"));
  FAILS(setxattr(path, "security.a", "1", 1, 0), EPERM);
  FAILS(removexattr(path, "security.a"), EPERM);
  FAILS(grant(path, ~0u), EPERM);
  FAILS(removexattr(path, CAPS), EPERM);
  FAILS(setxattr(path, "system.a", "1", 1, 0), EOPNOTSUPP);
  FAILS(removexattr(path, "system.a"), EOPNOTSUPP);
}

int main(int argc, char **argv) {
  if (argc > 1) {
    line("ok executed: user %d, effective %llx, dumpable %d", geteuid(), effective(), prctl(PR_GET_DUMPABLE));
    return 0;
  }
  if (geteuid() != 0) {
    line("ok only root can grant");
    return conformance_end();
  }
  enter_work_directory();
  MUST(chmod(".", 0777));
  MUST(umask(0));
  MUST(make_file("root", "x"));
  MUST(make_file("hidden", "x"));
  MUST(make_file("public", "x"));
  MUST(make_file("mine", "x"));
  MUST(chmod("hidden", 0600));
  MUST(chmod("root", 0644));
  MUST(chmod("public", 0666));
  MUST(mkdir("open-directory", 0777));
  MUST(mkdir("sticky", 0777));
  MUST(chmod("sticky", 01777));
  MUST(symlink("mine", "link"));
  MUST(mkfifo("fifo", 0666));
  MUST(chown("mine", USER, USER));
  MUST(setxattr("root", "user.kept", "1", 1, 0));
  MUST(setxattr("hidden", "user.kept", "1", 1, 0));
  MUST(setxattr("root", "trusted.kept", "1", 1, 0));
  MUST(setxattr("mine", "trusted.kept", "1", 1, 0));

  EQUAL(outcome(CHILD({
    become(USER);
    user_space();
    section("the privileged name spaces, on the user's own file");
    privileged_spaces("mine");
    section("the privileged name spaces, on root's file");
    privileged_spaces("root");
    _exit(checks_failed);
  })), 0);

  section("root");
  char value[100];
  CHECK(lists("root", "trusted.kept"));
  EQUAL(getxattr("root", "trusted.kept", value, sizeof value), 1);
  OK(removexattr("root", "trusted.kept"));
  OK(lsetxattr("link", "trusted.a", "1", 1, 0));
  FAILS(setxattr("root", "system.a", "1", 1, 0), EOPNOTSUPP);
  FAILS(setxattr("root", "nonsense.a", "1", 1, 0), EOPNOTSUPP);
  FAILS(setxattr("root", "nonsense", "1", 1, 0), EOPNOTSUPP);
  FAILS(setxattr("root", "trusted.", "1", 1, 0), EINVAL);

  section("the form of capabilities");
  struct vfs_cap_data data = capabilities(1 << CAP_NET_RAW, true);
  FAILS(setxattr("root", CAPS, &data, sizeof data - 4, 0), EINVAL);
  FAILS(setxattr("root", CAPS, &data, 12, 0), EINVAL);
  data.magic_etc = VFS_CAP_REVISION_1;
  FAILS(setxattr("root", CAPS, &data, sizeof data, 0), EINVAL);
  data.magic_etc = VFS_CAP_REVISION_3;
  FAILS(setxattr("root", CAPS, &data, sizeof data, 0), EINVAL);
  CHECK(!is_granted("root"));

  section("what takes capabilities away");
  OK(grant("root", 1 << CAP_NET_RAW));
  CHECK(is_granted("root") && lists("root", CAPS));
  int fd = MUST(open("root", O_RDWR | O_CLOEXEC));
  CHECK(is_granted("root"));
  EQUAL(write(fd, "y", 1), 1);
  CHECK(!is_granted("root"));
  OK(grant("root", 1 << CAP_NET_RAW));
  OK(ftruncate(fd, 0));
  CHECK(!is_granted("root"));
  OK(grant("root", 1 << CAP_NET_RAW));
  OK(chown("root", 0, 0));
  CHECK(!is_granted("root"));
  OK(grant("root", 1 << CAP_NET_RAW));
  close(MUST(open("root", O_WRONLY | O_TRUNC | O_CLOEXEC)));
  CHECK(!is_granted("root"));
  OK(grant("root", 1 << CAP_NET_RAW));
  OK(chmod("root", 0600));
  CHECK(is_granted("root"));
  OK(removexattr("root", CAPS));
  CHECK(!is_granted("root"));
  close(fd);

  section("executing a file with capabilities");
  char self[PATH_MAX] = {0}, text[65536];
  MUST(readlink("/proc/self/exe", self, sizeof self - 1));
  int from = MUST(open(self, O_RDONLY | O_CLOEXEC)), program = MUST(open("program", O_CREAT | O_WRONLY | O_CLOEXEC, 0755));
  for (ssize_t n; (n = read(from, text, sizeof text)) > 0;) MUST(write(program, text, n));
  close(from), close(program);
  struct { const char *what; uint32_t permitted; bool isEffective, isBounded, isFixed; } runs[] = {
    {"none", 0, false, false, false},
    {"effective", 1 << CAP_NET_RAW | 1 << CAP_CHOWN, true, false, false},
    {"permitted only", 1 << CAP_NET_RAW, false, false, false},
    {"beyond the bounding set", 1 << CAP_NET_RAW | 1 << CAP_CHOWN, true, true, false},
    {"without new privileges", 1 << CAP_NET_RAW, true, false, true},
  };
  for (unsigned i = 0; i < sizeof runs / sizeof *runs; i++) {
    line("ok a user runs a file with capabilities: %s", runs[i].what);
    data = capabilities(runs[i].permitted, runs[i].isEffective);
    if (i > 0) MUST(setxattr("program", CAPS, &data, sizeof data, 0));
    line("ok ends with %d", outcome(CHILD({
      if (runs[i].isBounded) MUST(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
      become(USER);
      if (runs[i].isFixed) MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
      execl("program", "program", "run", NULL);
      _exit(errno);
    })));
  }
  return conformance_end();
}
