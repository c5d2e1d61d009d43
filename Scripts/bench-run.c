// Measures runs of a command from outside.
//   bench-run time N COMMAND…    minimum and mean wall time of N runs, in milliseconds, from vfork to the exit
//   bench-run cpu COMMAND…       processor time of the command and its descendants, user and system, in milliseconds
//   bench-run memory FILE COMMAND…  1 s after start, in KiB: the proportional set size of the command and all its
//                                descendants without mappings of the guest's memory file, and the memory in that file.
//                                The command's output goes to FILE.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t start(char **command, const char *output) {
  pid_t child = vfork();
  if (child == 0) {
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0), dup2(output ? open(output, O_WRONLY | O_CREAT | O_TRUNC, 0644) : null, 1), dup2(null, 2);
    execvp(command[0], command);
    _exit(127);
  }
  return child;
}

static double milliseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static int measure_time(int runs, char **command) {
  double best = 1e9, sum = 0;
  for (int i = 0; i < runs; i++) {
    double begin = milliseconds();
    int status;
    waitpid(start(command, NULL), &status, 0);
    if (status != 0) return printf("failed failed\n"), 1;
    double took = milliseconds() - begin;
    sum += took;
    if (took < best) best = took;
  }
  printf("%.2f %.2f\n", best, sum / runs);
  return 0;
}

static int measure_cpu(char **command) {
  int status;
  struct rusage used;
  waitpid(start(command, NULL), &status, 0);
  if (status != 0 || getrusage(RUSAGE_CHILDREN, &used)) return printf("failed\n"), 1;
  printf("%.2f\n", (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3);
  return 0;
}

// Adds the process and its descendants; a mapping belongs to guest memory when its file is a memory file.
static double resident(pid_t process) {
  char path[400], text[4096];
  snprintf(path, sizeof path, "/proc/%d/smaps", process);
  FILE *file = fopen(path, "r");
  double sum = 0;
  int guest = 0;
  while (file && fgets(text, sizeof text, file)) {
    unsigned long start, end;
    long kib;
    if (sscanf(text, "%lx-%lx ", &start, &end) == 2) guest = strstr(text, "/memfd:") != NULL;
    else if (!guest && sscanf(text, "Pss: %ld", &kib) == 1) sum += kib;
  }
  if (file) fclose(file);
  // Any of its threads may have made a child.
  snprintf(path, sizeof path, "/proc/%d/task", process);
  DIR *tasks = opendir(path);
  for (struct dirent *task; tasks && (task = readdir(tasks));) {
    snprintf(path, sizeof path, "/proc/%d/task/%s/children", process, task->d_name);
    FILE *children = fopen(path, "r");
    for (int child; children && fscanf(children, "%d", &child) == 1;) sum += resident(child);
    if (children) fclose(children);
  }
  if (tasks) closedir(tasks);
  return sum;
}

// The memory that the process's memory file has been given so far.
static double in_memory_file(pid_t process) {
  char path[400], target[64];
  snprintf(path, sizeof path, "/proc/%d/fd", process);
  DIR *files = opendir(path);
  double kib = 0;
  for (struct dirent *file; files && (file = readdir(files));) {
    snprintf(path, sizeof path, "/proc/%d/fd/%s", process, file->d_name);
    struct stat status;
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 7 || strncmp(target, "/memfd:", 7) || stat(path, &status)) continue;
    if (status.st_blocks / 2.0 > kib) kib = status.st_blocks / 2.0;
  }
  if (files) closedir(files);
  return kib;
}

static int measure_memory(const char *output, char **command) {
  pid_t child = start(command, output);
  sleep(1);
  double own = resident(child), guest = in_memory_file(child);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  printf("%.0f %.0f\n", own, guest);
  return own <= 0;
}

int main(int argc, char **argv) {
  if (argc > 3 && !strcmp(argv[1], "time")) return measure_time(atoi(argv[2]), argv + 3);
  if (argc > 2 && !strcmp(argv[1], "cpu")) return measure_cpu(argv + 2);
  if (argc > 3 && !strcmp(argv[1], "memory")) return measure_memory(argv[2], argv + 3);
  fprintf(stderr, "usage: bench-run time N COMMAND… | cpu COMMAND… | memory FILE COMMAND…\n");
  return 2;
}
