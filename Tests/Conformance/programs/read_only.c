// A directory that can only be read: everything in it is seen, every change fails with EROFS. `read_only prepare` fills the
// directory first; natively it is a read-only bind mount then.
// directory: read-only
#include "../conformance.h"
#include <dirent.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/xattr.h>

static void prepare(void) {
  umask(0);
  MUST(make_file("f", "content"));
  MUST(chmod("f", 0666));
  MUST(setxattr("f", "user.a", "value", 5, 0));
  MUST(make_file("closed", "x"));
  MUST(chmod("closed", 0600));
  MUST(mkdir("d", 0777));
  MUST(make_file("d/inside", "i"));
  MUST(chmod("d/inside", 0666));
  MUST(mkdir("empty", 0777));
  MUST(symlink("f", "s"));
  MUST(link("f", "l"));
  MUST(mkfifo("p", 0666));
  MUST(mkdir("sticky", 01777));
}

int main(int count, char **arguments) {
  if (chdir(getenv("CONFORMANCE_DIRECTORY")) < 0) return 98;
  if (count > 1) {
    prepare();
    return 0;
  }
  section("reading");
  char text[64] = {0};
  struct stat s;
  int fd = MUST(open("f", O_RDONLY));
  EQUAL(read(fd, text, sizeof text), 7);
  CHECK(!strcmp(text, "content"));
  char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED && !memcmp(map, "content", 7));
  FAILS(mprotect(map, 4096, PROT_READ | PROT_WRITE), EACCES);
  map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK(map != MAP_FAILED);
  map[0] = 'C';
  EQUAL(pread(fd, text, 1, 0), 1);
  EQUAL(text[0], 'c');
  EQUAL(lseek(fd, 0, SEEK_HOLE), 7);
  EQUAL(fgetxattr(fd, "user.a", text, sizeof text), 5);
  EQUAL(flistxattr(fd, text, sizeof text), 7);
  int flags;
  OK(ioctl(fd, FS_IOC_GETFLAGS, &flags));
  FAILS(ioctl(fd, FS_IOC_SETFLAGS, &flags), EROFS);
  FAILS(fchmod(fd, 0600), EROFS);
  FAILS(fchown(fd, -1, -1), EROFS);
  FAILS(futimens(fd, NULL), EROFS);
  FAILS(fsetxattr(fd, "user.a", "x", 1, 0), EROFS);
  FAILS(ftruncate(fd, 0), EINVAL);
  OK(fsync(fd));
  OK(fdatasync(fd));
  close(fd);
  fd = MUST(open("f", O_PATH));
  EQUAL(readlink("s", text, sizeof text), 1);
  close(fd);
  OK(lstat("l", &s));
  EQUAL(s.st_nlink, 2);
  int names = 0;
  DIR *dir = opendir(".");
  while (readdir(dir)) names++;
  closedir(dir);
  EQUAL(names, 10);
  OK(access("f", R_OK));
  FAILS(access("f", W_OK), EROFS);
  FAILS(access("d", W_OK), EROFS);
  OK(access("p", W_OK));
  OK(chdir("d"));
  OK(chdir(".."));

  section("changing");
  FAILS(open("f", O_WRONLY), EROFS);
  FAILS(open("f", O_RDWR), EROFS);
  FAILS(open("f", O_RDONLY | O_TRUNC), EROFS);
  FAILS(open("s", O_WRONLY), EROFS);
  FAILS(open("new", O_CREAT | O_WRONLY, 0644), EROFS);
  FAILS(open("f", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
  fd = open("f", O_CREAT | O_RDONLY, 0644);
  CHECK(fd >= 0);
  close(fd);
  FAILS(open(".", O_TMPFILE | O_RDWR, 0600), EROFS);
  FAILS(truncate("f", 0), EROFS);
  FAILS(mkdir("new", 0755), EROFS);
  FAILS(mkdir("d", 0755), EEXIST);
  FAILS(mknod("new", S_IFIFO | 0600, 0), EROFS);
  FAILS(symlink("x", "new"), EROFS);
  FAILS(link("f", "new"), EROFS);
  FAILS(unlink("f"), EROFS);
  FAILS(unlink("none"), EROFS);
  FAILS(rmdir("empty"), EROFS);
  FAILS(rename("f", "new"), EROFS);
  FAILS(rename("f", "d/inside"), EROFS);
  FAILS(chmod("f", 0600), EROFS);
  FAILS(chown("f", -1, -1), EROFS);
  FAILS(utimensat(AT_FDCWD, "f", NULL, 0), EROFS);
  FAILS(setxattr("f", "user.b", "x", 1, 0), EROFS);
  FAILS(removexattr("f", "user.a"), EROFS);
  // A FIFO is not on the file system once it is open.
  fd = MUST(open("p", O_RDWR));
  EQUAL(write(fd, "x", 1), 1);
  close(fd);
  if (geteuid()) FAILS(open("closed", O_RDONLY), EACCES);
  return conformance_end();
}
