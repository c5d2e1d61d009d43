// What a kernel that fell to its guest could do to the host. The test stands for it: it attaches to each thread of a running
// apus and of its user processes, and has the thread make system calls of the test's choice. Each call must be refused: by a
// filter (SIGSYS, which the test takes away), by the rules for files and signals, or by permissions.
//
// The layers are independent: the test is made again on hosts, so to say, that lack Landlock or namespaces. (A monitor of root's has
// both; that of an ordinary user has Landlock.) The control makes the same calls in a process without Apus, where they succeed.
//
// host: @
// expect: ok control: .* of 11 calls succeed in an ordinary process
// expect: ok apus, all layers: nothing escaped
// expect: ok apus-reaper, all layers: nothing escaped
// expect: ok apus-maker, all layers: nothing escaped
// expect: ok a user process, all layers: nothing escaped
// expect: ok apus, no namespaces: nothing escaped
// expect: ok the last variant has run
// reject: NOT OK.*
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

// MARK: System calls of other threads

static char secret[256], target[256];  // a file outside of every export, and one to make
static pid_t bystander;                // a process of the host
static const char *variant;            // which layers the host permits

// Has the stopped thread `id` execute a system call; its result, or -ENOSYS when a filter refused it.
static long inject(pid_t id, uint64_t site, long number, const uint64_t a[6]) {
  struct user_regs_struct old, now;
  if (ptrace(PTRACE_GETREGS, id, 0, &old)) return -ESRCH;
  now = old;
  now.rax = (uint64_t)number, now.orig_rax = ~0ull;
  now.rdi = a[0], now.rsi = a[1], now.rdx = a[2], now.r10 = a[3], now.r8 = a[4], now.r9 = a[5];
  now.rip = site;
  ptrace(PTRACE_SETREGS, id, 0, &now);
  long result = -ESRCH;
  int status;
  ptrace(PTRACE_SINGLESTEP, id, 0, 0);
  for (;;) {
    if (waitpid(id, &status, __WALL) != id || !WIFSTOPPED(status)) return -ESRCH;
    int is_refused = WSTOPSIG(status) == SIGSYS;
    ptrace(PTRACE_GETREGS, id, 0, &now);
    if (result == -ENOSYS) break;
    // The trap of the step follows the signal, and must not be left behind.
    if (is_refused) {
      result = -ENOSYS;
    } else if (WSTOPSIG(status) == SIGTRAP && now.rip == site + 2) {
      result = (long)now.rax;
      break;
    }
    ptrace(PTRACE_SINGLESTEP, id, 0, 0);  // a signal of the thread's own life: not now
  }
  ptrace(PTRACE_SETREGS, id, 0, &old);
  return result;
}

// A SYSCALL instruction and room for text in the thread's process.
static int find_places(pid_t process, uint64_t *site, uint64_t *room) {
  char path[64], line[512];
  *site = *room = 0;
  snprintf(path, sizeof path, "/proc/%d/maps", process);
  FILE *maps = fopen(path, "r");
  snprintf(path, sizeof path, "/proc/%d/mem", process);
  int memory = open(path, O_RDWR);
  while (maps && fgets(line, sizeof line, maps)) {
    uint64_t start, end;
    char protection[8];
    if (sscanf(line, "%lx-%lx %7s", &start, &end, protection) != 3) continue;
    if (protection[2] == 'x' && !*site && !strstr(line, "[v")) {
      size_t size = end - start > (4 << 20) ? 4 << 20 : end - start;
      uint8_t *text = malloc(size);
      ssize_t count = pread(memory, text, size, (off_t)start);
      for (ssize_t i = 0; i + 1 < count && !*site; i++)
        if (text[i] == 0x0f && text[i + 1] == 0x05) *site = start + (uint64_t)i;
      free(text);
    }
    if (protection[1] == 'w' && end - start >= 8192 && !strstr(line, "[stack") && !strstr(line, "apus-memory")) *room = end - 4096;
  }
  if (maps) fclose(maps);
  close(memory);
  return *site && *room;
}

static void put_text(pid_t process, uint64_t at, const void *text, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/mem", process);
  int memory = open(path, O_RDWR);
  if (pwrite(memory, text, size, (off_t)at) < 0) perror("pwrite");
  close(memory);
}

// MARK: The attacks

enum { CALLS = 11 };
static const char *const names[CALLS] = {"open of a secret", "openat2 of a secret", "making a file", "execve", "socket",
                                         "signal to a process of the host", "kill of a process of the host", "fork",
                                         "executable memory", "its own text, writable", "ptrace"};

static pid_t make_bystander(void) {
  pid_t child = fork();
  if (child == 0) {
    signal(SIGUSR1, SIG_IGN);
    for (;;) pause();
  }
  return child;
}

// Makes all calls; a bit for each that succeeded.
static unsigned attack(pid_t process, pid_t id, uint64_t site, uint64_t room) {
  struct { char secret[256], target[256], shell[16], memory[16]; uint64_t vector[2], how[3]; } text = {0};
  strcpy(text.secret, secret), strcpy(text.target, target), strcpy(text.shell, "/bin/nothing");
  strcpy(text.memory, "/proc/self/mem");
  text.how[0] = O_RDONLY;
  uint8_t before[sizeof text];
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/mem", process);
  int memory = open(path, O_RDWR);
  if (pread(memory, before, sizeof before, (off_t)room) != sizeof before) return 0;
  put_text(process, room, &text, sizeof text);
#define AT(field) (room + ((uint8_t *)&text.field - (uint8_t *)&text))
  const struct { long number; uint64_t a[6]; } calls[CALLS] = {
      {SYS_openat, {AT_FDCWD, AT(secret), O_RDONLY}},
      {SYS_openat2, {AT_FDCWD, AT(secret), AT(how), sizeof text.how}},
      {SYS_openat, {AT_FDCWD, AT(target), O_WRONLY | O_CREAT, 0600}},
      {SYS_execve, {AT(shell), AT(vector), AT(vector)}},  // natively ENOENT, which stands for success
      {SYS_socket, {2, 1, 0}},
      {SYS_tgkill, {(uint64_t)bystander, (uint64_t)bystander, SIGUSR1}},
      {SYS_kill, {(uint64_t)bystander, SIGKILL}},
      {SYS_clone, {SIGCHLD, 0, 0, 0, 0}},
      {SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, ~0ull, 0}},
      {SYS_openat, {AT_FDCWD, AT(memory), O_RDWR}},
      {SYS_ptrace, {PTRACE_SEIZE, (uint64_t)bystander, 0, 0}},
  };
  unsigned succeeded = 0;
  for (int i = 0; i < CALLS; i++) {
    long result = inject(id, site, calls[i].number, calls[i].a);
    int success = calls[i].number == SYS_execve ? result == -ENOENT : result >= 0;
    if (calls[i].number == SYS_kill && success) {
      waitpid(bystander, NULL, 0);
      bystander = make_bystander();
    }
    if (success) succeeded |= 1u << i;
    // A child runs on with a copy of the thread: it must not.
    if (calls[i].number == SYS_clone && result > 0) kill((pid_t)result, SIGKILL);
  }
  if (pwrite(memory, before, sizeof before, (off_t)room) < 0) perror("pwrite");
  close(memory);
  return succeeded;
}

static int attach(pid_t id) {
  int status;
  if (ptrace(PTRACE_SEIZE, id, 0, 0) || ptrace(PTRACE_INTERRUPT, id, 0, 0)) return 0;
  return waitpid(id, &status, __WALL) == id && WIFSTOPPED(status);
}

static void name_of(pid_t process, pid_t id, char *name, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task/%d/comm", process, id);
  FILE *file = fopen(path, "r");
  if (!file || !fgets(name, (int)size, file)) *name = 0;
  name[strcspn(name, "\n")] = 0;
  if (file) fclose(file);
}

// Whether a process has a filter, or is gone.
static bool is_filtered(pid_t process) {
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/%d/status", process);
  FILE *file = fopen(path, "r");
  bool found = !file;
  while (file && !found && fgets(line, sizeof line, file)) found = strncmp(line, "Seccomp:\t2", 10) == 0;
  if (file) fclose(file);
  return found;
}

// Attacks from every thread of a process. A thread that is in no filter yet would show.
static void attack_all(pid_t process, const char *title) {
  char path[64];
  uint64_t site, room;
  snprintf(path, sizeof path, "/proc/%d/task", process);
  DIR *directory = opendir(path);
  bool found = directory && find_places(process, &site, &room);
  // A process that waits for its first program has the stub's pages and nothing that can be written.
  if (directory && site && !room && title) {
    printf("ok %s, %s: no memory to write arguments to\n", title, variant);
    closedir(directory);
    return;
  }
  if (!found) {
    printf("NOT OK %s, %s: nothing to attack\n", title ? title : "apus", variant);
    return;
  }
  for (struct dirent *entry; (entry = readdir(directory));) {
    pid_t id = atoi(entry->d_name);
    char name[64];
    if (id <= 0) continue;
    name_of(process, id, name, sizeof name);
    if (!attach(id)) {
      if (errno == ESRCH) continue;  // it has ended since
      printf("NOT OK %s, %s: cannot attach: %s\n", title ? title : name, variant, strerror(errno));
      continue;
    }
    unsigned succeeded = attack(process, id, site, room);
    ptrace(PTRACE_DETACH, id, 0, 0);
    if (!succeeded) printf("ok %s, %s: nothing escaped\n", title ? title : name, variant);
    for (int i = 0; i < CALLS; i++)
      if (succeeded >> i & 1) printf("NOT OK %s, %s: %s\n", title ? title : name, variant, names[i]);
    fflush(stdout);
  }
  closedir(directory);
}

static void control(void) {
  pid_t child = fork();
  if (child == 0)
    for (;;) pause();
  uint64_t site = 0, room = 0;
  if (!attach(child) || !find_places(child, &site, &room)) printf("NOT OK control: cannot attach\n");
  unsigned succeeded = attack(child, child, site, room);
  printf("%s control: %d of %d calls succeed in an ordinary process\n", __builtin_popcount(succeeded) >= 10 ? "ok" : "NOT OK",
         __builtin_popcount(succeeded), CALLS);
  fflush(stdout);
  kill(child, SIGKILL);
  waitpid(child, NULL, __WALL);
  kill(bystander, SIGKILL);
  waitpid(bystander, NULL, 0);
}

// From here on the host does not know these system calls.
static void deny(const long *numbers, int count) {
  struct sock_filter code[16] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
  unsigned short at = 1;
  for (int i = 0; i < count; i++) {
    code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)numbers[i], 0, 1);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
  }
  code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {at, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) _exit(1);
}

static void attack_sandbox(const char *name, const long *denied, int count) {
  int output[2], input[2];
  variant = name;
  if (pipe(output) || pipe(input)) exit(1);
  pid_t sandbox = fork();
  if (sandbox == 0) {
    dup2(output[1], 1), dup2(input[0], 0);
    close(output[0]), close(input[1]);
    if (chdir("/")) _exit(1);
    if (count) deny(denied, count);
    // The program also ends processes, so that every thread has had work.
    execl(getenv("APUS"), "apus", "run", "--cpus", "2", "--", "busybox", "sh", "-c",
          "for i in 1 2 3 4 5 6 7 8; do busybox true | busybox cat; done; echo ready; read x", (char *)NULL);
    _exit(1);
  }
  close(output[1]), close(input[0]);
  char line[16] = {0};
  if (read(output[0], line, sizeof line - 1) <= 0 || strncmp(line, "ready", 5) != 0)
    printf("NOT OK the sandbox does not start: %s\n", variant);
  attack_all(sandbox, NULL);
  // User processes and the zygote.
  DIR *directory = opendir("/proc");
  for (struct dirent *entry; (entry = readdir(directory));) {
    char path[64], text[512] = "", *end;
    snprintf(path, sizeof path, "/proc/%d/stat", atoi(entry->d_name));
    FILE *status = atoi(entry->d_name) > 0 ? fopen(path, "r") : NULL;
    if (!status) continue;
    if (fgets(text, sizeof text, status) && (end = strrchr(text, ')')) && atoi(end + 4) == sandbox && end[2] != 'Z') {
      // The keeper of the control group makes the group first, beside the start of the sandbox, and takes no input then.
      bool is_keeper = strstr(text, "(apus-keeper)") != NULL;
      while (is_keeper && !is_filtered(atoi(entry->d_name))) usleep(1000);
      attack_all(atoi(entry->d_name), is_keeper ? "the keeper" : "a user process");
    }
    fclose(status);
  }
  closedir(directory);
  if (access(target, F_OK) == 0) printf("NOT OK a file was made on the host: %s\n", variant);
  unlink(target);
  kill(sandbox, SIGKILL);
  waitpid(sandbox, NULL, 0);
  close(output[0]), close(input[1]);
}

int main(void) {
  const char *scratch = getenv("SCRATCH");
  snprintf(secret, sizeof secret, "%s/secret", scratch);
  snprintf(target, sizeof target, "%s/made", scratch);
  int file = open(secret, O_WRONLY | O_CREAT, 0644);
  close(file);
  bystander = make_bystander();
  control();
  unlink(target);
  bystander = make_bystander();
  enum { LANDLOCK = 444, MOUNT_TREE = 428 };
  attack_sandbox("all layers", NULL, 0);
  attack_sandbox("no namespaces", (const long[]){SYS_unshare, MOUNT_TREE}, 2);
  if (geteuid() == 0) attack_sandbox("no Landlock", (const long[]){LANDLOCK}, 1);
  printf("ok the last variant has run\n");
  kill(bystander, SIGKILL);
  return 0;
}
