// Directories: making, listing, moving, walking, permissions.
// directory: overlay tmpfs bind root
#include "../conformance.h"
#include <dirent.h>
#include <sys/xattr.h>

struct entry { uint64_t inode; int64_t offset; uint16_t length; uint8_t type; char name[]; };

static int compare(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

// The names of a directory by getdents64 with a buffer of this size, sorted, on one line.
static int list(const char *path, size_t size, bool print) {
  int fd = open(path, O_RDONLY | O_DIRECTORY), count = 0;
  static char *names[5000];
  char *buffer = malloc(size);
  long n;
  while ((n = syscall(SYS_getdents64, fd, buffer, size)) > 0)
    for (long at = 0; at < n;) {
      struct entry *e = (struct entry *)(buffer + at);
      names[count++] = strdup(e->name);
      at += e->length;
    }
  close(fd);
  qsort(names, count, sizeof *names, compare);
  if (print) {
    char text[1000] = "";
    for (int i = 0; i < count; i++) strcat(strcat(text, " "), names[i]);
    line("entries:%s", text);
  }
  for (int i = 1; i < count; i++)
    if (!strcmp(names[i], names[i - 1])) line("NOT OK %s twice", names[i]);
  for (int i = 0; i < count; i++) free(names[i]);
  free(buffer);
  return n < 0 ? -errno : count;
}

int main(void) {
  enter_work_directory();
  struct stat s;
  section("make and remove");
  OK(mkdir("d", 0755));
  FAILS(mkdir("d", 0755), EEXIST);
  FAILS(mkdir("none/d", 0755), ENOENT);
  FAILS(mkdir("", 0755), ENOENT);
  OK(mkdir("d/e/", 0700));
  OK(mkdirat(AT_FDCWD, "d/f", 01777));
  OK(stat("d/f", &s));
  EQUAL(s.st_mode, S_IFDIR | 01755);
  FAILS(rmdir("d"), ENOTEMPTY);
  FAILS(rmdir("d/."), EINVAL);
  FAILS(rmdir("d/e/.."), ENOTEMPTY);
  FAILS(rmdir("none"), ENOENT);
  make_file("file", "x");
  FAILS(rmdir("file"), ENOTDIR);
  FAILS(unlinkat(AT_FDCWD, "d/e", 0), EISDIR);
  OK(unlinkat(AT_FDCWD, "d/e", AT_REMOVEDIR));
  FAILS(unlinkat(AT_FDCWD, "d/f", 0x4000), EINVAL);
  OK(rmdir("d/f"));

  section("listing");
  EQUAL(list("d", 4096, true), 2);
  make_file("d/b", "");
  make_file("d/a", "");
  mkdir("d/sub", 0755);
  EQUAL(symlink("a", "d/link"), 0);
  EQUAL(list("d", 4096, true), 6);
  EQUAL(list("d", 64, false), 6);
  int fd = MUST(open("d", O_RDONLY));
  char small[8];
  FAILS(syscall(SYS_getdents64, fd, small, 8), EINVAL);
  FAILS(read(fd, small, 8), EISDIR);
  EQUAL(lseek(fd, 0, SEEK_SET), 0);
  close(fd);
  fd = MUST(open("file", O_RDONLY));
  FAILS(syscall(SYS_getdents64, fd, small, 8), ENOTDIR);
  close(fd);
  mkdir("many", 0755);
  for (int i = 0; i < 1000; i++) {
    char name[32];
    sprintf(name, "many/file-%04d", i);
    if (make_file(name, "") < 0) line("NOT OK make %s", name);
  }
  EQUAL(list("many", 4096, false), 1002);
  EQUAL(list("many", 300, false), 1002);
  // Removing while listing: every file goes, each once.
  DIR *dir = opendir("many");
  int removed = 0;
  for (struct dirent *e; (e = readdir(dir));)
    if (e->d_name[0] == 'f') removed += unlinkat(dirfd(dir), e->d_name, 0) == 0;
  closedir(dir);
  EQUAL(removed, 1000);
  OK(rmdir("many"));
  dir = opendir("d");
  long mark = -1;
  char second[256] = "";
  for (int i = 0; i < 4; i++) {
    if (i == 2) mark = telldir(dir);
    struct dirent *e = readdir(dir);
    if (i == 2) strcpy(second, e->d_name);
  }
  seekdir(dir, mark);
  CHECK(!strcmp(readdir(dir)->d_name, second));
  closedir(dir);

  section("moving");
  OK(rename("d", "moved"));
  FAILS(stat("d/a", &s), ENOENT);
  OK(stat("moved/a", &s));
  FAILS(rename("moved", "moved/sub/inside"), EINVAL);
  FAILS(rename("moved", "file"), ENOTDIR);
  FAILS(rename("file", "moved"), EISDIR);
  OK(mkdir("empty", 0755));
  OK(rename("empty", "moved/sub"));
  OK(mkdir("full", 0755));
  FAILS(rename("full", "moved"), ENOTEMPTY);
  OK(renameat(AT_FDCWD, "moved/sub", AT_FDCWD, "full/sub"));
  FAILS(rename("full/.", "x"), EBUSY);
  OK(stat("full", &s));
  EQUAL(s.st_nlink, 3);
  OK(stat("full/sub/..", &s));

  section("current directory");
  char path[PATH_MAX], before[PATH_MAX];
  CHECK(getcwd(before, sizeof before) != NULL);
  OK(chdir("full/sub"));
  CHECK(getcwd(path, sizeof path) && !strcmp(path + strlen(before), "/full/sub"));
  FAILS(syscall(SYS_getcwd, path, 4), ERANGE);
  OK(chdir(".."));
  OK(chdir(".."));
  FAILS(chdir("file"), ENOTDIR);
  FAILS(chdir("none"), ENOENT);
  fd = MUST(open("full", O_RDONLY | O_DIRECTORY));
  OK(fchdir(fd));
  OK(access("sub", F_OK));
  OK(chdir(before));
  FAILS(fchdir(999), EBADF);
  OK(openat(fd, "sub", O_RDONLY | O_DIRECTORY) < 0);
  OK(mkdir("doomed", 0755));
  OK(chdir("doomed"));
  OK(rmdir("../doomed"));
  FAILS(open("new", O_CREAT | O_RDWR, 0600), ENOENT);
  FAILS(syscall(SYS_getcwd, path, sizeof path), ENOENT);
  OK(chdir(before));
  OK(access("/../..", F_OK));
  OK(access("full/sub/../../file", F_OK));
  FAILS(access("file/../file", F_OK), ENOTDIR);
  OK(access("full//sub/./", F_OK));

  section("symbolic links on the way");
  OK(symlink("full", "to-full"));
  OK(stat("to-full/sub", &s));
  OK(lstat("to-full/", &s));
  CHECK(S_ISDIR(s.st_mode));
  FAILS(open("to-full", O_RDONLY | O_DIRECTORY | O_NOFOLLOW), ENOTDIR);
  FAILS(rmdir("to-full"), ENOTDIR);
  FAILS(mkdir("to-full", 0755), EEXIST);
  char name[32], target[32];
  make_file("chain-0", "");
  for (int i = 1; i <= 41; i++) {
    sprintf(target, "chain-%d", i - 1);
    sprintf(name, "chain-%d", i);
    if (symlink(target, name)) line("NOT OK symlink");
  }
  OK(access("chain-40", F_OK));
  FAILS(access("chain-41", F_OK), ELOOP);

  if (geteuid() == 0) {
    section("root directory");
    make_file("full/inside", "");
    pid_t child = CHILD({
      OK(chroot("full"));
      OK(chdir("/"));
      OK(access("/inside", F_OK));
      OK(access("/../inside", F_OK));
      FAILS(access("/file", F_OK), ENOENT);
      _exit(checks_failed);
    });
    EQUAL(outcome(child), 0);

    section("permissions");
    MUST(chmod(work_directory, 0755));
    mkdir("private", 0700);
    make_file("private/f", "");
    mkdir("readable", 0744);
    make_file("readable/f", "");
    mkdir("sticky", 0777);
    chmod("sticky", 01777);
    make_file("sticky/f", "");
    make_file("secret", "");
    chmod("secret", 0640);
    make_file("grouped", "");
    chmod("grouped", 0060);
    MUST(chown("grouped", 0, 777));
    child = CHILD({
      MUST(setgid(777));
      MUST(setuid(4242));
      FAILS(stat("private/f", &s), EACCES);
      FAILS(open("private", O_RDONLY), EACCES);
      FAILS(stat("readable/f", &s), EACCES);
      CHECK(open("readable", O_RDONLY) >= 0);
      FAILS(unlink("sticky/f"), EPERM);
      FAILS(rename("sticky/f", "sticky/g"), EPERM);
      OK(make_file("sticky/mine", ""));
      OK(unlink("sticky/mine"));
      FAILS(open("secret", O_RDONLY), EACCES);
      FAILS(open("new", O_CREAT | O_RDWR, 0600), EACCES);
      FAILS(mkdir("new", 0700), EACCES);
      CHECK(open("grouped", O_RDWR) >= 0);
      FAILS(chmod("grouped", 0777), EPERM);
      FAILS(chown("grouped", 4242, -1), EPERM);
      FAILS(chroot("."), EPERM);
      FAILS(mknod("sticky/null", S_IFCHR | 0666, 0x103), EPERM);
      OK(mknod("sticky/fifo", S_IFIFO | 0600, 0));
      FAILS(utimensat(AT_FDCWD, "file", NULL, 0), EACCES);
      _exit(checks_failed);
    });
    EQUAL(outcome(child), 0);

    section("set-group-ID directories");
    mkdir("shared", 0755);
    MUST(chown("shared", 0, 555));
    MUST(chmod("shared", 02775));
    make_file("shared/f", "");
    OK(stat("shared/f", &s));
    EQUAL(s.st_gid, 555);
    OK(mkdir("shared/d", 0755));
    OK(stat("shared/d", &s));
    EQUAL(s.st_mode & 07777, 02755);
  }
  return conformance_end();
}
