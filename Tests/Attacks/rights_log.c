// Names that programs choose reach the log of the kernel and the terminal of the host. A command name with escape sequences and a line
// break must neither control the terminal nor forge a line. The control is the name itself, which the process still has.
//
// run: --cpus 1 --memory 96M --user 0 -- @
// expect: ok control: .*
// expect: .*killed process [0-9]+ \(\\x1b\[31m\)\\x0aforged\).*
// expect: .*\\x1b\[2Jwritten\\x0aforged by root.*
// reject: forged.*
#include "attack.h"

int main(void) {
  pid_t child = fork();
  if (child == 0) {
    char name[16];
    MUST(prctl(PR_SET_NAME, "\033[31m)\nforged"));
    MUST(prctl(PR_GET_NAME, name));
    check(strcmp(name, "\033[31m)\nforged") == 0, "control: the process has the name");
    int file = MUST(open("/proc/self/oom_score_adj", O_WRONLY));
    MUST(write(file, "1000", 4));
    for (;;) {
      char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) _exit(1);
      memset(memory, 1, 1 << 20);
    }
  }
  check(outcome(child) == SIGNALLED(SIGKILL), "the process is killed for its memory");
  int log = MUST(open("/dev/kmsg", O_WRONLY));
  MUST(write(log, "<1>\033[2Jwritten\nforged by root", 29));
  return attack_end();
}
