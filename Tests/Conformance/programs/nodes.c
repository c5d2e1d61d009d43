// Memory policies and what /sys says of CPUs and nodes: set_mempolicy(2), mbind(2), move_pages(2) and their like.
#include "../conformance.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { DEFAULT, PREFERRED, BIND, INTERLEAVE };
enum { OF_NODE = 1, OF_ADDRESS = 2, ALLOWED = 4 };

static long set_policy(int mode, unsigned long *nodes, unsigned long maximum) {
  return syscall(SYS_set_mempolicy, mode, nodes, maximum);
}
static long get_policy(int *mode, unsigned long *nodes, unsigned long maximum, void *address, unsigned long flags) {
  return syscall(SYS_get_mempolicy, mode, nodes, maximum, address, flags);
}

static void policies(void) {
  section("policies");
  unsigned long nodes[16] = {0}, seen[16] = {0};
  int mode = -1;
  EQUAL(get_policy(NULL, NULL, 0, NULL, 0), 0);
  EQUAL(get_policy(&mode, seen, 1024, NULL, 0), 0);
  EQUAL(mode, DEFAULT);
  EQUAL(seen[0], 0);
  EQUAL(get_policy(NULL, seen, 1024, NULL, ALLOWED), 0);
  CHECK(seen[0] & 1);
  nodes[0] = 1;
  EQUAL(set_policy(BIND, nodes, 1024), 0);
  EQUAL(get_policy(&mode, seen, 1024, NULL, 0), 0);
  EQUAL(mode, BIND);
  EQUAL(seen[0], 1);
  char *memory = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memory[0] = memory[4096] = 1;
  EQUAL(get_policy(&mode, NULL, 0, memory, OF_NODE | OF_ADDRESS), 0);
  EQUAL(mode, 0);
  EQUAL(set_policy(INTERLEAVE, nodes, 1024), 0);
  EQUAL(get_policy(&mode, NULL, 0, NULL, OF_NODE), 0);
  EQUAL(mode, 0);
  EQUAL(set_policy(PREFERRED, nodes, 1024), 0);
  EQUAL(set_policy(PREFERRED, NULL, 0), 0);
  EQUAL(set_policy(DEFAULT, NULL, 0), 0);
  FAILS(set_policy(DEFAULT, nodes, 1024), EINVAL);
  FAILS(set_policy(BIND, NULL, 0), EINVAL);
  FAILS(set_policy(99, nodes, 1024), EINVAL);
  FAILS(set_policy(BIND, (void *)8, 1024), EFAULT);
  FAILS(get_policy(&mode, NULL, 0, NULL, OF_NODE), EINVAL);
  FAILS(get_policy(&mode, NULL, 0, NULL, 64), EINVAL);
  FAILS(get_policy(&mode, NULL, 0, memory, 0), EINVAL);

  section("where pages are");
  char *untouched = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  void *pages[3] = {memory, memory + 4096, untouched};
  int status[3] = {-1, -1, -1};
  EQUAL(syscall(SYS_move_pages, 0, 3ul, pages, NULL, status, 0), 0);
  EQUAL(status[0], 0);
  EQUAL(status[1], 0);
  EQUAL(status[2], -ENOENT);
  munmap(memory, 16384);
  munmap(untouched, 4096);
}

static long bind_range(void *start, unsigned long length, int mode, unsigned long *nodes, unsigned flags) {
  return syscall(SYS_mbind, start, length, mode, nodes, nodes ? 1024ul : 0ul, flags);
}

static long home_node(void *start, unsigned long length, unsigned long node, unsigned long flags) {
  return syscall(SYS_set_mempolicy_home_node, start, length, node, flags);
}

// Policies of ranges, and moving pages where there is one node to move them to.
static void ranges(void) {
  section("ranges");
  enum { STRICT = 1, MOVE = 2, LOCAL = 4 };
  unsigned long nodes[16] = {1}, absent[16] = {1ul << 60}, seen[16] = {0};
  int mode = -1;
  char *memory = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memory[0] = 1;
  EQUAL(get_policy(&mode, seen, 1024, memory, OF_ADDRESS), 0);
  EQUAL(mode, DEFAULT);
  EQUAL(bind_range(memory + 4096, 4 * 4096, BIND, nodes, 0), 0);
  EQUAL(get_policy(&mode, seen, 1024, memory + 2 * 4096, OF_ADDRESS), 0);
  EQUAL(mode, BIND);
  EQUAL(seen[0], 1);
  EQUAL(get_policy(&mode, seen, 1024, memory, OF_ADDRESS), 0);
  EQUAL(mode, DEFAULT);
  EQUAL(seen[0], 0);
  EQUAL(bind_range(memory, 16 * 4096, BIND, nodes, STRICT | MOVE), 0);
  EQUAL(bind_range(memory, 5, INTERLEAVE, nodes, 0), 0);
  EQUAL(get_policy(&mode, seen, 1024, memory + 4095, OF_ADDRESS), 0);
  EQUAL(mode, INTERLEAVE);
  EQUAL(bind_range(memory, 4096, LOCAL, NULL, 0), 0);
  EQUAL(get_policy(&mode, NULL, 0, memory, OF_ADDRESS), 0);
  EQUAL(mode, LOCAL);
  EQUAL(bind_range(memory, 0, BIND, nodes, 0), 0);
  // A child has the same.
  pid_t child = CHILD({
    int theirs = -1;
    EQUAL(get_policy(&theirs, seen, 1024, memory + 8192, OF_ADDRESS), 0);
    EQUAL(theirs, BIND);
  });
  EQUAL(outcome(child), 0);
  EQUAL(bind_range(memory, 16 * 4096, DEFAULT, NULL, MOVE), 0);
  EQUAL(get_policy(&mode, seen, 1024, memory + 8192, OF_ADDRESS), 0);
  EQUAL(mode, DEFAULT);
  FAILS(bind_range(memory + 1, 4096, BIND, nodes, 0), EINVAL);
  FAILS(bind_range(memory, 4096, BIND, nodes, 64), EINVAL);
  FAILS(bind_range(memory, 4096, BIND, NULL, 0), EINVAL);
  FAILS(bind_range(memory, 4096, BIND, absent, 0), EINVAL);
  FAILS(bind_range(memory, 4096, DEFAULT, nodes, 0), EINVAL);
  FAILS(bind_range(memory, 4096, 99, nodes, 0), EINVAL);
  OK(munmap(memory + 4096, 4096));
  FAILS(bind_range(memory, 4 * 4096, BIND, nodes, 0), EFAULT);
  FAILS(get_policy(&mode, NULL, 0, memory + 4096, OF_ADDRESS), EFAULT);
  EQUAL(syscall(SYS_migrate_pages, 0, 1024ul, nodes, nodes), 0);
  FAILS(syscall(SYS_migrate_pages, 0, 1024ul, nodes, (unsigned long[16]){0}), EINVAL);
  FAILS(syscall(SYS_migrate_pages, 0x7fffffff, 1024ul, nodes, nodes), ESRCH);
  // Where a range's rule begins to look.
  EQUAL(bind_range(memory, 4096, BIND, nodes, 0), 0);
  EQUAL(bind_range(memory + 8 * 4096, 4096, INTERLEAVE, nodes, 0), 0);
  EQUAL(home_node(memory, 2 * 4096, 0, 0), 0);
  FAILS(home_node(memory + 4 * 4096, 2 * 4096, 0, 0), ENOENT);
  FAILS(home_node(memory, 16 * 4096, 0, 0), EOPNOTSUPP);
  FAILS(home_node(memory + 1, 4096, 0, 0), EINVAL);
  FAILS(home_node(memory, 4096, 1000, 0), EINVAL);
  FAILS(home_node(memory, 4096, 0, 1), EINVAL);
  FAILS(home_node(memory, -4096ul, 0, 0), EINVAL);
  EQUAL(home_node(memory, 0, 0, 0), 0);
  void *pages[2] = {memory, memory + 4096};
  int wanted[2] = {0, 0}, status[2] = {-1, -1};
  EQUAL(syscall(SYS_move_pages, 0, 2ul, pages, wanted, status, MOVE), 0);
  EQUAL(status[0], 0);
  FAILS(syscall(SYS_move_pages, 0x7fffffff, 2ul, pages, wanted, status, MOVE), ESRCH);
  FAILS(syscall(SYS_move_pages, 0, 2ul, pages, wanted, status, 64), EINVAL);
  munmap(memory, 16 * 4096);
}

static int first_number(const char *path) {
  int value = -1;
  FILE *file = fopen(path, "r");
  if (!file || fscanf(file, "%d", &value) != 1) value = -1;
  if (file) fclose(file);
  return value;
}

static void topology(void) {
  section("what /sys says");
  EQUAL(first_number("/sys/devices/system/cpu/online"), 0);
  EQUAL(first_number("/sys/devices/system/cpu/possible"), 0);
  EQUAL(first_number("/sys/devices/system/node/online"), 0);
  CHECK(first_number("/sys/devices/system/cpu/kernel_max") >= 0);
  EQUAL(first_number("/sys/devices/system/cpu/cpu0/topology/physical_package_id"), 0);
  EQUAL(first_number("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list"), 0);
  EQUAL(first_number("/sys/devices/system/node/node0/distance"), 10);
  EQUAL(access("/sys/devices/system/node/node0/cpu0/topology", F_OK), 0);
  EQUAL(access("/sys/devices/system/cpu/cpu0/node0/cpulist", F_OK), 0);
  FAILS(access("/sys/devices/system/node/node99", F_OK), ENOENT);
  unsigned cpu = 99, node = 99;
  EQUAL(syscall(SYS_getcpu, &cpu, &node, NULL), 0);
  CHECK(cpu < 64 && node < 8);
}

int main(void) {
  policies();
  ranges();
  topology();
  return conformance_end();
}
