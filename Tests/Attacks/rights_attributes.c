// An ordinary user writes extended attributes that take a privilege. With security.capability on a program of its own it would be
// root at the next execve; trusted.* and security.* belong to root; access control lists have no effect here, so none may be stored.
// The control writes the same attributes as root, and user.* as the user.
//
// run: --cpus 1 --user 0 -- @
// expect: ok the user writes none .*
// expect: ok control: .*
// expect: ok root stays away
// run: --cpus 1 --user 0 --bind %:/srv -- @ /srv
#include "attack.h"

#include <sys/xattr.h>

static const uint32_t capabilities[5] = {0x02000001, ~0u, 0, 0x1ff, 0};
static const uint16_t list[] = {2, 0, 1, 7, 0xffff, 0xffff, 2, 7, 1000, 0, 4, 0, 0xffff, 0xffff, 16, 7, 0xffff, 0xffff, 32, 0, 0xffff, 0xffff};
static const char *names[] = {
  "security.capability", "security.selinux", "security.x", "trusted.x", "trusted.overlay.opaque", "system.posix_acl_access",
  "system.posix_acl_default", "system.x",
};

static int written(const char *path) {
  int count = 0;
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
    bool is_list = strncmp(names[i], "system.posix", 12) == 0;
    if (setxattr(path, names[i], is_list ? (const void *)list : capabilities, is_list ? sizeof list : sizeof capabilities, 0) == 0)
      say("%s is written on %s", names[i], path), count++;
    if (removexattr(path, names[i]) == 0) say("%s is removed from %s", names[i], path), count++;
  }
  return count;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "try") == 0) _exit(setuid(0) == 0 || open("/etc/shadow", O_RDWR) >= 0);
  const char *directory = argc > 1 ? argv[1] : "/tmp";
  MUST(chdir(directory));
  char self[200] = {0}, text[65536];
  MUST(readlink("/proc/self/exe", self, sizeof self - 1));
  int from = MUST(open(self, O_RDONLY)), to = MUST(open("program", O_CREAT | O_WRONLY, 0755));
  for (ssize_t n; (n = read(from, text, sizeof text)) > 0;) MUST(write(to, text, n));
  close(from), close(to);
  close(MUST(open("root", O_CREAT | O_WRONLY, 0600)));
  MUST(mkdir("directory", 0777));
  // An export may belong to a user of the host who cannot give files away.
  if (chown("program", 1000, 1000) < 0 && argc < 2) MUST(-1);

  pid_t user = fork();
  if (user == 0) {
    become_user(1000);
    _exit(written("program") + written("root") + written("directory") + written("/etc/passwd"));
  }
  int count = outcome(user);
  check(count == 0, "the user writes none of root's attributes (%d written)", count);
  user = fork();
  if (user == 0) {
    become_user(1000);
    execl("./program", "program", "try", NULL);
    _exit(97);
  }
  check(outcome(user) == 0, "root stays away");
  if (argc < 2) {
    user = fork();
    if (user == 0) {
      become_user(1000);
      _exit(setxattr("program", "user.x", "1", 1, 0) == 0 ? 0 : 1);
    }
    check(outcome(user) == 0 && setxattr("program", "security.capability", capabilities, sizeof capabilities, 0) == 0 &&
            setxattr("program", "trusted.x", "1", 1, 0) == 0,
          "control: the user writes user.x, and root what the user may not");
  }
  return attack_end();
}
