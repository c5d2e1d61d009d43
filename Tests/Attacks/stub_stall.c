// Programs that do not give the CPU back: one after the other blocks the preemption signal, by a frame of its own making, and sleeps in
// the stub or computes on. Each is ended by the monitor after a few milliseconds of the host's time, which its user owes to the
// others: so that another user's process keeps about half of the CPU, however many such programs follow each other.
//
// The control is the same chain of programs without the blocked signal, which has the CPU in turn with the other.
//
// run: --cpus 1 -- @ sleep
// run: --cpus 1 -- @ spin
// expect: apus: a user process was ended: it (sleeps where it should run|does not answer the preemption signal) .*
// expect: ok [0-9]+ programs were ended
// expect: ok the other process had [0-9]+ percent of the time
// control: --cpus 1 -- @ obey
// expect: ok control: 0 programs were ended
// expect: ok the other process had [0-9]+ percent of the time
#include "attack.h"

static const char *mode;

__attribute__((noinline)) static void spin(void) {
  for (;;) __asm__ volatile("");
}

static void stall(void) {
  uint64_t report = own_report(), frame = frame_of_fault(report);
  bool sleeps = strcmp(mode, "sleep") == 0;
  static char stack[4096];
  U64(frame + CONTEXT_FLAGS) = 7;
  U64(frame + CONTEXT_MASK) = ~0ull;
  U64(frame + CONTEXT_EFLAGS) = 0x202;
  U64(frame + UM_CONTEXT_RIP) = sleeps ? stub_site(STUB_WAIT) : (uint64_t)spin;
  U64(frame + CONTEXT_RSP) = (uint64_t)stack + 4000;
  U64(frame + 144) = SYS_futex;                               // rax
  U64(frame + 104) = report + UM_REPORT_AWAKE;                // rdi
  U64(frame + 112) = U64(frame + 136) = U64(frame + 56) = 0;  // rsi, rdx, r10
  U64(frame + 48) = U32(report + UM_REPORT_RESUME);           // r9
  U32(report + UM_REPORT_AWAKE) = 0;
  __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; jmp *%1" ::"r"(frame), "r"(stub_site(STUB_RETURN)) : "rax", "memory");
}

// Nanoseconds of CPUs that a process has used.
static int64_t time_of(pid_t process) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", process);
  int file = MUST(open(path, O_RDONLY));
  ssize_t count = MUST(read(file, text, sizeof text - 1));
  close(file);
  text[count] = 0;
  char *at = strrchr(text, ')');
  for (int field = 2; field < 14; field++) at = strchr(at + 1, ' ');
  long user = strtol(at, &at, 10), system = strtol(at, NULL, 10);
  return (user + system) * (1000000000 / sysconf(_SC_CLK_TCK));
}

// As long as a staller lasts, but with its signals open.
static void obey(void) {
  int64_t end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + 20000000;
  while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end) {}
}

int main(int count, char **words) {
  mode = count > 1 ? words[1] : "sleep";
  bool obeys = strcmp(mode, "obey") == 0;
  find_stub_sites();
  volatile long *ended = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_t other = MUST(fork());
  if (other == 0) spin();
  pid_t attacker = MUST(fork());
  if (attacker == 0) {
    become_user(1000);
    for (;;) {
      pid_t child = MUST(fork());
      if (child == 0) {
        if (obeys) obey();
        else stall();
        _exit(0);
      }
      int how = outcome(child);
      ended[how == SIGNALLED(SIGKILL)]++;
    }
  }
  // Shares are those of this kernel's time: how busy the host is does not matter.
  UNTIL(ended[0] + ended[1] >= 5);
  long first = ended[0] + ended[1];
  int64_t used = time_of(other), begin = now_ns(CLOCK_MONOTONIC);
  UNTIL(ended[0] + ended[1] >= first + 60);
  int64_t share = (time_of(other) - used) * 100 / (now_ns(CLOCK_MONOTONIC) - begin);
  if (obeys) check(ended[1] == 0, "control: %ld programs were ended", ended[1]);
  else check(ended[1] >= 60 && ended[0] == 0, "%ld programs were ended", ended[1]);
  check(share >= 35, "the other process had %ld percent of the time", (long)share);
  kill(attacker, SIGKILL);
  kill(other, SIGKILL);
  return attack_end();
}
