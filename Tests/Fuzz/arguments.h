// Arguments of system calls by type. A value is valid most of the time, at a boundary often, and nonsense sometimes.
//
// Memory of a worker: pages at fixed addresses that its own calls may change, so that they are made again now and then.
//   ARENA + 0        16 pages, readable and writable, then a hole
//   ARENA + 32       4 pages, read-only;  + 40: 4 pages, no access;  + 48: 4 pages of a file;  + 56: 4 pages, shared
//   ARENA + 64 …     where mmap, mremap and the like put what they make, most of it in 192 pages
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include "fuzz.h"

#include <linux/futex.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "layout.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

enum { ARENA_PAGES = 4096 };
#define ARENA 0x100000000000ull
#define ARENA_STRIDE 0x10000000ull

struct state {
  generator g;
  uint64_t arena;
  uint64_t scratch;          // next place for a structure
  uint64_t made[8];          // addresses that calls returned
  int made_count;
  uint32_t pids[6];          // own process, children, the innocent one
  int is_root;
};

enum type {
  NONE, FD, DIRFD, PATH, OWN_PATH, OUT, IN, OUT_STRUCT, SIZE, STRUCT_SIZE, INT, ANY, OFFSET, OFFSET_POINTER, ADDRESS, RANGE_LENGTH,
  TIMESPEC, TIMEVALS, TIMER_VALUE, SIGNAL, SIGNAL_SET, SIGNAL_SET_SIZE, SIGNAL_ACTION, PID, OWN_PID, VECTOR, VECTOR_COUNT, MODE, ID, CPU_SET,
  POLL_SET, FD_SET, EPOLL_EVENT, MESSAGE, OPEN_HOW, CLONE_FLAGS, CLONE_ARGUMENTS, FUTEX_WORD, NAME, XATTR_NAME, NULL_OR_OUT, TIMER_ID, CLOCK,
  SOCKET_ADDRESS, ADDRESS_SIZE, MESSAGES, STRINGS, IOCTL, LIMIT, STRUCT, ZERO, HOST_NAME_SIZE, SLEEP, MOUNT_OPTIONS,
  FLAGS  // FLAGS + n: the set n of flags.h
};

static uint64_t argument(struct state *s, int type);

// Memory for a structure: inside the writable pages; seldom at their end, so that it straddles the hole; seldom elsewhere.
static uint64_t memory(struct state *s, uint64_t size) {
  generator *g = &s->g;
  switch (below(g, 40)) {
    case 0: return 0;
    case 1: return s->arena + 16 * PAGE - below(g, size + 1);            // straddles the end
    case 2: return s->arena + 16 * PAGE + below(g, 8 * PAGE);            // a hole
    case 3: return s->arena + 32 * PAGE + below(g, 4 * PAGE);            // read-only
    case 4: return s->arena + (40 + 8 * below(g, 3)) * PAGE + below(g, 4 * PAGE);
    case 5: return PICK(g, ((const uint64_t[]){UM_CODE, UM_REPORTS, UM_REPORTS + 64, UM_PARAMETERS, UM_RING, UM_GATE, UM_HOST_CLOCK,
      0x7fffffffefff, 0x7ffffffffff8, 0x800000000000, 0xffff800000000000, ~0ull - 7}));
    case 6: return s->made_count ? PICK(g, s->made) : 1;
    default: {
      uint64_t at = s->arena + s->scratch % (15 * PAGE);
      s->scratch += (size + 15) & ~15ull;
      return one_in(g, 16) ? at + 1 : at;
    }
  }
}

static bool is_writable(struct state *s, uint64_t at, uint64_t size) {
  return at >= s->arena && at + size <= s->arena + 16 * PAGE;
}

// Copies a structure to memory of the program, where that can be written.
static uint64_t put(struct state *s, const void *bytes, uint64_t size) {
  uint64_t at = memory(s, size);
  if (is_writable(s, at, size)) memcpy((void *)at, bytes, size);
  return at;
}

static int64_t some_time(generator *g) {
  static const int64_t boundaries[] = {
    INT64_MAX, INT64_MIN, -1, INT64_MAX / 1000000000, INT64_MAX / 1000000000 + 1, INT64_MAX / 1000000, UINT32_MAX, INT32_MAX, 9223372035, 1,
  };
  return one_in(g, 4) ? PICK(g, boundaries) : 0;
}
static int64_t some_fraction(generator *g) {
  static const int64_t boundaries[] = {999999999, 1000000000, 999999, 1000000, -1, INT64_MAX, 0};
  return one_in(g, 8) ? PICK(g, boundaries) : (int64_t)below(g, 3000);
}

static uint64_t some_size(generator *g, uint64_t usual) {
  static const uint64_t boundaries[] = {
    0, 1, 4095, 4096, 4097, 65536, 1 << 20, INT32_MAX, UINT32_MAX, 0x7ffff000, 1ull << 40, INT64_MAX, UINT64_MAX, 0x7fffffffffff,
  };
  return one_in(g, 6) ? PICK(g, boundaries) : below(g, usual) + 1;
}

static const char *const own_paths[] = {
  "a", "b", "c", "d", "a/b", "a/c", "d/e", "d/e/f", "link", "dangling", "loop", "fifo", "big", "a/../b", "./c", "d/", "../x", "d/e/f/g/h", "",
  "no\xff\xfeutf", "." , "d/.", "d/..", "\n",
};
static const char *const other_paths[] = {
  "/", "/tmp", "/etc/passwd", "/etc", "/bin/true", "/usr/bin", "/proc/self", "/proc/self/maps", "/proc/self/fd", "/proc/self/mem", "/proc/self/stat",
  "/proc/self/status", "/proc/self/smaps", "/proc/self/exe", "/proc/self/cwd", "/proc/self/root", "/proc/self/task", "/proc/self/comm", "/proc/self/fd/3",
  "/proc/self/pagemap", "/proc/self/oom_score_adj", "/proc/self/clear_refs", "/proc/self/environ", "/proc/meminfo", "/proc/stat", "/proc/mounts",
  "/proc/slabinfo", "/proc/1/stat", "/proc/1/maps", "/proc/sys/vm/swappiness", "/proc/sys/kernel/hostname", "/dev/null", "/dev/zero", "/dev/full",
  "/dev/urandom", "/dev/ptmx", "/dev/pts/0", "/dev/shm", "/dev/tty", "/sys", "/sys/devices/system/cpu/online", "/proc/interrupts",
  "/proc/thread-self/stat", "/proc/net", "/nonexistent", "/etc/shadow", "/root", "/dev/vda", "/proc/self/mountinfo", "/proc/self/limits",
};

static uint64_t path(struct state *s, bool own) {
  generator *g = &s->g;
  if (one_in(g, 24)) {
    char text[4200];
    uint64_t length = PICK(g, ((const uint64_t[]){255, 256, 4095, 4096, 4097, 300}));
    memset(text, 'x', sizeof text);
    if (one_in(g, 2))
      for (unsigned i = 0; i < length; i += 2) text[i] = '/', text[i + 1] = '.';
    text[length] = 0;
    return put(s, text, length + 1);
  }
  const char *text = own || one_in(g, 2) ? PICK(g, own_paths) : PICK(g, other_paths);
  return put(s, text, strlen(text) + 1);
}

static int some_fd(struct state *s) {
  generator *g = &s->g;
  if (one_in(g, 16)) return (int)PICK(g, ((const int[]){-1, -100, 255, 256, 1024, INT32_MAX, INT32_MIN, 1 << 20}));
  return below(g, one_in(g, 3) ? 64 : 28);
}

// Structures without a form of their own: words that are small, odd, descriptors, or addresses.
static uint64_t structure(struct state *s, unsigned size) {
  uint64_t words[32];
  for (unsigned i = 0; i < 32; i++)
    switch (below(&s->g, 5)) {
      case 0: case 1: words[i] = 0; break;
      case 2: words[i] = below(&s->g, 64); break;
      case 3: words[i] = s->arena + below(&s->g, 16 * PAGE); break;
      default: words[i] = odd_number(&s->g); break;
    }
  return put(s, words, size > sizeof words ? sizeof words : size);
}

static uint64_t vector(struct state *s) {
  struct iovec v[8];
  for (int i = 0; i < 8; i++)
    v[i] = (struct iovec){(void *)memory(s, 256), one_in(&s->g, 8) ? some_size(&s->g, 4096) : below(&s->g, 600)};
  return put(s, v, sizeof v);
}

static int some_signal(generator *g) {
  static const int harmless[] = {0, SIGUSR2, SIGCHLD, SIGURG, SIGWINCH, SIGCONT, SIGIO, 34, 40, 64, 65, -1, 1000};
  return one_in(g, 64) ? (int)below(g, 66) : PICK(g, harmless);
}

static const uint32_t ioctls[] = {
  0x5401, 0x5402, 0x5403, 0x5404, 0x5405, 0x5406, 0x5407, 0x5408, 0x5409, 0x540a, 0x540b, 0x540c, 0x540d, 0x540e, 0x540f, 0x5410, 0x5411, 0x5412, 0x5413,
  0x5414, 0x5415, 0x5418, 0x541b, 0x541c, 0x5420, 0x5421, 0x5422, 0x5423, 0x5424, 0x5425, 0x5427, 0x5428, 0x5429, 0x802c542a, 0x402c542b, 0x80045430,
  0x40045431, 0x80045432, 0x40045436, 0x80045438, 0x80045439, 0x80045440, 0x5441, 0x5450, 0x5451, 0x5452, 0x5460, 0x80086601, 0x40086602, 0x801c581f,
  0x401c5820, 0x40049409, 0x4020940d, 0xc0189436, 0xc020660b, 0x1260, 0x1261, 0x125d, 0x125e, 0x1268, 0x127b, 0x1277, 0x80081272, 0x80041270, 0x127a, 0x1274,
  0xc0045877, 0xc0045878, 0x40086606, 0x5000aa00, 0xb701, 0xb703, 0xb704, 0x40045402, 0x40085400, 0x8004540f,
};

// An address of AF_UNIX: a path of the worker's directory, one of a few abstract names, the family alone; seldom something else.
static uint64_t socket_address(struct state *s) {
  generator *g = &s->g;
  struct { uint16_t family; char name[126]; } a = {one_in(g, 16) ? (uint16_t)below(g, 46) : 1, {0}};
  if (one_in(g, 2)) {
    const char *name = PICK(g, own_paths);
    memcpy(a.name, name, strlen(name) + 1);
  } else {
    a.name[1] = (char)('a' + below(g, 3));
  }
  if (one_in(g, 32)) memset(a.name, 'n', sizeof a.name);
  return put(s, &a, sizeof a);
}

// Control messages: descriptors, identities, and headers that are not quite right. Returns where; `size` gets how long.
static uint64_t control_messages(struct state *s, uint64_t *size) {
  generator *g = &s->g;
  uint64_t words[64] = {0};
  unsigned at = 0;
  for (uint64_t n = below(g, 3); n-- && at < 40;) {
    uint64_t kind = below(g, 8), count = kind == 0 ? 3 : below(g, 9);
    words[at] = one_in(g, 12) ? odd_number(g) : 16 + 4 * count;
    words[at + 1] = (one_in(g, 16) ? below(g, 4) : 1) | (kind == 0 ? 2 : one_in(g, 16) ? below(g, 80) : 1) << 32;
    uint32_t *data = (uint32_t *)&words[at + 2];
    for (unsigned i = 0; i < count; i++) data[i] = kind == 0 ? (i ? below(g, 3) * 500 : s->pids[below(g, 6)]) : (uint32_t)some_fd(s);
    at += 2 + (count + 1) / 2;
  }
  *size = one_in(g, 12) ? some_size(g, 600) : at * 8;
  return one_in(g, 12) ? memory(s, 512) : put(s, words, sizeof words);
}

struct message { uint64_t name; uint32_t name_size, pad; uint64_t vector, count, control, control_size; uint32_t flags, pad2; };

static struct message message(struct state *s) {
  generator *g = &s->g;
  struct message m = {one_in(g, 2) ? 0 : socket_address(s), below(g, one_in(g, 4) ? 130 : 12), 0, vector(s), below(g, 9), 0, 0, 0, 0};
  if (one_in(g, 8)) m.control = structure(s, 128), m.control_size = below(g, 200);
  else if (!one_in(g, 3)) m.control = control_messages(s, &m.control_size);
  return m;
}

// Words of futexes: two in the writable pages, two in shared memory.
static uint64_t futex_word(struct state *s) {
  if (one_in(&s->g, 12)) return memory(s, 4);
  return s->arena + (one_in(&s->g, 2) ? 15 * PAGE : 56 * PAGE) + 4 * below(&s->g, 2);
}

static uint64_t clone_flags(struct state *s) {
  static const uint64_t flags[] = {
    CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_VFORK, CLONE_PARENT, CLONE_THREAD, CLONE_SYSVSEM, CLONE_SETTLS, CLONE_PARENT_SETTID,
    CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_UNTRACED, CLONE_IO, CLONE_PIDFD, CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID,
  };
  uint64_t value = 0;
  for (uint64_t n = below(&s->g, 5); n > 0; n--) value |= flags[below(&s->g, one_in(&s->g, 4) ? 18 : 14)];
  if (one_in(&s->g, 4)) value |= CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
  return value;
}

#include "flags.h"

static uint64_t argument(struct state *s, int type) {
  generator *g = &s->g;
  if (type != NONE && one_in(g, 200)) return odd_number(g);
  switch (type) {
    case NONE: return one_in(g, 4) ? next_random(g) : 0;
    case ZERO: return one_in(g, 8) ? odd_number(g) : 0;
    case FD: return some_fd(s);
    case DIRFD: return one_in(g, 2) ? -100 : some_fd(s);
    case PATH: return path(s, false);
    case OWN_PATH: return path(s, true);
    case NAME: {
      const char *name = PICK(g, ((const char *const[]){"tmpfs", "proc", "sysfs", "devpts", "overlay", "devtmpfs", "x/y\n\x1b[31m"}));
      return put(s, name, strlen(name) + 1);
    }
    case MOUNT_OPTIONS: {
      const char *text = PICK(g, ((const char *const[]){"", "size=64k", "size=1,mode=0", "size=-1", "nr_inodes=4", "lowerdir=a,upperdir=b,workdir=c",
        "lowerdir=a:b:d", "size=99999999999999999999", "mode=99999", "newinstance,ptmxmode=0666", "size=50%,huge=always"}));
      return one_in(g, 3) ? 0 : put(s, text, strlen(text) + 1);
    }
    case XATTR_NAME: {
      const char *name = PICK(g, ((const char *const[]){"user.a", "user.b", "user.", "trusted.a", "security.a", "security.capability",
        "system.posix_acl_access", "system.posix_acl_default", "none", "", "user.\xff\x01"}));
      return put(s, name, strlen(name) + 1);
    }
    case STRINGS: {
      uint64_t strings[4] = {put(s, "one", 4), put(s, "two", 4), one_in(g, 8) ? memory(s, 1) : 0, 0};
      return one_in(g, 6) ? 0 : put(s, strings, sizeof strings);
    }
    case OUT: case IN: return memory(s, 4096);
    case OUT_STRUCT: return memory(s, 256);
    case NULL_OR_OUT: return one_in(g, 2) ? 0 : memory(s, 128);
    case STRUCT: return structure(s, 256);
    case SIZE: return some_size(g, one_in(g, 8) ? 20000 : 600);
    case STRUCT_SIZE: return one_in(g, 4) ? some_size(g, 256) : PICK(g, ((const uint64_t[]){4, 8, 16, 24, 48, 56, 64, 88, 112, 128}));
    case HOST_NAME_SIZE: return one_in(g, 3) ? odd_number(g) : below(g, 66);
    case INT: return one_in(g, 3) ? odd_number(g) : below(g, 16);
    case ANY: return odd_number(g);
    case OFFSET: return one_in(g, 4) ? odd_number(g) : below(g, 70000);
    case OFFSET_POINTER: {
      uint64_t offset = one_in(g, 4) ? odd_number(g) : below(g, 70000);
      return one_in(g, 2) ? 0 : put(s, &offset, 8);
    }
    case ADDRESS: {
      if (one_in(g, 20)) return memory(s, 4096);
      uint64_t at = one_in(g, 6) ? s->arena : s->arena + 64 * PAGE;
      at += PAGE * below(g, at == s->arena ? 64 : one_in(g, 4) ? 4032 : 192);
      if (one_in(g, 8)) at = s->made_count ? PICK(g, s->made) : 0;
      return one_in(g, 30) ? at + below(g, PAGE) : at;
    }
    case RANGE_LENGTH:
      if (one_in(g, 200)) return odd_number(g);
      return one_in(g, 16) ? below(g, 40 * PAGE) : PAGE * (1 + below(g, one_in(g, 10) ? 600 : 12));
    case TIMESPEC: {
      struct timespec t = {some_time(g), some_fraction(g)};
      if (one_in(g, 2)) t = (struct timespec){0, below(g, 3000)};
      return one_in(g, 30) ? 0 : put(s, &t, sizeof t);
    }
    case TIMEVALS: {
      struct timespec t[2] = {{some_time(g), some_fraction(g)}, {some_time(g), one_in(g, 4) ? (one_in(g, 2) ? 0x3fffffff : 0x3ffffffe) : some_fraction(g)}};
      return one_in(g, 6) ? 0 : put(s, t, sizeof t);
    }
    case TIMER_VALUE: {
      // At least 10 ms between two expirations: a flood of signals leaves no time for calls.
      struct timespec t[2] = {{some_time(g), one_in(g, 2) ? 0 : 10000000}, {some_time(g), some_fraction(g)}};
      return one_in(g, 16) ? 0 : put(s, t, sizeof t);
    }
    case SLEEP: return one_in(g, 8) ? odd_number(g) : below(g, 2);
    case SIGNAL: return some_signal(g);
    case SIGNAL_SET: {
      uint64_t set = next_random(g) & next_random(g) & ~(1ull << (SIGUSR1 - 1) | 1ull << (SIGSEGV - 1));
      return one_in(g, 8) ? 0 : put(s, &set, 8);
    }
    case SIGNAL_SET_SIZE: return one_in(g, 10) ? odd_number(g) : 8;
    case SIGNAL_ACTION: {
      uint64_t action[4] = {one_in(g, 4) ? odd_number(g) : below(g, 2), next_random(g) & 0xdc000fff, s->arena, 0};
      return one_in(g, 4) ? 0 : put(s, action, sizeof action);
    }
    case PID: return one_in(g, 3) ? PICK(g, s->pids) : one_in(g, 3) ? below(g, 200) : one_in(g, 2) ? 0 : odd_number(g);
    case OWN_PID: return one_in(g, 2) ? s->pids[0] : one_in(g, 2) ? s->pids[1 + below(g, 3)] : 0;
    case VECTOR: return vector(s);
    case VECTOR_COUNT: return one_in(g, 10) ? PICK(g, ((const uint64_t[]){0, 1024, 1025, UINT32_MAX, INT64_MAX})) : below(g, 8) + 1;
    case MODE: return one_in(g, 10) ? odd_number(g) : (below(g, 4) ? 0700 : 0) | below(g, 0777) | (one_in(g, 12) ? below(g, 8) << 9 : 0);
    case ID: return PICK(g, ((const uint64_t[]){0, 1, 1000, 1001, 65534, UINT32_MAX, UINT32_MAX - 1, 1000, 1000}));
    case CPU_SET: {
      uint64_t set[16] = {one_in(g, 4) ? odd_number(g) : 1 + below(g, 15)};
      return put(s, set, sizeof set);
    }
    case POLL_SET: {
      struct { int fd; short events, revents; } set[8];
      for (int i = 0; i < 8; i++) set[i].fd = some_fd(s), set[i].events = next_random(g), set[i].revents = 0;
      return put(s, set, sizeof set);
    }
    case FD_SET: {
      uint64_t set[16] = {next_random(g) & next_random(g) & 0xffffffff};
      return one_in(g, 2) ? 0 : put(s, set, sizeof set);
    }
    case EPOLL_EVENT: {
      struct epoll_event event = {.events = next_random(g) & (one_in(g, 4) ? ~0u : 0xd000201f), .data.u64 = next_random(g)};
      return put(s, &event, sizeof event);
    }
    case MESSAGE: {
      struct message m = message(s);
      return put(s, &m, sizeof m);
    }
    case MESSAGES: {
      struct { struct message m; uint64_t count; } many[4] = {{message(s), 0}, {message(s), 0}, {message(s), 0}, {message(s), 0}};
      return put(s, many, sizeof many);
    }
    case SOCKET_ADDRESS: return one_in(g, 4) ? 0 : socket_address(s);
    case ADDRESS_SIZE: return one_in(g, 8) ? some_size(g, 128) : PICK(g, ((const uint64_t[]){110, 5, 4, 2, 6, 20, 3}));
    case OPEN_HOW: {
      struct open_how how = {some_flags(g, OPEN_FLAGS), one_in(g, 4) ? 0 : below(g, 0777), one_in(g, 4) ? below(g, 64) : one_in(g, 2) ? 0 : 1ull << below(g, 6)};
      return put(s, &how, sizeof how);
    }
    case CLONE_FLAGS: return clone_flags(s) | (one_in(g, 4) ? 0 : SIGCHLD);
    case CLONE_ARGUMENTS: {
      uint64_t c[11] = {clone_flags(s) & ~(uint64_t)CLONE_DETACHED, memory(s, 8), memory(s, 8), memory(s, 8), one_in(g, 2) ? 0 : SIGCHLD};
      if (one_in(g, 2)) c[5] = s->arena, c[6] = 8 * PAGE;
      if (one_in(g, 16)) c[8] = memory(s, 16), c[9] = below(g, 4);
      return put(s, c, sizeof c);
    }
    case FUTEX_WORD: return futex_word(s);
    case TIMER_ID: return one_in(g, 8) ? odd_number(g) : below(g, 6);
    case CLOCK: return one_in(g, 6) ? odd_number(g) : below(g, 12);
    case IOCTL: return one_in(g, 40) ? next_random(g) : PICK(g, ioctls);
    case LIMIT: {
      uint64_t limit[2] = {odd_number(g), odd_number(g)};
      return one_in(g, 2) ? 0 : put(s, limit, sizeof limit);
    }
    default: return some_flags(g, type);
  }
}

#endif
