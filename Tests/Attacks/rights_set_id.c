// Programs with the set-user-ID bit, started by an ordinary user, and what that user tries to do to them: tracing, reading and writing
// their memory, their files in /proc, descriptors of /proc that it opened before the execution. Also: bits that must go when a file
// changes. The control is that the program does become root when nothing stands against it, and that the same files of /proc open for
// a program without the bit.
//
// run: --cpus 2 --user 0 -- @
// expect: ok control: .*
#include "attack.h"

#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>

static char path[128], program[64];
static const char secret[] = "readable";
#define secret_address ((uint64_t)secret)
static const char *const files[] = {"mem", "environ", "fd", "auxv", "pagemap", "maps", "smaps"};
enum { FILES = sizeof files / sizeof *files };

static void copy_self(const char *to, mode_t mode) {
  char buffer[65536];
  ssize_t n;
  int from = MUST(open("/proc/self/exe", O_RDONLY)), file = MUST(open(to, O_WRONLY | O_CREAT | O_TRUNC, 0700));
  while ((n = read(from, buffer, sizeof buffer)) > 0) MUST(write(file, buffer, n));
  MUST(fchmod(file, mode));
  close(file);
  close(from);
}

// The set-user-ID program. "wait": says that it runs, and waits until its input ends.
static int as_program(const char *what) {
  char byte = 1;
  if (!strcmp(what, "wait")) {
    MUST(write(4, &byte, 1));
    while (read(3, &byte, 1) > 0) {}
  }
  return geteuid() == 0 ? 10 : 11;
}

// Starts the program and waits until it runs: it reads from descriptor 3 and says so on 4.
static int hold, started;
static pid_t start(const char *file) {
  int input[2], output[2];
  char byte;
  MUST(pipe(input));
  MUST(pipe(output));
  pid_t child = MUST(fork());
  if (child == 0) {
    close(input[1]), close(output[0]);
    dup2(input[0], 10), dup2(output[1], 11);
    dup2(10, 3), dup2(11, 4);
    execl(file, "program", "wait", NULL);
    _exit(99);
  }
  close(input[0]);
  close(output[1]);
  hold = input[1], started = output[0];
  MUST(read(started, &byte, 1));
  return child;
}
static int stop(pid_t child) {
  close(hold);
  close(started);
  return outcome(child);
}

// How many of them can be opened; all that there are: -1.
static int opened(pid_t process) {
  int n = 0, present = 0;
  for (int i = 0; i < FILES; i++) {
    snprintf(path, sizeof path, "/proc/self/%s", files[i]);
    if (access(path, F_OK) != 0) continue;  // this kernel has no such file
    present++;
    snprintf(path, sizeof path, "/proc/%d/%s", process, files[i]);
    int file = open(path, O_RDONLY);
    if (file < 0) {
      say("%s: %s", path, strerrorname_np(errno));
    } else {
      n++;
      close(file);
    }
  }
  return n == present ? -1 : n;
}

static void plain(void) { execl(program, "program", "plain", NULL); }
static void no_new_privileges(void) {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  plain();
}
static void traced(void) {
  if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) _exit(11);  // without tracing there is no attack
  plain();
}

static void as_user(void) {
  become_user(1000);
  MUST(prctl(PR_SET_DUMPABLE, 1));
  check(outcome(in_child(plain)) == 10, "control: the program becomes root");
  check(outcome(in_child(no_new_privileges)) == 11, "not with no_new_privs");
  pid_t child = in_child(traced);
  int status;
  MUST(waitpid(child, &status, 0));
  while (WIFSTOPPED(status)) {
    ptrace(PTRACE_CONT, child, 0, 0);
    MUST(waitpid(child, &status, 0));
  }
  check(WIFEXITED(status) && WEXITSTATUS(status) == 11, "not when it is traced");

  char other[80];
  snprintf(other, sizeof other, "%s-plain", program);
  child = start(other);
  check(opened(child) == -1, "control: files of a program without the bit open");
  stop(child);
  child = start(program);
  check(opened(child) == 0, "files of the program in /proc do not open");
  struct rlimit limit = {1, 1};
  char word[8];
  struct iovec own = {word, 8}, remote = {(void *)0x400000, 8};
  check(ptrace(PTRACE_ATTACH, child, 0, 0) < 0 && process_vm_readv(child, &own, 1, &remote, 1, 0) < 0 && prlimit(child, RLIMIT_CORE, &limit, NULL) < 0,
        "it cannot be attached to, read or limited");
  check(stop(child) == 10, "and it ran as root");
}

// Descriptors of /proc/PID that were opened before the execution see nothing of the new program.
static void early_descriptors(void) {
  if (access("/proc/self/mem", F_OK) != 0) {
    say("this kernel has no /proc/PID/mem");
    _exit(0);
  }
  int gate[2], input[2], output[2];
  char byte = 1, word[8];
  become_user(1000);
  MUST(prctl(PR_SET_DUMPABLE, 1));
  MUST(pipe(gate)), MUST(pipe(input)), MUST(pipe(output));
  pid_t child = MUST(fork());
  if (child == 0) {
    close(input[1]), close(output[0]);
    read(gate[0], &byte, 1);
    dup2(input[0], 10), dup2(output[1], 11);
    dup2(10, 3), dup2(11, 4);
    execl(program, "program", "wait", NULL);
    _exit(99);
  }
  close(input[0]), close(output[1]);
  snprintf(path, sizeof path, "/proc/%d/mem", child);
  int memory = MUST(open(path, O_RDWR));
  check(pread(memory, word, 8, (off_t)secret_address) == 8, "control: before the execution the memory can be read");
  MUST(write(gate[1], &byte, 1));
  MUST(read(output[0], &byte, 1));
  check(pread(memory, word, 8, (off_t)secret_address) <= 0 && pwrite(memory, word, 8, (off_t)secret_address) <= 0, "after it a descriptor from before reaches nothing");
  close(input[1]);
  check(outcome(child) == 10, "and the program ran as root");
  _exit(attack_failures != 0);
}

// Set-ID bits go when another user's process changes the file, or its owner does.
static void bits(void) {
  struct stat s;
  char file[80];
  snprintf(file, sizeof file, "%s-own", program);
  become_user(1000);
  int own = MUST(open(file, O_RDWR | O_CREAT, 0755));
#define KEEPS_NOT(change, what)               \
  MUST(fchmod(own, 06755));                   \
  MUST(fstat(own, &s));                       \
  check((s.st_mode & 06000) == 06000, "control: the bits are set"); \
  MUST(change);                               \
  MUST(fstat(own, &s));                       \
  check((s.st_mode & 06000) == 0, what)
  KEEPS_NOT(write(own, "x", 1), "the bits go with a write");
  KEEPS_NOT(ftruncate(own, 0), "the bits go with a truncation");
  KEEPS_NOT(fchown(own, -1, 1000), "the bits go with a change of the owner");
  unlink(file);
  _exit(attack_failures != 0);
}

int main(int count, char **words) {
  if (count > 1) return as_program(words[1]);
  snprintf(program, sizeof program, "/tmp/set-id-%d", getpid());
  char other[80];
  snprintf(other, sizeof other, "%s-plain", program);
  MUST(chmod("/tmp", 01777));
  copy_self(program, 04755);
  copy_self(other, 0755);
  attack_failures += outcome(in_child(early_descriptors)) != 0;
  attack_failures += outcome(in_child(bits)) != 0;
  as_user();
  return attack_end();
}
