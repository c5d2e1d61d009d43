// #! interpreters: arguments, nesting, missing interpreters, odd first lines.
#include "../conformance.h"
#include <sys/mman.h>

static int run(const char *path, char *argument) {
  char *argv[] = {"zero", argument, NULL}, *envp[] = {NULL};
  return outcome(CHILD(execve(path, argv, envp); _exit(errno == ENOENT ? 201 : errno == ENOEXEC ? 202 : errno == EACCES ? 203 : errno == ELOOP ? 204 : 205)));
}

static void script(const char *name, const char *text) {
  make_file(name, text);
  chmod(name, 0755);
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[0] + strlen(argv[0]) - 3, "/me")) {
    for (int i = 1; i < argc; i++) line("  '%s'", argv[i]);
    return 40 + argc;
  }
  enter_work_directory();
  char me[PATH_MAX] = {0}, text[PATH_MAX + 300];
  readlink("/proc/self/exe", me, sizeof me);
  char here[PATH_MAX], interpreter[PATH_MAX + 4];
  getcwd(here, sizeof here);
  MUST(symlink(me, "me"));
  sprintf(interpreter, "%s/me", work_directory);

  section("arguments");
  sprintf(text, "#!%s\nignored", interpreter), script("s", text);
  EQUAL(run("./s", "x"), 43);
  sprintf(text, "#! %s  one two  \n", interpreter), script("s", text);
  EQUAL(run("./s", "x"), 44);
  sprintf(text, "#!%s -a", interpreter), script("s", text);
  EQUAL(run("s", "x"), 44);
  sprintf(text, "#!\t%s\t\n", interpreter), script("s", text);
  EQUAL(run("s", "x"), 43);

  section("nesting");
  script("n0", "");
  sprintf(text, "#!%s first\n", interpreter), script("n0", text);
  for (int i = 1; i < 6; i++) {
    char name[8];
    sprintf(name, "n%d", i), sprintf(text, "#!%s/n%d\n", work_directory, i - 1), script(name, text);
  }
  // The path of the work directory is not printed: only whether it ran, and with how many arguments.
  int saved = dup(1), null = open("/dev/null", O_WRONLY);
  dup2(null, 1);
  int one = run("n1", "x"), three = run("n3", "x"), four = run("n4", "x"), five = run("n5", "x");
  dup2(saved, 1);
  EQUAL(one, 45);
  EQUAL(three, 47);
  EQUAL(four, 48);
  EQUAL(five, 204);
  script("loop", "");
  sprintf(text, "#!%s/loop\n", work_directory), script("loop", text);
  EQUAL(run("loop", "x"), 204);

  section("refused");
  script("s", "#!/no/such/interpreter\n");
  EQUAL(run("s", "x"), 201);
  script("s", "#!\n");
  EQUAL(run("s", "x"), 202);
  script("s", "#!   \n");
  EQUAL(run("s", "x"), 202);
  script("s", "#!/tmp\n");
  EQUAL(run("s", "x"), 203);
  script("s", "#!/etc/passwd\n");
  EQUAL(run("s", "x"), 203);
  script("s", "#");
  EQUAL(run("s", "x"), 202);
  memset(text, 'x', 299), text[299] = 0, memcpy(text, "#!/", 3);
  script("s", text);
  EQUAL(run("s", "x"), 202);
  script("s", "#!/bin/sh\nexit 9\n");
  EQUAL(run("s", "x"), 9);
  script("s", "#!/bin/sh\nexit $#\n");
  EQUAL(run("s", "x"), 1);
  chmod("s", 0644);
  EQUAL(run("s", "x"), 203);
  // A shell runs what exec refuses; execvp does so itself.
  script("plain", "exit 8\n");
  EQUAL(outcome(CHILD(execlp("./plain", "plain", NULL))), 8);
  return conformance_end();
}
