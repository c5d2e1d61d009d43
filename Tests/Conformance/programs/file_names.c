// Names of files: renaming with and without flags, hard and symbolic links, files without a name, long and odd names, deep
// trees, sticky and set-group-ID directories, listings of directories that change.
// directory: overlay tmpfs bind root
#include "../conformance.h"
#include <grp.h>
#include <dirent.h>
#include <sys/socket.h>
#include <sys/un.h>

static int rename_with(const char *from, const char *to, unsigned flags) {
  return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}
enum { NOREPLACE = 1, EXCHANGE = 2, WHITEOUT = 4 };

static bool holds(const char *path, const char *content) {
  char text[64] = {0};
  int fd = open(path, O_RDONLY);
  if (fd < 0) return false;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  return n == (ssize_t)strlen(content) && !strcmp(text, content);
}
static int links(const char *path) {
  struct stat s;
  return lstat(path, &s) == 0 ? (int)s.st_nlink : -1;
}
static ino_t inode(const char *path) {
  struct stat s;
  return lstat(path, &s) == 0 ? s.st_ino : 0;
}

static void renaming(void) {
  section("rename");
  make_file("a", "A");
  OK(rename("a", "b"));
  FAILS(access("a", F_OK), ENOENT);
  CHECK(holds("b", "A"));
  OK(syscall(SYS_rename, "b", "a"));
  OK(syscall(SYS_renameat, AT_FDCWD, "a", AT_FDCWD, "b"));
  OK(rename_with("b", "a", 0));
  // Over a file that somebody has open: its content stays with the descriptor.
  make_file("old", "OLD");
  int fd = MUST(open("old", O_RDWR));
  OK(rename("a", "old"));
  CHECK(holds("old", "A"));
  char text[8] = {0};
  EQUAL(pread(fd, text, 8, 0), 3);
  CHECK(!strcmp(text, "OLD"));
  EQUAL(pwrite(fd, "new", 3, 3), 3);
  struct stat s;
  OK(fstat(fd, &s));
  EQUAL(s.st_nlink, 0);
  EQUAL(s.st_size, 6);
  OK(fchmod(fd, 0600));
  OK(ftruncate(fd, 2));
  EQUAL(lseek(fd, 0, SEEK_END), 2);
  close(fd);
  // Two names of one file: nothing happens.
  OK(link("old", "same"));
  OK(rename("old", "same"));
  EQUAL(links("old"), 2);
  OK(unlink("same"));
  // Directories.
  OK(mkdir("d", 0755));
  OK(mkdir("d/e", 0755));
  make_file("d/e/f", "F");
  fd = MUST(open("d/e/f", O_RDONLY));
  OK(rename("d/e", "e"));
  OK(rename("d", "dd"));
  CHECK(holds("e/f", "F"));
  EQUAL(read(fd, text, 8), 1);
  close(fd);
  OK(rename("e/f", "dd/f"));
  CHECK(holds("dd/f", "F"));
  FAILS(rename("dd", "dd/inside"), EINVAL);
  FAILS(rename("e", "dd"), ENOTEMPTY);
  OK(rename("dd", "e"));
  CHECK(holds("e/f", "F"));
  FAILS(rename("none", "x"), ENOENT);
  FAILS(rename("old", "none/x"), ENOENT);
  FAILS(rename("old", "e"), EISDIR);
  FAILS(rename("e", "old"), ENOTDIR);

  section("rename with flags");
  make_file("n", "N");
  FAILS(rename_with("n", "old", NOREPLACE), EEXIST);
  OK(rename_with("n", "nn", NOREPLACE));
  CHECK(holds("nn", "N"));
  FAILS(rename_with("nn", "none", EXCHANGE), ENOENT);
  OK(rename_with("nn", "old", EXCHANGE));
  CHECK(holds("nn", "A"));
  CHECK(holds("old", "N"));
  OK(rename_with("nn", "e", EXCHANGE));
  CHECK(holds("e", "A"));
  CHECK(holds("nn/f", "F"));
  OK(rename_with("nn", "e", EXCHANGE));
  FAILS(rename_with("nn", "old", NOREPLACE | EXCHANGE), EINVAL);
  FAILS(rename_with("nn", "old", 0x80), EINVAL);
  OK(unlink("nn"));
  OK(unlink("e/f"));
  OK(rmdir("e"));
  OK(unlink("old"));
}

static void linking(void) {
  section("links");
  make_file("l", "L");
  OK(link("l", "l2"));
  EQUAL(links("l"), 2);
  CHECK(inode("l") == inode("l2"));
  FAILS(link("l", "l2"), EEXIST);
  int fd = MUST(open("l2", O_WRONLY | O_APPEND));
  EQUAL(write(fd, "+", 1), 1);
  close(fd);
  CHECK(holds("l", "L+"));
  OK(unlink("l"));
  EQUAL(links("l2"), 1);
  CHECK(holds("l2", "L+"));
  OK(mkdir("ld", 0755));
  EQUAL(link("ld", "ld2") == -1 && errno == EPERM, 1);
  OK(rmdir("ld"));
  OK(symlink("l2", "s"));
  CHECK(holds("s", "L+"));
  OK(linkat(AT_FDCWD, "s", AT_FDCWD, "s2", 0));
  char target[PATH_MAX] = {0};
  EQUAL(readlink("s2", target, sizeof target), 2);
  OK(linkat(AT_FDCWD, "s", AT_FDCWD, "l3", AT_SYMLINK_FOLLOW));
  EQUAL(links("l2"), 2);
  struct timespec times[2] = {{1000, 5000}, {2000, 6000}};
  OK(utimensat(AT_FDCWD, "s", times, AT_SYMLINK_NOFOLLOW));
  struct stat link, file;
  OK(lstat("s", &link));
  OK(stat("s", &file));
  EQUAL(link.st_mtim.tv_sec, 2000);
  EQUAL(link.st_mtim.tv_nsec, 6000);
  CHECK(file.st_mtim.tv_sec != 2000);
  OK(lchown("s", getuid(), getgid()));
  OK(symlink("nowhere", "dangling"));
  FAILS(open("dangling", O_RDONLY), ENOENT);
  fd = MUST(open("dangling", O_CREAT | O_WRONLY, 0644));
  close(fd);
  OK(access("nowhere", F_OK));
  OK(symlink("loop", "loop"));
  FAILS(open("loop", O_RDONLY), ELOOP);
  char longest[4096];
  memset(longest, 'x', sizeof longest);
  for (int i = 200; i < 4095; i += 200) longest[i] = '/';
  longest[4095] = 0;
  OK(symlink(longest, "longest"));
  EQUAL(readlink("longest", target, sizeof target), 4095);
  FAILS(symlink("", "empty"), ENOENT);
}

static void nameless(void) {
  section("files without a name");
  int fd = MUST(open("u", O_CREAT | O_RDWR, 0644));
  EQUAL(write(fd, "content", 7), 7);
  OK(unlink("u"));
  char text[16] = {0};
  EQUAL(pread(fd, text, 16, 0), 7);
  EQUAL(pwrite(fd, "C", 1, 0), 1);
  struct stat s;
  OK(fstat(fd, &s));
  EQUAL(s.st_nlink, 0);
  char path[64];
  sprintf(path, "/proc/self/fd/%d", fd);
  int again = MUST(open(path, O_RDONLY));
  EQUAL(pread(again, text, 16, 0), 7);
  CHECK(!memcmp(text, "Content", 7));
  close(again);
  close(fd);

  fd = MUST(open(".", O_TMPFILE | O_RDWR, 0640));
  EQUAL(write(fd, "temporary", 9), 9);
  OK(fstat(fd, &s));
  EQUAL(s.st_nlink, 0);
  EQUAL(s.st_mode, S_IFREG | 0640);
  sprintf(path, "/proc/self/fd/%d", fd);
  OK(linkat(AT_FDCWD, path, AT_FDCWD, "t", AT_SYMLINK_FOLLOW));
  CHECK(holds("t", "temporary"));
  EQUAL(links("t"), 1);
  // The descriptor and the name are one file.
  OK(fstat(fd, &s));
  CHECK(s.st_ino == inode("t"));
  EQUAL(pwrite(fd, "T", 1, 0), 1);
  CHECK(holds("t", "Temporary"));
  int other = MUST(open("t", O_RDWR));
  EQUAL(pwrite(other, "E", 1, 1), 1);
  EQUAL(pread(fd, text, 2, 0), 2);
  CHECK(!memcmp(text, "TE", 2));
  close(other);
  close(fd);
  OK(unlink("t"));
  fd = MUST(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
  sprintf(path, "/proc/self/fd/%d", fd);
  close(fd);
  fd = MUST(open(".", O_TMPFILE | O_WRONLY, 0600));
  if (geteuid() == 0) {
    OK(linkat(fd, "", AT_FDCWD, "t2", AT_EMPTY_PATH));
    OK(unlink("t2"));
  }
  close(fd);
  FAILS(open("none", O_TMPFILE | O_RDWR, 0600), ENOENT);
  FAILS(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
}

static void odd_names(void) {
  section("odd names");
  char name[300];
  memset(name, 'n', sizeof name);
  name[255] = 0;
  OK(make_file(name, "long"));
  CHECK(holds(name, "long"));
  OK(rename(name, "short"));
  OK(rename("short", name));
  OK(unlink(name));
  name[255] = 'n', name[256] = 0;
  FAILS(open(name, O_CREAT | O_WRONLY, 0644), ENAMETOOLONG);
  FAILS(mkdir(name, 0755), ENAMETOOLONG);
  FAILS(symlink("x", name), ENAMETOOLONG);
  FAILS(rename("l2", name), ENAMETOOLONG);
  FAILS(access(name, F_OK), ENAMETOOLONG);
  OK(mkdir("odd", 0755));
  int made = 0, found = 0;
  for (int c = 1; c < 256; c++) {
    if (c == '/') continue;
    char odd[16];
    sprintf(odd, "odd/x%c", c);
    made += make_file(odd, "o") == 0;
  }
  EQUAL(made, 254);
  DIR *dir = opendir("odd");
  for (struct dirent *e; (e = readdir(dir));) found += e->d_name[0] == 'x' && e->d_name[2] == 0;
  closedir(dir);
  EQUAL(found, 254);
  for (int c = 1; c < 256; c++) {
    char odd[16];
    sprintf(odd, "odd/x%c", c);
    if (c != '/') made -= unlink(odd) == 0;
  }
  EQUAL(made, 0);
  OK(make_file("odd/...", ""));
  OK(make_file("odd/ ", ""));
  OK(make_file("odd/-rf", ""));
  FAILS(rmdir("odd"), ENOTEMPTY);

  section("deep trees");
  int depth = 0, here = MUST(open(".", O_RDONLY | O_DIRECTORY)), at = here;
  for (; depth < 300; depth++) {
    if (mkdirat(at, "deep", 0755) < 0) break;
    int next = openat(at, "deep", O_RDONLY | O_DIRECTORY);
    if (at != here) close(at);
    if ((at = next) < 0) break;
  }
  EQUAL(depth, 300);
  int fd = MUST(openat(at, "bottom", O_CREAT | O_RDWR, 0644));
  EQUAL(write(fd, "x", 1), 1);
  close(fd);
  OK(renameat(at, "bottom", here, "top"));
  OK(renameat(here, "top", at, "bottom"));
  OK(unlinkat(at, "bottom", 0));
  close(at);
  close(here);
}

static void directories(void) {
  section("set-group-ID directories");
  struct stat s;
  OK(mkdir("g", 0755));
  OK(chmod("g", 02775));
  OK(stat("g", &s));
  EQUAL(s.st_mode & 07777, 02775);
  OK(mkdir("g/sub", 0755));
  OK(stat("g/sub", &s));
  EQUAL(s.st_mode & 07777, 02755);
  OK(make_file("g/file", ""));
  OK(stat("g/file", &s));
  EQUAL(s.st_mode & 07777, 0644);
  if (geteuid() == 0) {
    OK(chown("g", 0, 2345));
    OK(chmod("g", 02775));
    OK(mkdir("g/theirs", 0755));
    OK(stat("g/theirs", &s));
    EQUAL(s.st_gid, 2345);
    EQUAL(s.st_mode & 07777, 02755);
    OK(make_file("g/their-file", ""));
    OK(stat("g/their-file", &s));
    EQUAL(s.st_gid, 2345);
    OK(symlink("x", "g/their-link"));
    OK(lstat("g/their-link", &s));
    EQUAL(s.st_gid, 2345);
    int fd = MUST(open("g", O_TMPFILE | O_RDWR, 0644));
    OK(fstat(fd, &s));
    EQUAL(s.st_gid, 2345);
    close(fd);
    section("sticky directories");
    OK(mkdir("sticky", 0777));
    OK(chmod("sticky", 01777));
    OK(make_file("sticky/root", "r"));
    EQUAL(outcome(CHILD({
      if (setgroups(0, NULL) || setgid(1000) || setuid(1000)) _exit(90);
      FAILS(unlink("sticky/root"), EPERM);
      FAILS(rename("sticky/root", "sticky/mine"), EPERM);
      OK(make_file("sticky/user", "u"));
      FAILS(rename("sticky/user", "sticky/root"), EPERM);
      OK(rename("sticky/user", "sticky/own"));
      OK(stat("sticky/own", &s));
      EQUAL(s.st_uid, 1000);
      EQUAL(s.st_gid, 1000);
      _exit(checks_failed != 0);
    })), 0);
    OK(unlink("sticky/own"));
  }

  section("nodes");
  OK(mkfifo("fifo", 0640));
  OK(stat("fifo", &s));
  EQUAL(s.st_mode, S_IFIFO | 0640);
  int fd = MUST(open("fifo", O_RDWR));
  EQUAL(write(fd, "x", 1), 1);
  close(fd);
  OK(mknod("socket", S_IFSOCK | 0600, 0));
  OK(stat("socket", &s));
  EQUAL(s.st_mode, S_IFSOCK | 0600);
  FAILS(open("socket", O_RDWR), ENXIO);
  OK(mknod("plain", S_IFREG | 0600, 0));
  OK(stat("plain", &s));
  EQUAL(s.st_mode, S_IFREG | 0600);
  FAILS(mknod("fifo", S_IFIFO | 0600, 0), EEXIST);

  section("a listing of a directory that changes");
  OK(mkdir("many", 0755));
  for (int i = 0; i < 600; i++) {
    char name[32];
    sprintf(name, "many/%d", i);
    if (make_file(name, "") < 0) line("NOT OK %s", name);
  }
  // Those that stay are seen once, whatever happens beside them.
  char seen[600] = {0};
  int steps = 0, twice = 0;
  DIR *dir = opendir("many");
  for (struct dirent *e; (e = readdir(dir)); steps++) {
    if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
    int number = atoi(e->d_name);
    if (number < 600 && number % 2 == 0) twice += seen[number]++;
    if (steps >= 150) continue;
    char name[32];
    sprintf(name, "many/%d", steps * 2 + 1);
    unlink(name);
    sprintf(name, "many/new-%d", steps);
    make_file(name, "");
  }
  closedir(dir);
  int missing = 0;
  for (int i = 0; i < 600; i += 2) missing += !seen[i];
  EQUAL(missing, 0);
  EQUAL(twice, 0);
}

// One process moves and removes a name, another one opens and links it: each call happens before or after each of the other's.
static void contended(void) {
  section("a name that another process moves");
  OK(mkdir("left", 0755));
  OK(mkdir("right", 0755));
  pid_t mover = fork();
  if (mover == 0) {
    unsigned seed = 1;
    for (int i = 0; i < 6000; i++) switch (rand_r(&seed) % 5) {
      case 0: rename("left/f", "right/f"); break;
      case 1: rename("right/f", "left/f"); break;
      case 2: unlink("left/f"); break;
      case 3: unlink("right/f"); break;
      default: symlink("other", "left/f");
    }
    _exit(0);
  }
  int wrong = 0;
  while (waitpid(mover, NULL, WNOHANG) == 0) {
    int file = open("left/f", O_CREAT | O_RDWR, 0644);
    if (file >= 0) close(file);
    wrong += file < 0 && (errno == ESTALE || errno == EXDEV);
    wrong += link("left/f", "right/f") != 0 && (errno == ESTALE || errno == EXDEV);
    wrong += rename("right/f", "left/f") != 0 && (errno == ESTALE || errno == EXDEV);
  }
  EQUAL(wrong, 0);
}

int main(void) {
  umask(022);
  enter_work_directory();
  MUST(chmod(".", 0755));
  renaming();
  linking();
  nameless();
  odd_names();
  directories();
  contended();
  return conformance_end();
}
