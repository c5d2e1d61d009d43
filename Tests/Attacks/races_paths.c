// A program walks paths below a bound directory of the host while the host renames the directories to and fro. Whatever happens in
// between, a path of the sandbox leads to a file of the sandbox: "../../../../etc/hostname" from the working directory must never reach
// the file of that name outside of the exported directory. The control is the host's renames: looks inside succeed both before and after.
//
// host: @
// expect: ok .* looks, none outside
// expect: ok control: .*
#include "attack.h"

static const char *const paths[] = {
  "/srv/a/b/file", "a/b/file", "file", "../b/file", "../../a/b/../b/file", "../../../../etc/hostname", "/srv/a/b/../../../../../../etc/hostname",
  "../../out/b/file", "../../../outside", "../../../../outside",
};

// Inside the sandbox: looks until the host says stop.
static int look(void) {
  long inside = 0, outside = 0, errors = 0;
  bool told = false;
  chdir("/srv/a/b");
  while (access("/srv/stop", F_OK) != 0) {
    for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) {
      char text[64] = "";
      int file = open(paths[i], O_RDONLY);
      if (file < 0) {
        errors++;
        continue;
      }
      if (read(file, text, sizeof text - 1) < 0) errors++;
      else if (!strncmp(text, "inside", 6)) inside++;
      else if (!strncmp(text, "outside", 7)) outside++, say("%s leads outside", paths[i]);
      close(file);
    }
    chdir("/srv/a/b");
    // Names that were absent are believed for a second: the host goes on until both were seen.
    if (!told && inside > 0 && errors > 0) told = close(open("/srv/enough", O_WRONLY | O_CREAT, 0644)) == 0;
  }
  check(outside == 0, "%ld looks, none outside", inside + outside + errors);
  check(inside > 0 && errors > 0, "control: %ld looks found a file, %ld met a rename", inside, errors);
  return attack_end();
}

static void make(const char *name, const char *text) {
  int file = MUST(open(name, O_WRONLY | O_CREAT | O_TRUNC, 0666));
  MUST(write(file, text, strlen(text)));
  close(file);
}

int main(int count, char **words) {
  if (count > 1) return look();
  char options[512], self[256] = "";
  const char *scratch = getenv("SCRATCH"), *apus = getenv("APUS");
  MUST(readlink("/proc/self/exe", self, sizeof self - 1));
  MUST(chdir(scratch));
  MUST(mkdir("export", 0777));
  MUST(mkdir("export/a", 0777));
  MUST(mkdir("export/a/b", 0777));
  MUST(mkdir("export/out", 0777));
  make("export/a/b/file", "inside");
  make("outside", "outside");
  snprintf(options, sizeof options, "%s/export:/srv", scratch);
  char *slash = strrchr(self, '/'), program[512], bind[512];
  *slash = 0;
  snprintf(program, sizeof program, "/mnt/%s", slash + 1);
  snprintf(bind, sizeof bind, "%s:/mnt:ro", self);
  pid_t child = MUST(fork());
  if (child == 0) {
    execl(apus, apus, "run", "--cpus", "2", "--timeout", "250", "--cwd", "/", "--bind", bind, "--bind", options, "--", program, "look", NULL);
    _exit(127);
  }
  // Renames: out of the tree, into a neighbour, back; 6,000 times at least, with the sandbox running beside.
  int64_t end = now_ns(CLOCK_MONOTONIC) + 120000000000;
  for (int i = 0; (i < 6000 || access("export/enough", F_OK) != 0) && now_ns(CLOCK_MONOTONIC) < end; i++) {
    rename("export/a/b", "moved");
    rename("moved", "export/out/b");
    rename("export/out/b", "export/a/b");
    rename("export/a", "export/c");
    rename("export/c", "export/a");
    if (i % 64 == 0) sleep_ms(1);
  }
  make("export/stop", "stop");
  return outcome(child);
}
