// Sealed files: a receiver of a memfd with F_SEAL_WRITE relies on its contents. The sender tries to keep or make a way to write
// through a mapping: made before or after the seal, made writable later, or made on another CPU at the moment of the seal.
//
// run: --cpus 1 --user 1000 -- @
// run: --cpus 4 --user 0 -- @
// native: @
#include "attack.h"

#define SIZE 4096

static int file;

static int sealed(unsigned seals) {
  int fd = MUST(memfd_create("sealed", MFD_ALLOW_SEALING));
  MUST(ftruncate(fd, SIZE));
  if (seals) MUST(fcntl(fd, F_ADD_SEALS, seals));
  return fd;
}

static void *map(int fd, int protection, int flags) { return mmap(NULL, SIZE, protection, flags, fd, 0); }

// Whether any mapping that can be had now may write to the file.
static bool can_write(int fd) {
  char *page = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
  if (page != MAP_FAILED) return true;
  page = map(fd, PROT_READ, MAP_SHARED);
  if (page == MAP_FAILED) return false;
  bool can = mprotect(page, SIZE, PROT_READ | PROT_WRITE) == 0 || mprotect(page, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
  char *second = mremap(page, 0, SIZE, MREMAP_MAYMOVE);
  if (second != MAP_FAILED) {
    can = can || mprotect(second, SIZE, PROT_WRITE) == 0;
    munmap(second, SIZE);
  }
  can = can || madvise(page, SIZE, MADV_REMOVE) == 0;
  int memory = open("/proc/self/mem", O_RDWR);
  can = can || pwrite(memory, "X", 1, (off_t)page) == 1;
  close(memory);
  munmap(page, SIZE);
  return can;
}

static _Atomic int round_number, ready;

// Maps the file again and again; a mapping that was made is written to until the round ends.
static void *mapper(void *unused) {
  for (int seen = 0; seen >= 0;) {
    while (round_number == seen) sched_yield();
    seen = round_number;
    if (seen < 0) break;
    ready++;
    volatile char *page = map(file, PROT_READ | PROT_WRITE, MAP_SHARED);
    while (round_number == seen) {
      if (page == (void *)MAP_FAILED) { sched_yield(); continue; }
      (*page)++;
    }
    if (page != (void *)MAP_FAILED) munmap((void *)page, SIZE);
  }
  return NULL;
}

static void race(void) {
  enum { ROUNDS = 300, THREADS = 2 };
  pthread_t threads[THREADS];
  int broken = 0, sealed_rounds = 0, busy_rounds = 0;
  file = sealed(0);
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, mapper, NULL);
  for (int i = 1; i <= ROUNDS; i++) {
    // The last round's mappings may still be there: a file of its own for each.
    int fd = sealed(0), before = ready;
    char *view = map(fd, PROT_READ, MAP_PRIVATE);
    dup2(fd, file);
    round_number = i;
    while (i % 3 == 0 && ready == before) sched_yield();
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0) {
      sealed_rounds++;
      char first = *(volatile char *)view;
      for (int n = 0; n < 100; n++)
        if (*(volatile char *)view != first) { broken++; break; }
    } else {
      busy_rounds++;
    }
    while (ready < before + THREADS) sched_yield();
    munmap(view, SIZE);
    close(fd);
  }
  round_number = -1;
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  check(broken == 0, "no sealed file changes while others map it");
  check(sealed_rounds > 0 && busy_rounds + sealed_rounds == ROUNDS, "control: seals met mappings, or came before them");
}

int main(void) {
  int fd = sealed(0);
  check(can_write(fd), "control: a file without a seal can be written through mappings");
  fd = sealed(F_SEAL_WRITE);
  check(!can_write(fd), "F_SEAL_WRITE: no mapping can write");
  check(map(fd, PROT_READ | PROT_WRITE, MAP_SHARED) == MAP_FAILED && errno == EPERM, "F_SEAL_WRITE: EPERM");
  char *copy = map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  check(copy != MAP_FAILED && (*copy = 'X') && pread(fd, &(char){0}, 1, 0) == 1, "F_SEAL_WRITE: a private mapping is allowed");
  fd = sealed(F_SEAL_FUTURE_WRITE);
  check(!can_write(fd), "F_SEAL_FUTURE_WRITE: no mapping can write");

  fd = sealed(0);
  char *early = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
  *early = 'A';
  check(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0 && madvise(early, SIZE, MADV_REMOVE) == -1 && errno == EPERM && *early == 'A',
        "F_SEAL_FUTURE_WRITE: an earlier mapping takes nothing out of the file");

  fd = sealed(0);
  char *page = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
  check(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EBUSY, "a writable mapping prevents F_SEAL_WRITE");
  check(mprotect(page, SIZE, PROT_READ) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EBUSY,
        "so does one that may become writable again");
  pid_t child = MUST(fork());
  if (child == 0) pause();
  MUST(munmap(page, SIZE));
  check(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EBUSY, "so does one of a child");
  kill(child, SIGKILL);
  outcome(child);
  copy = map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  int reader = open(name, O_RDONLY);
  char *view = map(reader, PROT_READ, MAP_SHARED);
  check(view != MAP_FAILED && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0, "private and read-only mappings do not");
  check(mprotect(view, SIZE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES, "a mapping of a file opened for reading stays read-only");
  race();
  return attack_end();
}
