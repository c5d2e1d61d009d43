// Traps in a directory that everybody may write, such as /tmp: a symbolic link that root shall follow, a file or FIFO that root shall
// write to instead of its own, and hard links that keep another user's files. fs.protected_symlinks and its sisters refuse them, to root
// too. The control switches the rules off, and each trap works.
//
// run: --cpus 1 --user 0 -- @
// expect: ok no trap works .*
// expect: ok control: .*
#include "attack.h"

enum { VICTIM = 1000, ATTACKER = 2000 };

static int works(const char *what, bool does) {
  if (does) say("works: %s", what);
  return does;
}

// What the victim does unsuspectingly.
static int fall_for(void) {
  int count = 0, fd;
  count += works("a link is followed", (fd = open("/tmp/all/link", O_RDONLY)) >= 0);
  count += works("a link is followed to create", (fd = open("/tmp/all/new-link", O_CREAT | O_WRONLY, 0600)) >= 0);
  count += works("a file is taken for one's own", (fd = open("/tmp/all/file", O_CREAT | O_WRONLY, 0600)) >= 0);
  count += works("a FIFO is taken for one's own", (fd = open("/tmp/all/fifo", O_CREAT | O_RDWR, 0600)) >= 0);
  // What must go on working: one's own links and files, those of the directory's owner, and all outside of such directories.
  if (open("/tmp/all/own-link", O_RDONLY) < 0 || open("/tmp/all/own", O_CREAT | O_WRONLY, 0600) < 0 ||
      open("/tmp/all/root-link", O_RDONLY) < 0 || open("/tmp/mine/link", O_RDONLY) < 0 || open("/tmp/all/file", O_WRONLY) < 0)
    count += 100;
  return count;
}

static int link_to(void) {
  int count = 0;
  count += works("a hard link to an unreadable file", link("/tmp/secret", "/tmp/mine/secret") == 0);
  count += works("a hard link to a set-user-ID program", link("/tmp/set-id", "/tmp/mine/set-id") == 0);
  count += works("a hard link to a FIFO", link("/tmp/fifo", "/tmp/mine/fifo-link") == 0);
  if (link("/tmp/public", "/tmp/mine/public") != 0 || link("/tmp/all/file", "/tmp/mine/file-link") != 0) count += 100;
  unlink("/tmp/mine/secret"), unlink("/tmp/mine/set-id"), unlink("/tmp/mine/fifo-link"), unlink("/tmp/mine/public");
  unlink("/tmp/mine/file-link");
  return count;
}

static int as(uid_t user, int (*body)(void)) {
  pid_t child = fork();
  if (child == 0) {
    if (user) become_user(user);
    _exit(body());
  }
  return outcome(child);
}

static void make(const char *path, mode_t mode, uid_t owner) {
  close(MUST(open(path, O_CREAT | O_EXCL | O_WRONLY, 0600)));
  MUST(chown(path, owner, owner));
  MUST(chmod(path, mode));
}
static void make_link(const char *target, const char *path, uid_t owner) {
  MUST(symlink(target, path));
  MUST(lchown(path, owner, owner));
}

static void protect(const char *value) {
  static const char *names[] = {"symlinks", "hardlinks", "fifos", "regular"};
  for (int i = 0; i < 4; i++) {
    char path[64];
    snprintf(path, sizeof path, "/proc/sys/fs/protected_%s", names[i]);
    int fd = MUST(open(path, O_WRONLY));
    MUST(write(fd, value, 1));
    close(fd);
  }
}

int main(void) {
  umask(0);
  MUST(mkdir("/tmp/all", 0777)), MUST(chmod("/tmp/all", 01777)), MUST(mkdir("/tmp/mine", 0777));
  make("/tmp/public", 0666, 0), make("/tmp/secret", 0600, 0), make("/tmp/set-id", 04755, 0), make("/tmp/created", 0666, 0);
  MUST(mkfifo("/tmp/fifo", 0666));
  make("/tmp/all/file", 0666, ATTACKER), make("/tmp/all/own", 0600, VICTIM);
  MUST(mkfifo("/tmp/all/fifo", 0666)), MUST(chown("/tmp/all/fifo", ATTACKER, ATTACKER));
  make_link("/tmp/public", "/tmp/all/link", ATTACKER), make_link("/tmp/created", "/tmp/all/new-link", ATTACKER);
  make_link("/tmp/public", "/tmp/all/own-link", VICTIM), make_link("/tmp/public", "/tmp/all/root-link", 0);
  make_link("/tmp/public", "/tmp/mine/link", ATTACKER);

  int user = as(VICTIM, fall_for), links = as(ATTACKER, link_to);
  MUST(chown("/tmp/all/own", 0, 0));
  MUST(lchown("/tmp/all/own-link", 0, 0));
  int root = as(0, fall_for);
  check(user == 0 && root == 0 && links == 0, "no trap works (%d for a user, %d for root, %d hard links)", user, root, links);
  protect("0");
  root = as(0, fall_for), links = as(ATTACKER, link_to);
  check(root == 4 && links == 3, "control: without the rules each works (%d, %d hard links)", root, links);
  protect("1");
  return attack_end();
}
