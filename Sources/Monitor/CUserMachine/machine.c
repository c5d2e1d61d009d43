// Start and end of the user machine, and what there is to know about it.

#include "internal.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

struct um_machine um;
extern const uint8_t um_stub_start[], um_stub_end[], um_gate_begin[], um_gate_enter[];

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE 2
#endif

// MARK: Probe

static uint64_t read_number(const char *path) {
  char text[32];
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  ssize_t count = read(file, text, sizeof text - 1);
  close(file);
  if (count <= 0) return 0;
  text[count] = 0;
  return strtoull(text, NULL, 10);
}

static uint64_t limit_of(__rlimit_resource_t resource) {
  struct rlimit limit;
  return getrlimit(resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY ? limit.rlim_cur : UINT64_MAX;
}

static int make_memfd(const char *name) {
  int file = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  if (file < 0 && errno == EINVAL) file = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);  // before Linux 6.3
  return file < 0 ? -errno : file;
}

static uint32_t choice(uint32_t host_cpus, uint32_t cpus) {
  return host_cpus >= 2 * cpus ? UM_HAND_OVER_ADAPTIVE : UM_HAND_OVER_SLEEPING;
}

void um_probe(struct um_probe *probe) {
  memset(probe, 0, sizeof *probe);
  probe->fsgsbase = (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) != 0;
  uint32_t action = 0x00030000;  // SECCOMP_RET_TRAP
  probe->seccomp = um_call3(SYS_seccomp, 2 /* SECCOMP_GET_ACTION_AVAIL */, 0, &action) == 0;
  int file = make_memfd("apus-probe");
  probe->memfd = file >= 0;
  if (file >= 0) close(file);
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) == 0) probe->host_cpus = (uint32_t)CPU_COUNT(&cpus);
  probe->hand_over = um.ready ? um.config.hand_over : choice(probe->host_cpus, 1);
  if (um.xstate_size == 0) um_xstate_discover();
  probe->xstate_size = um.xstate_size;
  probe->xstate_features = um.xstate_features;
  probe->signal_frame = getauxval(AT_MINSIGSTKSZ);
  probe->maximum_areas = read_number("/proc/sys/vm/max_map_count");
  probe->maximum_processes = limit_of(RLIMIT_NPROC);
  probe->maximum_files = limit_of(RLIMIT_NOFILE);
  um_barrier_probe();
  probe->barrier = um.has_barrier;
}

void um_statistics(struct um_statistics *s) {
  memset(s, 0, sizeof *s);
  s->spaces_created = um.spaces_created;
  s->spaces_destroyed = um.spaces_destroyed;
  s->processes_made = um.processes_made;
  s->processes_reaped = um.processes_reaped;
  s->processes_reused = um.processes_reused;
  s->threads_made = um.threads_made;
  memcpy(s->condemned, um.condemned, sizeof s->condemned);
  s->wakeups_repeated = um.wakeups_repeated;
  s->processes_discarded = um.processes_discarded;
  s->barriers = um.barriers;
  s->kicks = um.kicks;
  s->sites_replaced = um.sites_replaced;
  s->spaces_dropped = um.spaces_dropped;
  s->mapping_cost = atomic_load(&um.mapping_cost);
  s->commands = um.commands;
  s->acknowledgements = um.acknowledgements;
  s->commands_lost = um.commands_lost;
  for (uint32_t i = 0; i < um.config.cpu_count; i++) {
    s->runs += um.cpus[i].runs;
    s->syscalls += um.cpus[i].syscalls;
    s->faults += um.cpus[i].faults;
    s->interrupts += um.cpus[i].interrupts;
    s->gate_calls += um.cpus[i].gate_calls;
    s->polled_runs += um.cpus[i].polled_runs;
    s->polling_begun += um.cpus[i].polling_begun;
    s->polling_ended += um.cpus[i].polling_ended;
  }
}

// MARK: Start

static int64_t map_file(const char *name, uint64_t size, unsigned seals, int *file, uint8_t **memory) {
  int made = make_memfd(name);
  if (made < 0) return made;
  *file = made;
  if (ftruncate(made, (off_t)size) != 0) return -errno;
  if (fcntl(made, F_ADD_SEALS, seals) != 0) return -errno;
  // Aligned as the file is, so that the host can map a large page of it as one.
  uint8_t *range = mmap(NULL, size + UM_LARGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return -errno;
  uint8_t *aligned = (uint8_t *)(((uintptr_t)range + UM_LARGE_PAGE - 1) & ~(uintptr_t)(UM_LARGE_PAGE - 1));
  if (aligned > range) munmap(range, (size_t)(aligned - range));
  if (aligned < range + UM_LARGE_PAGE) munmap(aligned + size, (size_t)(range + UM_LARGE_PAGE - aligned));
  if (mmap(aligned, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, made, 0) == MAP_FAILED) return -errno;
  *memory = aligned;
  return 0;
}

static void *reserve(uint64_t size) {
  void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

void um_needs(const struct um_config *config, struct um_needs *needs) {
  uint64_t threads = (uint64_t)config->maximum_spaces * UM_MAX_THREADS_PER_SPACE * sizeof(struct um_thread);
  uint64_t private = config->maximum_spaces * sizeof(struct um_space) + threads + config->memory_size / UM_LARGE_PAGE + UM_TEXT_SIZE;
  uint64_t control = UM_CONTROL_SLOTS + (uint64_t)config->maximum_spaces * UM_SLOT_SIZE;
  needs->private_memory = private;
  needs->address_space = private + control + config->memory_size + UM_TEXT_SIZE + 2 * UM_LARGE_PAGE + um_stacks_size(config->memory_size);
  needs->file_size = control > config->memory_size + UM_TEXT_SIZE ? control : config->memory_size + UM_TEXT_SIZE;
}

static void write_stub(uint8_t *stub) {
  memcpy(stub + UM_STUB_CODE, um_stub_start, (size_t)(um_stub_end - um_stub_start));
  uint8_t *constants = stub + UM_STUB_CONSTANTS;
  for (uint64_t i = 0; i < UM_ACKNOWLEDGEMENT_COUNT; i++) ((uint64_t *)constants)[i] = i + 1;
  um_write_filters(constants);
  *(uint64_t *)(constants + (UM_XSTATE_FEATURES - UM_CONSTANTS)) = um.xstate_features;
  uint64_t *gate = (uint64_t *)(constants + (UM_GATE_TABLE - UM_CONSTANTS));
  uint64_t code = UM_CODE - (uint64_t)um_stub_start;
  for (uint64_t i = 0; i < UM_GATE_ENTRIES - 1; i++) gate[i] = code + (uint64_t)um_gate_begin + 16 * i;
  gate[UM_GATE_ENTRIES - 1] = code + (uint64_t)um_gate_enter;
  *(uint32_t *)(constants + (UM_STUB_FLAGS - UM_CONSTANTS)) =
      um.config.test_switches & UM_TEST_NO_FILTERS ? UM_STUB_FLAG_UNFILTERED : 0;
}

// The code and the constants of user processes, in a file that nothing can change from here on.
static int64_t make_stub(void) {
  um.stub_fd = make_memfd("apus-stub");
  if (um.stub_fd < 0) return um.stub_fd;
  if (ftruncate(um.stub_fd, UM_STUB_SIZE) != 0) return -errno;
  uint8_t *stub = mmap(NULL, UM_STUB_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, um.stub_fd, 0);
  if (stub == MAP_FAILED) return -errno;
  write_stub(stub);
  munmap(stub, UM_STUB_SIZE);
  return fcntl(um.stub_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0 ? -errno : 0;
}

// The time-stamp counter and the clock at the same moment: of several readings the one between which the least came.
struct instant { uint64_t ticks, time; };
static struct instant read_clocks(void) {
  struct instant best = {0, 0};
  for (uint64_t i = 0, least = UINT64_MAX; i < 8; i++) {
    uint64_t before = __builtin_ia32_rdtsc(), time = um_now(), between = __builtin_ia32_rdtsc() - before;
    if (between >= least) continue;
    least = between;
    best = (struct instant){before + between / 2, time};
  }
  return best;
}

static int64_t start(const char **step) {
  *step = "checking the configuration";
  if (um.config.memory_size == 0 || um.config.memory_size % MACHINE_PAGE_SIZE || um.config.memory_size > 1ull << 46 ||
      um.config.cpu_count == 0 || um.config.cpu_count > MACHINE_MAX_CPUS || um.config.maximum_spaces > UM_MAX_SPACES)
    return -EINVAL;
  *step = "looking for FSGSBASE (the host must let programs write the FS base)";
  if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)) return -ENOTSUP;
  um_xstate_discover();
  *step = "fitting the host's signal frame into a report";
  if (getauxval(AT_MINSIGSTKSZ) > UM_REPORT_SIZE - UM_REPORT_STACK ||
      UM_BUILT_EXTENDED + um.xstate_size + 4 > UM_REPORT_STACK)
    return -ENOTSUP;
  *step = "making guest memory";
  int64_t error = map_file("apus-memory", um.config.memory_size + UM_TEXT_SIZE, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, &um.memory_fd,
                           &um.memory);
  if (error) return error;
  *step = "making the control memory";
  um.control_size = UM_CONTROL_SLOTS + (uint64_t)um.config.maximum_spaces * UM_SLOT_SIZE;
  error = map_file("apus-control", um.control_size, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, &um.control_fd, &um.control);
  if (error) return error;
  um.spaces = reserve(um.config.maximum_spaces * sizeof(struct um_space));
  um.threads = reserve((uint64_t)um.config.maximum_spaces * UM_MAX_THREADS_PER_SPACE * sizeof(struct um_thread));
  if (!um.spaces || !um.threads || !um_text_start() || !um_stacks_reserve()) return -ENOMEM;
  um_charge_start();
  um.enlarged = reserve(um.config.memory_size / UM_LARGE_PAGE + 1);
  if (!um.enlarged) return -ENOMEM;
  *step = "making the code of user processes";
  error = make_stub();
  if (error) return error;
  *step = "finding the host's CPUs";
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) != 0) return -errno;
  for (int i = 0; i < CPU_SETSIZE && um.host_cpu_count < MACHINE_MAX_CPUS; i++)
    if (CPU_ISSET(i, &cpus)) um.host_cpus[um.host_cpu_count++] = i;
  *step = "finding two host CPUs for each CPU, to poll for each other";
  uint32_t chosen = choice((uint32_t)um.host_cpu_count, um.config.cpu_count);
  if (um.config.hand_over == UM_HAND_OVER_AUTOMATIC) um.config.hand_over = chosen;
  bool two = um.config.hand_over >= UM_HAND_OVER_POLLING;
  if (two && chosen != UM_HAND_OVER_ADAPTIVE) return -EINVAL;
  *step = "making event descriptors";
  for (uint32_t i = 0; i < um.config.cpu_count; i++) {
    um.cpus[i].index = i;
    // Those who poll for each other need a CPU each.
    uint32_t width = two ? 2 : 1;
    um.cpus[i].host_cpu = um.host_cpus[i * width % (uint32_t)um.host_cpu_count];
    um.cpus[i].user_cpu = um.host_cpus[(i * width + width - 1) % (uint32_t)um.host_cpu_count];
    um.cpus[i].host_bit = 1ull << i * width % (uint32_t)um.host_cpu_count;
    um.cpus[i].user_bit = 1ull << (i * width + width - 1) % (uint32_t)um.host_cpu_count;
    um.cpus[i].eventfd = eventfd(0, EFD_CLOEXEC);
    if (um.cpus[i].eventfd < 0) return -errno;
  }
  um.maker_eventfd = eventfd(0, EFD_CLOEXEC);
  if (um.maker_eventfd < 0) return -errno;
  um_barrier_probe();
  *step = "opening /proc";
  um.processes_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (um.processes_fd < 0) return -errno;
  *step = "starting the first user process";
  struct instant before = read_clocks();
  error = um_zygote_start();
  // That takes a millisecond or two: long enough to learn how fast the time-stamp counter runs.
  struct instant after = read_clocks();
  um.ticks_per_microsecond = (after.ticks - before.ticks) * 1000 / (after.time > before.time ? after.time - before.time : 1) + 1;
  if (um.config.hand_over == UM_HAND_OVER_ADAPTIVE) {
    um.config.kernel_spin = 60 * um.ticks_per_microsecond;
    um.config.user_spin = 40 * um.ticks_per_microsecond;
  }
  return error ? error : um_watch_start();
}

static void release(void) {
  for (uint32_t i = 0; um.spaces && i < atomic_load(&um.space_limit); i++) um_process_forget(i);
  if (um.memory) munmap(um.memory, um.config.memory_size + UM_TEXT_SIZE);
  if (um.control) munmap(um.control, um.control_size);
  if (um.spaces) munmap(um.spaces, um.config.maximum_spaces * sizeof(struct um_space));
  if (um.threads)
    munmap(um.threads, (uint64_t)um.config.maximum_spaces * UM_MAX_THREADS_PER_SPACE * sizeof(struct um_thread));
  um_text_stop();
  um_stacks_release();
  if (um.enlarged) munmap((void *)um.enlarged, um.config.memory_size / UM_LARGE_PAGE + 1);
  if (um.memory_fd >= 0) close(um.memory_fd);
  if (um.control_fd >= 0) close(um.control_fd);
  if (um.stub_fd >= 0) close(um.stub_fd);
  if (um.maker_eventfd >= 0) close(um.maker_eventfd);
  if (um.processes_fd >= 0) close(um.processes_fd);
  for (uint32_t i = 0; i < um.config.cpu_count && i < MACHINE_MAX_CPUS; i++) {
    struct um_cpu *cpu = &um.cpus[i];
    if (cpu->eventfd >= 0) close(cpu->eventfd);
    if (cpu->signal_stack) munmap(cpu->signal_stack, 0x10000);
    if (cpu->emergency_stack) munmap(cpu->emergency_stack, 0x10000);
    free(cpu->scratch);
  }
  memset(&um, 0, sizeof um);
}

int64_t um_initialize(const struct um_config *config, struct um_failure *failure) {
  if (um.ready) return -EBUSY;
  memset(&um, 0, sizeof um);
  um.config = *config;
  if (um.config.maximum_spaces == 0) um.config.maximum_spaces = UM_MAX_SPACES;
  if (um.config.pool_size == 0) um.config.pool_size = 4;
  um.memory_fd = um.control_fd = um.stub_fd = um.maker_eventfd = um.processes_fd = -1;
  for (int i = 0; i < MACHINE_MAX_CPUS; i++) um.cpus[i].eventfd = -1;
  const char *step = "";
  int64_t error = start(&step);
  if (failure) *failure = (struct um_failure){error, step};
  if (error) {
    release();
    return error;
  }
  um_traps_install();
  um.ready = true;
  return 0;
}

void um_shutdown(void) {
  if (!um.ready) return;
  um_cpu_join();
  um_watch_stop();
  um_zygote_stop();
  release();
}
