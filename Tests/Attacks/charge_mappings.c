// The host's kernel keeps page tables and areas for each user process. A program makes it keep as many as it can with little memory
// of its own: children have a sparse mapping each, and each looks at all of it. The sandbox must bound that, and every
// child must still see what it is to see. The monitor's processes are looked at from outside.
//
// host: @
// expect: ok .* children see all of the sparse mapping
// expect: ok control: .*
// expect: ok the host's page tables .*
#include "attack.h"

#define MEMORY (256 << 20)
#define CHILDREN 24
#define TABLES 1500
// An eighth of the memory and 32 MiB, and for each process 512 KiB and what the smallest has.
#define BOUND (MEMORY / 8 + (32 << 20) + CHILDREN * (640 << 10))

// Inside: a table for each page, shared by all children.
static int inside(void) {
  size_t size = (size_t)TABLES << 21;
  volatile char *sparse = MUST(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  int ready[2], go[2];
  MUST(pipe(ready));
  MUST(pipe(go));
  for (int i = 0; i < TABLES; i++) (void)sparse[(size_t)i << 21];
  sparse[5 << 21] = 77;
  for (int child = 0; child < CHILDREN; child++)
    if (MUST(fork()) == 0) {
      close(go[1]);
      int sum = 0;
      for (int i = 0; i < TABLES; i++) sum += sparse[(size_t)i << 21];
      char answer = sum == 77, end;
      if (write(ready[1], &answer, 1) != 1 || read(go[0], &end, 1) < 0) _exit(1);
      _exit(0);
    }
  close(go[0]);
  int right = 0;
  for (int child = 0; child < CHILDREN; child++) {
    char answer;
    MUST(read(ready[0], &answer, 1));
    right += answer;
  }
  check(right == CHILDREN, "%d children see all of the sparse mapping", right);
  say("READY");
  char end;
  MUST(read(0, &end, 1));
  close(go[1]);
  while (wait(NULL) > 0) {}
  return attack_end();
}

// Bytes of page tables of all processes below `parent`.
static long tables_of(pid_t parent, int *processes) {
  char path[64], text[4096];
  long sum = 0;
  *processes = 0;
  for (pid_t process = 2; process < 1 << 22; process++) {
    if (process == 1 << 17) break;
    snprintf(path, sizeof path, "/proc/%d/status", process);
    int file = open(path, O_RDONLY);
    if (file < 0) continue;
    ssize_t count = read(file, text, sizeof text - 1);
    close(file);
    if (count <= 0) continue;
    text[count] = 0;
    // The number may be that of a thread.
    char *own = strstr(text, "Tgid:"), *at = strstr(text, "PPid:"), *tables = strstr(text, "VmPTE:");
    if (!own || atoi(own + 5) != process || !at || atoi(at + 5) != parent || !tables) continue;
    sum += atol(tables + 6) * 1024;
    ++*processes;
  }
  return sum;
}

int main(int argc, char **argv) {
  if (argc > 1) return inside();
  char self[512], directory[512];
  MUST(readlink("/proc/self/exe", memset(self, 0, sizeof self), sizeof self - 1));
  strcpy(directory, self);
  *strrchr(directory, '/') = 0;
  char bind[600], name[600];
  snprintf(bind, sizeof bind, "%s:/mnt:ro", directory);
  snprintf(name, sizeof name, "/mnt/%s", strrchr(self, '/') + 1);
  int in[2], out[2];
  MUST(pipe(in));
  MUST(pipe(out));
  pid_t sandbox = MUST(fork());
  if (sandbox == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    close(in[1]);
    close(out[0]);
    execl(getenv("APUS"), "apus", "run", "--memory", "256M", "--timeout", "280", "--bind", bind, "--", name, "inside", NULL);
    _exit(97);
  }
  close(out[1]);
  FILE *lines = fdopen(out[0], "r");
  char line[256];
  bool ready = false;
  while (!ready && fgets(line, sizeof line, lines)) {
    ready = !strcmp(line, "READY\n");
    if (!ready) say("%.*s", (int)strcspn(line, "\n"), line);
  }
  check(ready, "the sandbox is ready");
  int processes;
  long tables = tables_of(sandbox, &processes);
  check(processes > CHILDREN, "control: %d processes of the sandbox are found", processes);
  check(tables < BOUND, "the host's page tables are bounded: %ld KiB of at most %d", tables >> 10, BOUND >> 10);
  say("without a bound they would be %ld KiB", (long)CHILDREN * TABLES * 4);
  close(in[1]);
  check(outcome(sandbox) == 0, "the sandbox ends");
  return attack_end();
}
