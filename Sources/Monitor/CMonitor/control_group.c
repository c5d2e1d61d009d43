// A control group of the run's own, where the host permits one: the host's kernel enforces the limits of memory and of tasks
// from outside, whatever becomes of the monitor.
//
// A keeper does all of it: a child of the monitor, made before everything else and outside of the group. It makes the group,
// moves the monitor and what that has made by then into it, and waits for the monitor's end, however that comes; then it
// removes the group. The monitor does not wait: moving a process costs the host 10 ms.
//
// cgroups(7): version 2, below the group of the monitor when that holds no other process (delegation); or version 1, below
// the monitor's groups of the controllers memory and pids, mounted in their usual places. proc(5): /proc/pid/cgroup.

#define _GNU_SOURCE
#include "monitor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CGROUP2_MAGIC 0x63677270
#define MOUNT "/sys/fs/cgroup"
#define GROUPS 2

// The directories that stand for one group: one in version 2, one for each controller in version 1.
struct group {
  char parent[GROUPS][PATH_MAX / 2], path[GROUPS][PATH_MAX / 2 + 32];
  int count;
  bool unified;
};

static int put(const char *directory, const char *file, const char *text) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/%s", directory, file);
  int descriptor = open(path, O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return -errno;
  ssize_t count = write(descriptor, text, strlen(text));
  int error = count < 0 ? -errno : 0;
  close(descriptor);
  return error;
}

static int put_number(const char *directory, const char *file, uint64_t number) {
  char text[24];
  snprintf(text, sizeof text, "%llu", (unsigned long long)number);
  return put(directory, file, text);
}

// The path of the caller in the hierarchy of `controller`; "" is version 2's.
static bool own_path(const char *controller, char *path, size_t size) {
  FILE *file = fopen("/proc/self/cgroup", "re");
  char line[PATH_MAX];
  bool found = false;
  while (file && !found && fgets(line, sizeof line, file)) {
    char *names = strchr(line, ':'), *place = names ? strchr(names + 1, ':') : NULL;
    if (!place) continue;
    *place++ = 0;
    place[strcspn(place, "\n")] = 0;
    found = !strcmp(names + 1, controller) && strlen(place) < size;
    if (found) strcpy(path, strcmp(place, "/") ? place : "");
  }
  if (file) fclose(file);
  return found;
}

// Where a group could be made. 0 or a negative error number.
static int find(struct group *group) {
  char path[PATH_MAX / 4];
  struct statfs kind;
  if (statfs(MOUNT, &kind) == 0 && kind.f_type == CGROUP2_MAGIC) {
    if (!own_path("", path, sizeof path)) return -ENOENT;
    group->unified = true;
    group->count = 1;
    snprintf(group->parent[0], sizeof group->parent[0], MOUNT "%s", path);
  } else {
    const char *controllers[] = {"memory", "pids"};
    group->unified = false;
    group->count = GROUPS;
    for (int i = 0; i < GROUPS; i++) {
      if (!own_path(controllers[i], path, sizeof path)) return -ENOENT;
      snprintf(group->parent[i], sizeof group->parent[i], MOUNT "/%s%s", controllers[i], path);
    }
  }
  for (int i = 0; i < group->count; i++)
    if (access(group->parent[i], W_OK) != 0) return -errno;
  return 0;
}

int monitor_control_group_probe(int *version) {
  struct group group;
  int error = find(&group);
  *version = error ? 0 : group.unified ? 2 : 1;
  return error;
}

// MARK: The keeper

static void sleep_ms(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

// What the keeper may do once the group is made: wait, and remove it. It takes no input, so this is for a day on which some
// other wall has fallen.
static void confine(void) {
  static const int calls[] = {SYS_read, SYS_write, SYS_rmdir, SYS_nanosleep, SYS_clock_nanosleep, SYS_exit_group};
  enum { COUNT = sizeof calls / sizeof calls[0] };
  struct sock_filter code[COUNT + 3] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
  for (int i = 0; i < COUNT; i++)
    code[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], (uint8_t)(COUNT - i), 0);
  code[COUNT + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  code[COUNT + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {COUNT + 3, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(1);
}

// `kill_file` is the open file cgroup.kill of version 2, or negative.
static void remove_group(struct group *group, int kill_file) {
  bool gone = false;
  if (kill_file >= 0 && write(kill_file, "1", 1) < 0) kill_file = -1;  // its processes end by themselves, then
  // The last processes are on their way out.
  for (int tries = 0; !gone && tries < 20000; tries++) {
    gone = true;
    for (int i = 0; i < group->count; i++) gone &= rmdir(group->path[i]) == 0 || errno == ENOENT;
    if (!gone) sleep_ms(tries < 100 ? 1 : 10);
  }
}

static int make(struct group *group, pid_t monitor, uint64_t memory, uint64_t tasks) {
  int error = find(group);
  for (int i = 0; !error && i < group->count; i++) {
    snprintf(group->path[i], sizeof group->path[i], "%s/apus-%d", group->parent[i], monitor);
    if (mkdir(group->path[i], 0755) != 0 && errno != EEXIST) error = -errno;
  }
  if (error) return error;
  if (group->unified) {
    // A group with processes of its own has no controllers for its children: the monitor moves first.
    error = put_number(group->path[0], "cgroup.procs", (uint64_t)monitor);
    if (!error) error = put(group->parent[0], "cgroup.subtree_control", "+memory +pids");
    if (!error) error = put_number(group->path[0], "memory.max", memory);
    if (!error) error = put_number(group->path[0], "pids.max", tasks);
    if (!error) put(group->path[0], "memory.swap.max", "0");
    if (error) put_number(group->parent[0], "cgroup.procs", (uint64_t)monitor);
    return error;
  }
  error = put_number(group->path[0], "memory.limit_in_bytes", memory);
  if (!error) error = put_number(group->path[1], "pids.max", tasks);
  for (int i = 0; !error && i < group->count; i++) error = put_number(group->path[i], "cgroup.procs", (uint64_t)monitor);
  return error;
}

static pid_t parent_of(pid_t process) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", process);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t count = file < 0 ? -1 : read(file, text, sizeof text - 1);
  if (file >= 0) close(file);
  if (count <= 0) return 0;
  text[count] = 0;
  char *end = strrchr(text, ')');
  return end ? (pid_t)atoi(end + 4) : 0;
}

// proc(5), /proc/loadavg: the last field is the number of the process that was made last.
static pid_t last_process(void) {
  char text[128];
  int file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
  ssize_t count = file < 0 ? -1 : read(file, text, sizeof text - 1);
  if (file >= 0) close(file);
  text[count < 0 ? 0 : count] = 0;
  char *last = strrchr(text, ' ');
  return last ? (pid_t)atoi(last) : 0;
}

static void move_child(struct group *group, pid_t monitor, pid_t process) {
  if (parent_of(process) != monitor) return;
  for (int i = 0; i < group->count; i++) put_number(group->path[i], "cgroup.procs", (uint64_t)process);
}

// Children that the monitor made before it was moved; those that they make are in the group. Where the group is can be
// written again and again. Their numbers are those given out since the keeper got its own; the host's numbers may have wrapped around.
static void move_children(struct group *group, pid_t monitor) {
  pid_t keeper = getpid(), last = last_process();
  if (last >= keeper) {
    for (pid_t process = keeper + 1; process <= last; process++) move_child(group, monitor, process);
    return;
  }
  DIR *processes = opendir("/proc");
  struct dirent *entry;
  while (processes && (entry = readdir(processes))) {
    pid_t process = (pid_t)atoi(entry->d_name);
    if (process > keeper || (process > 0 && process <= last)) move_child(group, monitor, process);
  }
  if (processes) closedir(processes);
}

static _Noreturn void keep(int end, pid_t monitor, uint64_t memory, uint64_t tasks, bool tells) {
  prctl(PR_SET_NAME, "apus-keeper");
  setsid();
  for (int number = 1; number < 32; number++) signal(number, SIG_IGN);
  if (chdir("/") != 0) _exit(1);
  struct group group = {.count = 0};
  int error = make(&group, monitor, memory, tasks);
  if (tells) {
    char text[PATH_MAX];
    int count = error ? snprintf(text, sizeof text, "apus: no control group: %s\n", strerror(-error))
                      : snprintf(text, sizeof text, "apus: control group %s\n", group.path[0]);
    // Not to a pipe that nobody reads: the keeper would outlive the sandbox, and hold the pipe open.
    struct pollfd errors = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&errors, 1, 1000) == 1 && write(STDERR_FILENO, text, (size_t)count) < 0) error = error ? error : -errno;
  }
  // Nothing of the caller's stays open: others may wait for the end of its streams.
  if (dup2(end, 0) != 0) _exit(1);  // also when it is 0 already
  syscall(SYS_close_range, 1u, ~0u, 0);
  if (!error) move_children(&group, monitor);
  char kill_path[PATH_MAX];
  snprintf(kill_path, sizeof kill_path, "%s/cgroup.kill", group.path[0]);
  int kill_file = !error && group.unified ? open(kill_path, O_WRONLY | O_CLOEXEC) : -1;
  confine();
  if (!error) {
    char byte;
    while (read(0, &byte, 1) < 0 && errno == EINTR) continue;  // until nobody has the other end
  }
  remove_group(&group, kill_file);
  _exit(0);
}

int monitor_control_group(uint64_t memory, uint64_t tasks, int tells) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
  pid_t monitor = getpid(), keeper = fork();
  if (keeper < 0) {
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    return -error;
  }
  if (keeper == 0) {
    close(ends[1]);
    keep(ends[0], monitor, memory, tasks, tells);
  }
  close(ends[0]);
  return 0;  // the other end stays open for as long as this process lives
}
