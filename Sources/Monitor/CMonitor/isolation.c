// See isolation.h. Namespaces come first, because a process under Landlock may not mount; the identity comes last, because
// namespaces need its privileges.
//
// A process without privileges could have them in a user namespace of its own. The monitor makes none for itself: files would
// show owners that the namespace cannot name as 65534, and programs in the sandbox look at owners. The zygote, which needs no
// files, goes into one (zygote.c).

#define _GNU_SOURCE
#include "isolation.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

_Static_assert(MONITOR_NAMESPACE_USER == CLONE_NEWUSER && MONITOR_NAMESPACE_MOUNTS == CLONE_NEWNS &&
                   MONITOR_NAMESPACE_NETWORK == CLONE_NEWNET && MONITOR_NAMESPACE_IPC == CLONE_NEWIPC &&
                   MONITOR_NAMESPACE_NAMES == CLONE_NEWUTS,
               "flags of unshare(2)");

static int64_t result(int64_t value) { return value < 0 ? -errno : 0; }

// MARK: The mount namespace

#define PROC_OPTIONS "subset=pid,hidepid=ptraceable"

// The old root leaves with all that is mounted in it; exported directories stay, through their descriptors. /proc shows this
// process and its children only, where the host permits a new one.
static int64_t empty_root(void) {
  if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return -errno;
  int proc = (int)syscall(SYS_open_tree, AT_FDCWD, "/proc", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (proc < 0) return -errno;
  unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  int64_t error = 0;
  if (mount("apus", "/proc", "tmpfs", flags, "mode=555,size=4k") != 0) {
    error = -errno;
  } else if (mkdir("/proc/proc", 0555) != 0 ||
             (mount("proc", "/proc/proc", "proc", flags, PROC_OPTIONS) != 0 &&
              syscall(SYS_move_mount, proc, "", AT_FDCWD, "/proc/proc", MOVE_MOUNT_F_EMPTY_PATH) != 0) ||
             chdir("/proc") != 0 || syscall(SYS_pivot_root, ".", ".") != 0) {
    error = -errno;
    umount2("/proc", MNT_DETACH);
  } else if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0 ||
             mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) != 0) {
    error = -errno;
  }
  close(proc);
  return error;
}

// MARK: Landlock
//
// The interface of Linux 5.13, with what came later as numbers: the C library's headers may be older.

enum {
  WRITE_FILE = 1 << 1, READ_FILE = 1 << 2, READ_DIR = 1 << 3, REMOVE_DIR = 1 << 4, REMOVE_FILE = 1 << 5,
  MAKE_CHAR = 1 << 6, MAKE_DIR = 1 << 7, MAKE_REG = 1 << 8, MAKE_SOCK = 1 << 9, MAKE_FIFO = 1 << 10, MAKE_BLOCK = 1 << 11,
  MAKE_SYM = 1 << 12, REFER = 1 << 13, TRUNCATE = 1 << 14,
  ALL_FIRST = (1 << 13) - 1,    // the rights of version 1
  IOCTL_DEVICE = 1 << 15,
  FOR_FILES = 1 | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE,
  SCOPE_SOCKETS = 1 << 0, SCOPE_SIGNALS = 1 << 1,
};
struct ruleset { uint64_t files, network, scopes; };
struct rule { uint64_t rights; int32_t directory; } __attribute__((packed));

static int64_t version(void) {
  static int64_t known;
  if (known == 0) {
    known = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* the version */);
    if (known < 0) known = -errno;
  }
  return known;
}

int64_t monitor_rules_make(int writes) {
  int64_t host = version();
  if (host < 0) return host;
  // Version 1 forbids every rename from one directory to another.
  if (host < 2 && writes) return -EOPNOTSUPP;
  struct ruleset set = {.files = ALL_FIRST};
  if (host >= 2) set.files |= REFER;
  if (host >= 3) set.files |= TRUNCATE;
  if (host >= 5) set.files |= IOCTL_DEVICE;
  if (host >= 4) set.network = 3;  // bind and connect, to any port
  if (host >= 6) set.scopes = SCOPE_SOCKETS | SCOPE_SIGNALS;
  size_t size = host >= 6 ? 24 : host >= 4 ? 16 : 8;
  int64_t made = syscall(SYS_landlock_create_ruleset, &set, size, 0);
  return made < 0 ? -errno : made;
}

// An entry of `directory`, or the directory itself for the name "".
static int64_t allow(int rules, int directory, const char *name, mode_t mode, uint32_t rights) {
  int64_t host = version();
  uint64_t files = 0;
  if (rights & MONITOR_LIST) files |= READ_DIR;
  if (rights & MONITOR_READ) files |= READ_FILE;
  if (rights & MONITOR_WRITE) {
    files |= WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER;
    if (host >= 3) files |= TRUNCATE;
  }
  if (rights & MONITOR_MAKE_DEVICES) files |= MAKE_CHAR | MAKE_BLOCK;
  if (!S_ISDIR(mode)) files &= FOR_FILES;
  if (files == 0) return 0;
  int place = *name ? openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : directory;
  if (place < 0) return -errno;
  struct rule rule = {files, place};
  int64_t error = result(syscall(SYS_landlock_add_rule, rules, 1 /* beneath a path */, &rule, 0));
  if (place != directory) close(place);
  return error;
}

int64_t monitor_rules_allow(int rules, const char *path, uint32_t rights) {
  int place = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (place < 0) return -errno;
  struct stat status;
  int64_t error = result(fstat(place, &status));
  if (error == 0 && !S_ISLNK(status.st_mode)) error = allow(rules, place, "", status.st_mode, rights);
  close(place);
  return error;
}

static int is_named(const char *name, const char *names) {
  while (*names && strcmp(name, names) != 0) names += strlen(names) + 1;
  return *names != 0;
}

int64_t monitor_rules_allow_public(int rules, const char *path, const char *except, uint32_t rights) {
  int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (directory < 0) return -errno;
  int64_t error = 0, length;
  _Alignas(8) char buffer[8192];
  while (error == 0 && (length = syscall(SYS_getdents64, directory, buffer, sizeof buffer)) > 0) {
    for (int64_t at = 0; at < length && error == 0; at += *(unsigned short *)(buffer + at + 16)) {
      const char *name = buffer + at + 19;
      struct stat status;
      if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]))) continue;
      if (is_named(name, except) || fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
      mode_t needed = S_ISDIR(status.st_mode) ? S_IROTH | S_IXOTH : S_IROTH;
      if (S_ISLNK(status.st_mode) || (status.st_mode & needed) != needed) continue;
      error = allow(rules, directory, name, status.st_mode, rights);
      if (error == -ENOENT) error = 0;  // removed meanwhile
    }
  }
  close(directory);
  return error;
}

// MARK: Identity and privileges

// A number that no account has, different for each monitor: so that no process of the host is of the same user.
static uid_t fresh_identity(void) { return 0x7a000000u + (uid_t)getpid(); }
enum { NOBODY = 65534 };

static int64_t become(uid_t user) {
  if (syscall(SYS_setgroups, 0, NULL) != 0 || syscall(SYS_setresgid, user, user, user) != 0 ||
      syscall(SYS_setresuid, user, user, user) != 0)
    return -errno;
  return 0;
}

// Root's identity goes; its right to read all files in the exports stays, and where an export is writable, those that owners of
// files need.
static void give_up_privileges(struct monitor_isolation *isolation) {
  int64_t *identity = &isolation->results[MONITOR_LAYER_IDENTITY];
  int was_root = geteuid() == 0;
  *identity = 0;
  if (was_root && isolation->keeps_identity) {
    *identity = -ECANCELED;
  } else if (was_root) {
    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    *identity = become(fresh_identity());
    // A user namespace has few numbers.
    if (*identity == -EINVAL) *identity = become(NOBODY);
  }
  uint64_t kept = 0;
  if (was_root) {
    kept = 1ull << CAP_DAC_READ_SEARCH;
    if (isolation->writes) kept |= 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER | 1ull << CAP_FSETID;
    if (isolation->writes && isolation->makes_devices) kept |= 1ull << CAP_MKNOD | 1ull << CAP_SETFCAP;
  }
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) == 0) {
    for (int i = 0; i < 2; i++) {
      data[i].permitted &= (uint32_t)(kept >> 32 * i);
      data[i].effective = data[i].permitted;
      data[i].inheritable = 0;
    }
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    isolation->results[MONITOR_LAYER_PRIVILEGES] = result(syscall(SYS_capset, &header, data));
  } else {
    isolation->results[MONITOR_LAYER_PRIVILEGES] = -errno;
  }
}

// MARK: All of it

void monitor_isolate(struct monitor_isolation *isolation) {
  int64_t *results = isolation->results;
  results[MONITOR_LAYER_MOUNTS] = empty_root();
  results[MONITOR_LAYER_NETWORK] = result(unshare(CLONE_NEWNET));
  results[MONITOR_LAYER_IPC] = result(unshare(CLONE_NEWIPC | CLONE_NEWUTS));
  results[MONITOR_LAYER_FILES] = results[MONITOR_LAYER_SIGNALS] = isolation->rules;
  if (isolation->rules >= 0) {
    int64_t error = result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    // The /proc files of user processes are opened when they are first needed (recycle.c).
    if (error == 0) error = monitor_rules_allow(isolation->rules, "/proc", MONITOR_READ);
    if (error == 0) error = result(syscall(SYS_landlock_restrict_self, isolation->rules, 0));
    results[MONITOR_LAYER_FILES] = error;
    results[MONITOR_LAYER_SIGNALS] = error < 0 ? error : version() < 6 ? -EOPNOTSUPP : 0;
    close(isolation->rules);
    isolation->rules = -EBADF;
  }
  give_up_privileges(isolation);
}

void monitor_probe_isolation(struct monitor_isolation *isolation) {
  int pipes[2];
  for (int i = 0; i < MONITOR_LAYER_COUNT; i++) isolation->results[i] = -EIO;
  if (pipe2(pipes, O_CLOEXEC) != 0) return;
  pid_t child = fork();
  if (child == 0) {
    isolation->rules = (int)monitor_rules_make(1);
    monitor_isolate(isolation);
    _exit(write(pipes[1], isolation, sizeof *isolation) == sizeof *isolation ? 0 : 1);
  }
  close(pipes[1]);
  struct monitor_isolation seen;
  if (child > 0 && read(pipes[0], &seen, sizeof seen) == sizeof seen) *isolation = seen;
  close(pipes[0]);
  if (child > 0) waitpid(child, NULL, 0);
}
