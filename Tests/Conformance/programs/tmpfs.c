// tmpfs and mounting: mount, umount2, sizes, full file systems, bind mounts, read-only.
#include "../conformance.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

int main(void) {
  enter_work_directory();
  if (geteuid() != 0) {
    line("not root");
    return conformance_end();
  }
  // On the host the mounts stay in a namespace of our own; in Apus the sandbox is one.
  if (unshare(CLONE_NEWNS) == 0) mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
  MUST(mkdir("m", 0755));
  make_file("m/below", "");
  section("mount");
  FAILS(mount("none", "m", "no-such-type", 0, NULL), ENODEV);
  FAILS(mount("none", "missing", "tmpfs", 0, NULL), ENOENT);
  FAILS(mount("none", "m/below", "tmpfs", 0, NULL), ENOTDIR);
  OK(mount("none", "m", "tmpfs", 0, "size=1M,mode=0750,nr_inodes=100"));
  struct stat s;
  OK(stat("m", &s));
  EQUAL(s.st_mode & 07777, 0750);
  FAILS(access("m/below", F_OK), ENOENT);
  struct statfs f;
  OK(statfs("m", &f));
  EQUAL(f.f_type, 0x01021994);
  EQUAL(f.f_blocks * f.f_bsize, 1 << 20);
  OK(stat("m/..", &s));
  OK(access("m/../m", F_OK));
  FAILS(rmdir("m"), EBUSY);
  FAILS(rename("m", "n"), EBUSY);
  FAILS(link("m/../no", "m/x"), ENOENT);
  make_file("outside", "");
  FAILS(rename("outside", "m/outside"), EXDEV);
  FAILS(link("outside", "m/outside"), EXDEV);

  section("reserved");
  static char page[4096];
  int fd = MUST(open("m/reserved", O_RDWR | O_CREAT, 0600));
  OK(fallocate(fd, 0, 0, 512 << 10));
  OK(fstat(fd, &s));
  EQUAL(s.st_blocks, (512 << 10) / 512);
  OK(statfs("m", &f));
  EQUAL(f.f_bfree, (512 << 10) / 4096);
  int other = MUST(open("m/other", O_RDWR | O_CREAT, 0600));
  long filled = 0;
  while (write(other, page, sizeof page) == sizeof page) filled += sizeof page;
  EQUAL(errno, ENOSPC);
  CHECK(filled > 500 << 10 && filled <= 512 << 10);
  // There is no room but in what was reserved.
  long written = 0;
  for (int i = 0; i < 128; i++) written += pwrite(fd, page, sizeof page, i * 4096);
  EQUAL(written, 512 << 10);
  FAILS(pwrite(fd, page, sizeof page, 512 << 10), ENOSPC);
  FAILS(fallocate(fd, 0, 0, 516 << 10), ENOSPC);
  OK(fstat(fd, &s));
  EQUAL(s.st_size, 512 << 10);
  OK(fallocate(fd, 0, 0, 512 << 10));
  close(fd), close(other);
  OK(unlink("m/reserved"));
  OK(unlink("m/other"));

  section("full");
  fd = MUST(open("m/big", O_RDWR | O_CREAT, 0600));
  static char block[65536];
  memset(block, 7, sizeof block);
  long total = 0, n;
  while ((n = write(fd, block, sizeof block)) > 0) total += n;
  EQUAL(errno, ENOSPC);
  EQUAL(total, 1 << 20);
  FAILS(make_file("m/more", "x"), ENOSPC);
  OK(statfs("m", &f));
  EQUAL(f.f_bfree, 0);
  FAILS(fallocate(fd, 0, 1 << 20, 4096), ENOSPC);
  OK(ftruncate(fd, 4096));
  OK(make_file("m/more", "x"));
  EQUAL(pread(fd, block, 10, 4090), 6);
  EQUAL(block[5], 7);
  OK(ftruncate(fd, 1 << 30));
  EQUAL(pread(fd, block, 4, 1 << 29), 4);
  EQUAL(block[0], 0);
  char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  EQUAL(p[0], 7);
  p[1] = 8;
  EQUAL(pread(fd, block, 2, 0), 2);
  EQUAL(block[1], 8);
  OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
  EQUAL(p[1], 0);
  munmap(p, 8192);
  close(fd);
  OK(unlink("m/big"));
  int made = 0;
  char name[32];
  for (;; made++) {
    sprintf(name, "m/i%d", made);
    if ((fd = open(name, O_CREAT | O_RDWR, 0600)) < 0) break;
    close(fd);
  }
  EQUAL(errno, ENOSPC);
  CHECK(made > 80 && made < 100);

  section("umount");
  fd = MUST(open("m/more", O_RDONLY));
  FAILS(umount2("m", 0), EBUSY);
  OK(umount2("m", MNT_DETACH));
  EQUAL(read(fd, block, 4), 1);
  close(fd);
  OK(access("m/below", F_OK));
  FAILS(umount2("m", 0), EINVAL);
  FAILS(umount2("missing", 0), ENOENT);
  FAILS(umount2("m", 0x1000), EINVAL);

  section("bind and read-only");
  MUST(mkdir("source", 0755));
  make_file("source/f", "content");
  OK(mount("source", "m", NULL, MS_BIND, NULL));
  OK(access("m/f", F_OK));
  make_file("m/g", "");
  OK(access("source/g", F_OK));
  OK(mount(NULL, "m", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
  FAILS(open("m/f", O_WRONLY), EROFS);
  FAILS(open("m/h", O_CREAT | O_RDWR, 0600), EROFS);
  FAILS(unlink("m/f"), EROFS);
  FAILS(mkdir("m/d", 0700), EROFS);
  FAILS(chmod("m/f", 0600), EROFS);
  FAILS(access("m/f", W_OK), EROFS);
  OK(access("m/f", R_OK));
  OK(unlink("source/g"));
  OK(umount("m"));
  // Mounts stack: the last one is seen first.
  OK(mount("none", "m", "tmpfs", 0, NULL));
  make_file("m/first", "");
  OK(mount("none", "m", "tmpfs", 0, NULL));
  FAILS(access("m/first", F_OK), ENOENT);
  OK(umount("m"));
  OK(access("m/first", F_OK));
  OK(setxattr("m/first", "trusted.a", "value", 5, XATTR_CREATE));
  char value[16];
  EQUAL(getxattr("m/first", "trusted.a", value, 16), 5);
  FAILS(setxattr("m/first", "trusted.a", "v", 1, XATTR_CREATE), EEXIST);
  FAILS(getxattr("m/first", "trusted.none", value, 16), ENODATA);
  FAILS(getxattr("m/first", "trusted.a", value, 2), ERANGE);
  EQUAL(getxattr("m/first", "trusted.a", NULL, 0), 5);
  EQUAL(listxattr("m/first", value, 16), 10);
  OK(symlink("first", "m/link"));
  OK(lsetxattr("m/link", "trusted.l", "link", 4, 0));
  EQUAL(lgetxattr("m/link", "trusted.l", value, 16), 4);
  FAILS(getxattr("m/link", "trusted.l", value, 16), ENODATA);
  EQUAL(llistxattr("m/link", value, 16), 10);
  OK(lremovexattr("m/link", "trusted.l"));
  fd = MUST(open("m/first", O_RDWR));
  OK(fsetxattr(fd, "trusted.f", "file", 4, XATTR_CREATE));
  FAILS(fsetxattr(fd, "trusted.none", "x", 1, XATTR_REPLACE), ENODATA);
  EQUAL(fgetxattr(fd, "trusted.f", value, 16), 4);
  static char names[64];
  EQUAL(flistxattr(fd, names, 64), 20);
  OK(fremovexattr(fd, "trusted.f"));
  close(fd);
  OK(removexattr("m/first", "trusted.a"));
  FAILS(removexattr("m/first", "trusted.a"), ENODATA);
  FAILS(setxattr("m/first", "bogus.a", "v", 1, 0), EOPNOTSUPP);
  OK(umount("m"));
  MUST(chmod(".", 0755));
  pid_t child = CHILD({
    MUST(setuid(1000));
    FAILS(mount("none", "m", "tmpfs", 0, NULL), EPERM);
    FAILS(umount("/proc"), EPERM);
    _exit(checks_failed);
  });
  EQUAL(outcome(child), 0);
  return conformance_end();
}
