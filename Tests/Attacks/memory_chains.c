// Chains of kernel objects, each of which keeps the one before: directories in directories, mounts in mounts, generations of
// processes. The last reference to such a chain goes at once; its release must not need a stack as deep as the chain.
// The control: the chain is as deep as it was meant to be, so that its release is what is tested.
//
// run: --cpus 2 --memory 512M --user 0 -- @ 40000
// expect: ok .* chains of directories .*
// expect: ok of 40000 names .*
// expect: ok .* left when they are dropped
// run: --cpus 1 --memory 512M --user 1000 -- @ 40000
// expect: ok .* chains of directories .*
#include "attack.h"
#include "sandbox_only.h"

#include <sys/mount.h>

static int depth;

// Makes directories in each other below the directory `at`, which it closes; returns the innermost one.
static int nest(int at, int *made) {
  for (*made = 0; *made < depth; ++*made) {
    if (mkdirat(at, "d", 0700)) break;
    int inner = MUST(openat(at, "d", O_RDONLY | O_DIRECTORY));
    close(at);
    at = inner;
  }
  return at;
}

// How many names the kernel remembers.
static long names(void) {
  char text[8192] = "";
  int file = MUST(open("/proc/apus/counters", O_RDONLY));
  MUST(read(file, text, sizeof text - 1));
  close(file);
  char *line = strstr(text, "dentries");
  return line ? atol(line + strcspn(line, "0123456789")) : -1;
}

// The names of a tree that stays are bounded in number, and go when they are dropped, however deep the tree is.
static void remembered_chain(void) {
  int made;
  char name[32];
  MUST(mkdir("/dev/shm/remembered", 0700));
  close(nest(MUST(open("/dev/shm/remembered", O_RDONLY | O_DIRECTORY)), &made));
  long used = names();
  for (int i = 0; i < 10000; i++) snprintf(name, sizeof name, "/dev/shm/absent.%d", i), access(name, F_OK);
  long unused = names();
  int file = MUST(open("/proc/sys/vm/drop_caches", O_WRONLY));
  MUST(write(file, "2", 1));
  close(file);
  long dropped = names();
  check(made == depth && used >= depth && unused < 20000, "of %d names in each other %ld are remembered (%ld in use)", made, unused, used);
  check(dropped >= 0 && dropped < 1000, "%ld are left when they are dropped", dropped);
}

// Removes the chain from below, while a descriptor keeps the innermost directory and so the whole chain.
static int removed_chain(const char *directory) {
  char name[128];
  snprintf(name, sizeof name, "%s/chain-XXXXXX", directory);
  if (!mkdtemp(name)) return 0;
  int made, inner = nest(MUST(open(name, O_RDONLY | O_DIRECTORY)), &made), gone = 0;
  int above = MUST(openat(inner, "..", O_RDONLY | O_DIRECTORY));
  for (; gone < made && unlinkat(above, "d", AT_REMOVEDIR) == 0; gone++) {
    int next = MUST(openat(above, "..", O_RDONLY | O_DIRECTORY));
    close(above);
    above = next;
  }
  close(above);
  rmdir(name);
  close(inner);
  return gone;
}

// The chain goes with its file system.
static int unmounted_chain(void) {
  MUST(mkdir("/dev/shm/mounted", 0700));
  MUST(mount("none", "/dev/shm/mounted", "tmpfs", 0, ""));
  int made;
  close(nest(MUST(open("/dev/shm/mounted", O_RDONLY | O_DIRECTORY)), &made));
  MUST(umount("/dev/shm/mounted"));
  MUST(rmdir("/dev/shm/mounted"));
  return made;
}

static int mounts_in_mounts(void) {
  int inner = 0, most = depth / 20;
  MUST(mkdir("/dev/shm/mounts", 0700));
  MUST(chdir("/dev/shm/mounts"));
  for (; inner < most; inner++)
    if (mkdir("m", 0700) || mount("none", "m", "tmpfs", 0, "") || chdir("m")) break;
  MUST(chdir("/"));
  // A second tree of the same mounts goes with the first.
  MUST(mkdir("/dev/shm/copy", 0700));
  MUST(mount("/dev/shm/mounts", "/dev/shm/copy", NULL, MS_BIND | MS_REC, NULL));
  MUST(umount2("/dev/shm/mounts/m", MNT_DETACH));
  MUST(umount2("/dev/shm/copy", MNT_DETACH));
  MUST(rmdir("/dev/shm/mounts/m"));
  MUST(rmdir("/dev/shm/mounts"));
  MUST(rmdir("/dev/shm/copy"));
  return inner;
}

// Each generation writes to a page that all have, forks the next one and ends.
static int generations(void) {
  int ends[2], many = depth / 20;
  char *page = MUST(mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  MUST(pipe(ends));
  for (int i = 0; i < many; i++) {
    page[i % 16 * 4096] = i;
    pid_t child;
    UNTIL((child = fork()) >= 0);
    if (child != 0) {
      if (i == 0) break;
      _exit(0);
    }
    if (i == 0) close(ends[0]);
    if (i == many - 1) write(ends[1], &i, sizeof i), _exit(0);
  }
  close(ends[1]);
  int last = -1;
  MUST(read(ends[0], &last, sizeof last));
  while (waitpid(-1, NULL, WNOHANG) > 0) {}
  return last + 1;
}

// Runs the function in a child, so that all it holds goes; returns what it returned, or -1.
static int in_its_own(int (*function)(void)) {
  int *result = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  *result = -1;
  pid_t child = MUST(fork());
  if (child == 0) {
    *result = function();
    _exit(0);
  }
  int end = outcome(child), value = *result;
  if (end != 0) say("a child ended with %d", end);
  munmap(result, 4096);
  return end == 0 ? value : -1;
}

static int removed_in_memory(void) { return removed_chain("/dev/shm"); }
static int removed_in_root(void) { return removed_chain("/tmp"); }

int main(int count, char **words) {
  depth = count > 1 ? atoi(words[count - 1]) : 40000;
  int memory = in_its_own(removed_in_memory), root = in_its_own(removed_in_root);
  check(memory == depth && root > 0, "removed chains of directories (%d and %d deep) are released", memory, root);
  if (getuid() == 0) {
    remembered_chain();
    int mounted = in_its_own(unmounted_chain), inner = in_its_own(mounts_in_mounts);
    check(mounted == depth && inner == depth / 20, "a file system of %d directories in each other, %d mounts in each other", mounted, inner);
  }
  int lived = in_its_own(generations);
  check(lived == depth / 20, "%d generations", lived);
  return attack_end();
}
