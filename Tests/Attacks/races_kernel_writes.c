// What the kernel writes into a program's memory is there when the call returns, and before anything that the kernel or a thread
// writes later. Threads let the kernel write into pages which they have only read so far (the page of zeros is mapped there), by each
// kind of call, and look at once; and a thread that stays in user code watches two pages that one call writes in turn: the second
// must not be seen before the first.
//
// Each loop also looks for values that were never written: the control, which has to find every one of them missing.
//
// run: --cpus 2 -- @ 2
// run: --cpus 4 -- @ 4
// native: @ 4
// expect: ok control: .*
// expect: ok nothing that the kernel wrote was invisible .*
// expect: ok what was written first was seen first .*
#include "attack.h"

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { PAGES = 64, PAGE = 4096, ROUNDS = 40, TURNS = 500 };

static long invisible, operations, missed;

// Untouched pages of the calling thread.
static char *fresh_pages(int count) {
  return MUST(mmap(NULL, (size_t)count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

enum kind { OTHER_SPACE, FILE_READ, PIPE_READ, SOCKET_READ, RANDOM, KINDS };

struct ends { int file, pipe[2], socket[2]; };

// Has the kernel write `value` at `to`; what is there afterwards.
static uint64_t write_by(enum kind kind, struct ends *ends, volatile uint64_t *to, uint64_t value) {
  struct iovec from = {&value, 8}, place = {(void *)to, 8};
  switch (kind) {
    case OTHER_SPACE: MUST(process_vm_writev(getpid(), &from, 1, &place, 1, 0)); break;
    case FILE_READ:
      MUST(pwrite(ends->file, &value, 8, 0));
      MUST(pread(ends->file, (void *)to, 8, 0));
      break;
    case PIPE_READ:
      MUST(write(ends->pipe[1], &value, 8));
      MUST(read(ends->pipe[0], (void *)to, 8));
      break;
    case SOCKET_READ:
      MUST(write(ends->socket[1], &value, 8));
      MUST(read(ends->socket[0], (void *)to, 8));
      break;
    default:
      // 64 random bits that are all 0 come once in the life of some suns.
      MUST(getrandom((void *)to, 8, 0));
      return *to != 0 ? value : 0;
  }
  return *to;
}

static void *reader(void *argument) {
  uint64_t value = (uint64_t)(uintptr_t)argument << 40;
  struct ends ends = {.file = MUST(memfd_create("values", 0))};
  MUST(pipe(ends.pipe));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends.socket));
  for (int round = 0; round < ROUNDS; round++) {
    char *pages = fresh_pages(PAGES);
    for (int i = 0; i < PAGES; i++) {
      volatile uint64_t *word = (volatile uint64_t *)(pages + i * PAGE);
      (void)*word;  // now the page of zeros is mapped here
      uint64_t seen = write_by((enum kind)(round % KINDS), &ends, word, ++value);
      __atomic_fetch_add(&operations, 1, __ATOMIC_RELAXED);
      if (seen != value) __atomic_fetch_add(&invisible, 1, __ATOMIC_RELAXED);
      if (seen != value + 1) __atomic_fetch_add(&missed, 1, __ATOMIC_RELAXED);
    }
    munmap(pages, PAGES * PAGE);
  }
  close(ends.file), close(ends.pipe[0]), close(ends.pipe[1]), close(ends.socket[0]), close(ends.socket[1]);
  return NULL;
}

// One call writes `data`, a page that was only read, and then `flag`, a page that this thread watches.
static volatile uint64_t *data, *flag;
static long disorders, orders;

static void *watcher(void *unused) {
  for (uint64_t turn = 1; turn <= TURNS; turn++) {
    while (__atomic_load_n(&flag[0], __ATOMIC_ACQUIRE) != turn) __builtin_ia32_pause();
    if (*data == turn) orders++;
    else disorders++;
    __atomic_store_n(&flag[1], turn, __ATOMIC_RELEASE);
  }
  return unused;
}

static void watch_order(void) {
  char *pages = fresh_pages(TURNS + 1);
  flag = (volatile uint64_t *)pages;
  flag[0] = flag[1] = 0;
  pthread_t thread;
  data = (volatile uint64_t *)(pages + PAGE);
  MUST(pthread_create(&thread, NULL, watcher, NULL));
  for (uint64_t turn = 1; turn <= TURNS; turn++) {
    data = (volatile uint64_t *)(pages + turn * PAGE);
    (void)*data;
    uint64_t twice[2] = {turn, turn};
    struct iovec from = {twice, 16}, to[2] = {{(void *)data, 8}, {(void *)&flag[0], 8}};
    MUST(process_vm_writev(getpid(), &from, 1, to, 2, 0));
    while (__atomic_load_n(&flag[1], __ATOMIC_ACQUIRE) != turn) sched_yield();
  }
  pthread_join(thread, NULL);
}

int main(int count, char **words) {
  int threads = count > 1 ? atoi(words[1]) : 2;
  pthread_t thread[16];
  for (long i = 0; i < threads; i++) MUST(pthread_create(&thread[i], NULL, reader, (void *)(i + 1)));
  for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  check(operations > 0 && missed == operations, "control: %ld values that were not written were missing", missed);
  check(invisible == 0, "nothing that the kernel wrote was invisible (%ld of %ld)", invisible, operations);
  watch_order();
  check(disorders == 0 && orders == TURNS, "what was written first was seen first (%ld of %ld not)", disorders, orders + disorders);
  return attack_end();
}
