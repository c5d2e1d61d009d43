// Every operation on files that a program can ask for, in a writable export: the monitor's confinement must allow what the
// file server then asks of the host, and whatever it does not allow must fail that one call instead of ending the sandbox.
//
// run: --user 0:0 --bind %:/srv --cwd /srv -- @
// expect: survived
// reject: apus: .*confinement does not allow.*
// run: --user 1000:1000 --bind %:/srv --cwd /srv -- @
// expect: survived
// reject: apus: .*confinement does not allow.*
// native: @
// expect: survived
#include "attack.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

static int failed;
#define DO(call) \
  do { \
    if ((long)(call) < 0) failed++, printf("failed: %s: %s\n", #call, strerror(errno)); \
  } while (0)

int main(void) {
  char place[] = "attack.XXXXXX", text[64];
  if (!mkdtemp(place) || chdir(place) < 0) return puts("no directory"), 1;
  int fd = open("f", O_CREAT | O_RDWR, 0644), flags;
  DO(fd);
  DO(write(fd, "text", 4));
  DO(pwrite(fd, "text", 4, 100000));
  DO(pread(fd, text, 4, 0));
  DO(lseek(fd, 0, SEEK_HOLE));
  DO(fallocate(fd, 0, 0, 1 << 20));
  DO(fallocate(fd, 3, 4096, 4096));
  DO(ftruncate(fd, 8192));
  DO(fsync(fd));
  DO(fdatasync(fd));
  DO(syncfs(fd));
  char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map != MAP_FAILED) map[5000] = 'm';
  DO(msync(map, 8192, MS_SYNC));
  DO(fchmod(fd, 0600));
  DO(fchown(fd, getuid(), getgid()));
  DO(futimens(fd, NULL));
  DO(ioctl(fd, FS_IOC_GETFLAGS, &flags));
  DO(ioctl(fd, FS_IOC_SETFLAGS, &flags));
  DO(fsetxattr(fd, "user.a", "v", 1, 0));
  DO(fgetxattr(fd, "user.a", text, sizeof text));
  DO(flistxattr(fd, text, sizeof text));
  DO(fremovexattr(fd, "user.a"));
  // Each way to ask for a rename, over nothing and over a file.
  DO(syscall(SYS_rename, "f", "g"));
  DO(syscall(SYS_renameat, AT_FDCWD, "g", AT_FDCWD, "f"));
  DO(syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "g", 0));
  DO(rename("g", "f"));
  DO(open("o", O_CREAT | O_WRONLY, 0644));
  DO(rename("f", "o"));
  DO(syscall(SYS_renameat2, AT_FDCWD, "o", AT_FDCWD, "f", 1));
  DO(mkdir("d", 0755));
  DO(syscall(SYS_renameat2, AT_FDCWD, "d", AT_FDCWD, "f", 2));
  DO(syscall(SYS_renameat2, AT_FDCWD, "d", AT_FDCWD, "f", 2));
  DO(rename("d", "e"));
  DO(link("f", "l"));
  DO(symlink("f", "s"));
  DO(readlink("s", text, sizeof text));
  DO(utimensat(AT_FDCWD, "s", NULL, AT_SYMLINK_NOFOLLOW));
  DO(lchown("s", getuid(), getgid()));
  DO(mknod("p", S_IFIFO | 0600, 0));
  DO(mknod("n", S_IFREG | 0600, 0));
  int temporary = open(".", O_TMPFILE | O_RDWR, 0600);
  DO(temporary);
  snprintf(text, sizeof text, "/proc/self/fd/%d", temporary);
  DO(linkat(AT_FDCWD, text, AT_FDCWD, "t", AT_SYMLINK_FOLLOW));
  DO(truncate("t", 10));
  DO(chmod("t", 0));
  struct statfs system;
  DO(statfs(".", &system));
  DIR *dir = opendir(".");
  int names = 0;
  for (struct dirent *e; (e = readdir(dir));) names++;
  rewinddir(dir);
  closedir(dir);
  DO(unlink("l"));
  DO(rmdir("e"));
  sync();
  for (int i = 0; i < 6; i++) unlink((const char *[]){"f", "s", "p", "n", "t", "o"}[i]);
  if (names != 9) failed++, printf("%d names\n", names);
  DO(chdir(".."));
  DO(rmdir(place));
  puts(failed ? "some failed" : "survived");
  return failed != 0;
}
