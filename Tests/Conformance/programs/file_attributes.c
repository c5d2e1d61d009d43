// Attributes of files: extended attributes of users, permissions, owners, times, who may change which.
// directory: overlay tmpfs bind root
#include "../conformance.h"
#include <grp.h>
#include <sys/xattr.h>

static int listed(const char *path, const char *wanted) {
  char names[4096];
  ssize_t n = listxattr(path, names, sizeof names);
  for (ssize_t i = 0; i < n; i += strlen(names + i) + 1)
    if (!strcmp(names + i, wanted)) return 1;
  return n < 0 ? -1 : 0;
}

static void extended(void) {
  section("extended attributes");
  make_file("f", "x");
  mkdir("d", 0755);
  char value[70000];
  for (int i = 0; i < 2; i++) {
    const char *path = i ? "d" : "f";
    line("-- %s", path);
    EQUAL(listed(path, "user.a"), 0);
    FAILS(getxattr(path, "user.a", value, sizeof value), ENODATA);
    OK(setxattr(path, "user.a", "value", 5, 0));
    EQUAL(getxattr(path, "user.a", NULL, 0), 5);
    EQUAL(getxattr(path, "user.a", value, sizeof value), 5);
    CHECK(!memcmp(value, "value", 5));
    FAILS(getxattr(path, "user.a", value, 3), ERANGE);
    EQUAL(listed(path, "user.a"), 1);
    FAILS(setxattr(path, "user.a", "v", 1, XATTR_CREATE), EEXIST);
    OK(setxattr(path, "user.a", "vv", 2, XATTR_REPLACE));
    FAILS(setxattr(path, "user.b", "v", 1, XATTR_REPLACE), ENODATA);
    OK(setxattr(path, "user.b", "", 0, XATTR_CREATE));
    EQUAL(getxattr(path, "user.b", value, sizeof value), 0);
    EQUAL(listed(path, "user.b"), 1);
    OK(removexattr(path, "user.a"));
    FAILS(removexattr(path, "user.a"), ENODATA);
    EQUAL(listed(path, "user.a"), 0);
    FAILS(setxattr(path, "nospace.a", "v", 1, 0), EOPNOTSUPP);
    FAILS(getxattr(path, "nospace.a", value, 9), EOPNOTSUPP);
    char name[300] = "user.";
    memset(name + 5, 'n', 250);
    OK(setxattr(path, name, "v", 1, 0));
    OK(removexattr(path, name));
    name[255] = 'n';
    FAILS(setxattr(path, name, "v", 1, 0), ERANGE);
    memset(value, 'V', 2000);
    OK(setxattr(path, "user.large", value, 2000, 0));
    memset(value, 0, 2000);
    EQUAL(getxattr(path, "user.large", value, sizeof value), 2000);
    CHECK(value[0] == 'V' && value[1999] == 'V');
    FAILS(setxattr(path, "user.huge", value, 65537, 0), E2BIG);
  }
  int fd = MUST(open("f", O_RDONLY));
  OK(fsetxattr(fd, "user.fd", "1", 1, 0));
  EQUAL(fgetxattr(fd, "user.fd", value, 9), 1);
  OK(fremovexattr(fd, "user.fd"));
  close(fd);
  // They follow the file.
  OK(rename("f", "g"));
  EQUAL(listed("g", "user.b"), 1);
  fd = MUST(open("g", O_RDWR));
  OK(unlink("g"));
  EQUAL(fgetxattr(fd, "user.b", value, 9), 0);
  close(fd);
  fd = MUST(open(".", O_TMPFILE | O_RDWR, 0600));
  OK(fsetxattr(fd, "user.t", "1", 1, 0));
  EQUAL(fgetxattr(fd, "user.t", value, 9), 1);
  close(fd);
  // Only regular files and directories have any.
  OK(symlink("d", "s"));
  FAILS(lsetxattr("s", "user.a", "v", 1, 0), EPERM);
  FAILS(lgetxattr("s", "user.a", value, 9), ENODATA);
  OK(mkfifo("p", 0600));
  FAILS(setxattr("p", "user.a", "v", 1, 0), EPERM);
  // They need the permissions of the content.
  make_file("closed", "x");
  OK(setxattr("closed", "user.a", "v", 1, 0));
  OK(chmod("closed", 0));
  if (geteuid()) {
    FAILS(getxattr("closed", "user.a", value, 9), EACCES);
    FAILS(setxattr("closed", "user.a", "w", 1, 0), EACCES);
  } else {
    EQUAL(getxattr("closed", "user.a", value, 9), 1);
    EQUAL(outcome(CHILD({
      if (setgroups(0, NULL) || setgid(1000) || setuid(1000)) _exit(90);
      FAILS(getxattr("closed", "user.a", value, 9), EACCES);
      FAILS(removexattr("closed", "user.a"), EACCES);
      FAILS(getxattr("closed", "trusted.a", value, 9), ENODATA);
      FAILS(setxattr("closed", "trusted.a", "v", 1, 0), EPERM);
      _exit(checks_failed != 0);
    })), 0);
  }
}

static void permissions(void) {
  section("permissions of an open file");
  struct stat s;
  int fd = MUST(open("m", O_CREAT | O_RDWR, 0));
  EQUAL(write(fd, "text", 4), 4);
  char text[8];
  EQUAL(pread(fd, text, 8, 0), 4);
  OK(fstat(fd, &s));
  EQUAL(s.st_mode & 07777, 0);
  if (geteuid()) FAILS(open("m", O_RDONLY), EACCES);
  OK(fchmod(fd, 0644));
  int reader = MUST(open("m", O_RDONLY));
  OK(chmod("m", 0200));
  EQUAL(pread(reader, text, 8, 0), 4);
  EQUAL(pwrite(fd, "T", 1, 0), 1);
  OK(ftruncate(fd, 2));
  if (geteuid()) FAILS(open("m", O_RDONLY), EACCES);
  close(reader);
  close(fd);
  fd = MUST(open("m", O_WRONLY | O_TRUNC));
  EQUAL(write(fd, "whole", 5), 5);
  close(fd);
  OK(chmod("m", 0400));
  if (geteuid()) FAILS(open("m", O_WRONLY), EACCES);
  OK(chmod("m", 0644));
  OK(mkdir("closed-directory", 0));
  if (geteuid()) FAILS(open("closed-directory/x", O_CREAT | O_RDWR, 0644), EACCES);
  OK(chmod("closed-directory", 0755));
  OK(rmdir("closed-directory"));

  section("owners");
  if (geteuid() == 0) {
    OK(chown("m", 1000, 2000));
    OK(stat("m", &s));
    EQUAL(s.st_uid, 1000);
    EQUAL(s.st_gid, 2000);
    OK(lchown("s", 1000, 2000));
    OK(lstat("s", &s));
    EQUAL(s.st_uid, 1000);
    OK(stat("s", &s));
    EQUAL(s.st_uid, 0);
    OK(chown("m", -1, 3000));
    OK(stat("m", &s));
    EQUAL(s.st_uid, 1000);
    EQUAL(s.st_gid, 3000);
    // Who may write may set the times to now, and to nothing else.
    OK(chmod("m", 0666));
    OK(chown("m", 0, 0));
    OK(chmod(".", 0777));
    EQUAL(outcome(CHILD({
      if (setgroups(0, NULL) || setgid(1000) || setuid(1000)) _exit(90);
      OK(utimensat(AT_FDCWD, "m", NULL, 0));
      struct timespec times[2] = {{1, 0}, {2, 0}};
      FAILS(utimensat(AT_FDCWD, "m", times, 0), EPERM);
      FAILS(chmod("m", 0600), EPERM);
      FAILS(chown("m", 1000, 1000), EPERM);
      OK(truncate("m", 1));
      int mine = MUST(open("mine", O_CREAT | O_RDWR, 0644));
      OK(fstat(mine, &s));
      EQUAL(s.st_uid, 1000);
      EQUAL(s.st_gid, 1000);
      OK(fchmod(mine, 0600));
      FAILS(fchown(mine, 0, -1), EPERM);
      close(mine);
      _exit(checks_failed != 0);
    })), 0);
  } else {
    FAILS(chown("m", 0, -1), EPERM);
    OK(chown("m", getuid(), getgid()));
  }

  section("times");
  struct timespec times[2] = {{1111111111, 111000000}, {1222222222, 222000000}};
  OK(utimensat(AT_FDCWD, "m", times, 0));
  OK(stat("m", &s));
  EQUAL(s.st_atim.tv_sec, 1111111111);
  EQUAL(s.st_mtim.tv_sec, 1222222222);
  EQUAL(s.st_mtim.tv_nsec, 222000000);
  times[0].tv_nsec = UTIME_OMIT;
  times[1].tv_sec = 5;
  OK(utimensat(AT_FDCWD, "m", times, 0));
  OK(stat("m", &s));
  EQUAL(s.st_atim.tv_sec, 1111111111);
  EQUAL(s.st_mtim.tv_sec, 5);
  int fd2 = MUST(open("m", O_RDWR));
  EQUAL(write(fd2, "later", 5), 5);
  OK(fstat(fd2, &s));
  CHECK(s.st_mtim.tv_sec > 1600000000);
  times[0].tv_nsec = 0, times[1].tv_sec = 7;
  OK(futimens(fd2, times));
  close(fd2);
  OK(stat("m", &s));
  EQUAL(s.st_mtim.tv_sec, 7);
  OK(truncate("m", 2));
  OK(stat("m", &s));
  CHECK(s.st_mtim.tv_sec > 1600000000);
  OK(utimensat(AT_FDCWD, "m", NULL, 0));
}

int main(void) {
  umask(022);
  enter_work_directory();
  MUST(chmod(".", 0755));
  extended();
  permissions();
  return conformance_end();
}
