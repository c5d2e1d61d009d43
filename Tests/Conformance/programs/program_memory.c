// What /proc/PID shows of a program's memory beyond its list of areas, and lets change: mem, smaps_rollup, numa_maps,
// map_files, clear_refs, children.
#include "../conformance.h"
#include <sys/mman.h>
#include <sys/prctl.h>

enum { PAGE = 4096 };
static const char constant[] = "constant";

static char *pages(int count, int protection, int flags, int file) {
  char *memory = mmap(NULL, count * PAGE, protection, flags, file, 0);
  if (memory == MAP_FAILED) line("FATAL mmap"), _exit(98);
  madvise(memory, count * PAGE, MADV_NOHUGEPAGE);
  return memory;
}

static char *text_of(const char *format, ...) {
  static char text[1 << 18];
  char path[100];
  va_list list;
  va_start(list, format);
  vsnprintf(path, sizeof path, format, list);
  va_end(list);
  int file = MUST(open(path, O_RDONLY));
  ssize_t length = 0, n;
  while ((n = read(file, text + length, sizeof text - 1 - length)) > 0) length += n;
  text[length] = 0;
  close(file);
  return text;
}

// A row of smaps_rollup, or of the area of smaps that begins at `address`.
static long row(const char *text, const char *name, const void *address) {
  char start[40];
  snprintf(start, sizeof start, "%08lx-", (unsigned long)(uintptr_t)address);
  if (address && !(text = strstr(text, start))) return -1;
  snprintf(start, sizeof start, "\n%s:", name);
  text = strstr(text, start);
  return text ? strtol(text + strlen(start), NULL, 10) : -1;
}

static int file_of(pid_t pid, const char *name, int flags) {
  char path[60];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
  return open(path, flags | O_CLOEXEC);
}

static void *address_of_child(int from) {
  void *address = NULL;
  EQUAL(read(from, &address, sizeof address), sizeof address);
  return address;
}

int main(int argc, char **argv) {
  if (argc > 1) return pause();
  enter_work_directory();
  int ready[2];
  MUST(pipe2(ready, O_CLOEXEC));
  char byte;

  section("mem: one's own");
  int mem = MUST(open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  struct stat status;
  OK(fstat(mem, &status));
  EQUAL(status.st_mode, S_IFREG | 0600);
  char *own = pages(3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1), copy[3 * PAGE];
  strcpy(own + PAGE - 4, "across");
  EQUAL(pread(mem, copy, 7, (uintptr_t)own + PAGE - 4), 7);
  CHECK(!strcmp(copy, "across"));
  EQUAL(pwrite(mem, "ACR", 3, (uintptr_t)own + PAGE - 2), 3);
  CHECK(!strcmp(own + PAGE - 4, "acACRs"));
  EQUAL(lseek(mem, (uintptr_t)own, SEEK_SET), (off_t)(uintptr_t)own);
  EQUAL(read(mem, copy, 2 * PAGE), 2 * PAGE);
  EQUAL(lseek(mem, 0, SEEK_CUR), (off_t)((uintptr_t)own + 2 * PAGE));
  FAILS(lseek(mem, 0, SEEK_END), EINVAL);
  // What ends within the range is read and written up to there.
  munmap(own + 2 * PAGE, PAGE);
  EQUAL(pread(mem, copy, 3 * PAGE, (uintptr_t)own), 2 * PAGE);
  EQUAL(pwrite(mem, copy, 3 * PAGE, (uintptr_t)own), 2 * PAGE);
  FAILS(pread(mem, copy, 1, (uintptr_t)own + 2 * PAGE), EIO);
  FAILS(pwrite(mem, copy, 1, (uintptr_t)own + 2 * PAGE), EIO);
  FAILS(pread(mem, copy, 1, 0), EIO);
  FAILS(pread(mem, copy, 1, 1L << 62), EIO);
  EQUAL(pread(mem, copy, 0, 0), 0);
  FAILS(pread(mem, (char *)8, 1, (uintptr_t)own), EFAULT);

  section("mem: past the protection");
  mprotect(own, PAGE, PROT_NONE);
  EQUAL(pread(mem, copy, 4, (uintptr_t)own), 4);
  EQUAL(pwrite(mem, "none", 4, (uintptr_t)own), 4);
  mprotect(own, PAGE, PROT_READ);
  CHECK(!memcmp(own, "none", 4));
  EQUAL(pwrite(mem, "only", 4, (uintptr_t)own), 4);
  CHECK(!memcmp(own, "only", 4));
  // Text and constants are changed in a private copy.
  EQUAL(pwrite(mem, "CON", 3, (uintptr_t)constant), 3);
  CHECK(!strcmp(*(const char *volatile *)&(const char *){constant}, "CONstant"));
  int file = MUST(open("file", O_RDWR | O_CREAT, 0600));
  OK(ftruncate(file, PAGE));
  int reader = MUST(open("file", O_RDONLY));
  char *private = pages(1, PROT_READ, MAP_PRIVATE, reader);
  EQUAL(pwrite(mem, "copy", 4, (uintptr_t)private), 4);
  CHECK(!strcmp(private, "copy"));
  EQUAL(pread(file, copy, 4, 0), 4);
  CHECK(!copy[0]);
  // But what others would see is not.
  char *shared = pages(1, PROT_READ, MAP_SHARED, file);
  EQUAL(pread(mem, copy, 4, (uintptr_t)shared), 4);
  FAILS(pwrite(mem, "all", 3, (uintptr_t)shared), EIO);
  char *read_only = pages(1, PROT_READ, MAP_SHARED, reader);
  FAILS(pwrite(mem, "all", 3, (uintptr_t)read_only), EIO);
  mprotect(shared, PAGE, PROT_READ | PROT_WRITE);
  EQUAL(pwrite(mem, "all", 3, (uintptr_t)shared), 3);
  EQUAL(pread(file, copy, 3, 0), 3);
  CHECK(!memcmp(copy, "all", 3));

  section("mem: another's");
  int address[2];
  MUST(pipe(address));
  strcpy(own + PAGE, "parent");
  pid_t child = CHILD({
    char *words = own + PAGE;
    write(address[1], &words, sizeof words);
    while (!memcmp((char *volatile)words, "parent", 6)) usleep(1000);
    write(ready[1], words, 6);
    execl("/proc/self/exe", argv[0], "wait", NULL);
    _exit(1);
  });
  char *there = address_of_child(address[0]);
  mem = MUST(file_of(child, "mem", O_RDWR));
  EQUAL(pread(mem, copy, 7, (uintptr_t)there), 7);
  CHECK(!strcmp(copy, "parent"));
  EQUAL(pwrite(mem, "child!", 6, (uintptr_t)there), 6);
  EQUAL(read(ready[0], copy, 6), 6);
  CHECK(!memcmp(copy, "child!", 6) && !strcmp(own + PAGE, "parent"));
  // The file stays with the program that it was opened for.
  ssize_t count = 0;
  for (int i = 0; i < 2000 && (count = pread(mem, copy, 1, (uintptr_t)there)) != 0; i++) usleep(1000);
  EQUAL(count, 0);
  EQUAL(pwrite(mem, "x", 1, (uintptr_t)there), 0);
  kill(child, SIGKILL), waitpid(child, NULL, 0);
  EQUAL(pread(mem, copy, 1, (uintptr_t)there), 0);
  FAILS(file_of(child, "mem", O_RDONLY), ENOENT);

  section("what others may see");
  pid_t parent = getpid();
  EQUAL(outcome(CHILD({
    if (setresgid(1234, 1234, 1234) < 0 || setresuid(1234, 1234, 1234) < 0) _exit(0);
    int refused = 0;
    for (const char *const *name = (const char *const[]){"mem", "smaps_rollup", "numa_maps", "clear_refs", NULL}; *name; name++)
      refused += file_of(parent, *name, !strcmp(*name, "clear_refs") ? O_WRONLY : O_RDONLY) < 0 && errno == EACCES;
    char path[60];
    snprintf(path, sizeof path, "/proc/%d/map_files", parent);
    refused += open(path, O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES;
    _exit(refused == 5 ? 0 : refused + 1);
  })), 0);

  section("smaps_rollup");
  enum { MANY = 1000 };
  char *many = pages(MANY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  mprotect(many - PAGE, PAGE, PROT_NONE);
  for (int i = 0; i < MANY; i++) many[i * PAGE] = 1;
  char *all = text_of("/proc/self/smaps_rollup");
  CHECK(strstr(all, " ---p 00000000 00:00 0 ") && strstr(all, "[rollup]\nRss:"));
  CHECK(row(all, "Anonymous", NULL) >= MANY * 4 && row(all, "Rss", NULL) >= row(all, "Pss", NULL));
  long parts = row(all, "Pss_Anon", NULL) + row(all, "Pss_File", NULL) + row(all, "Pss_Shmem", NULL);
  CHECK(labs(parts - row(all, "Pss", NULL)) <= 3);
  EQUAL(row(text_of("/proc/self/smaps"), "Pss", many), MANY * 4);
  EQUAL(row(text_of("/proc/self/smaps"), "Private_Dirty", many), MANY * 4);
  // Three children have the pages, too, and one of them writes to half of them.
  pid_t children[3];
  for (int i = 0; i < 3; i++)
    children[i] = CHILD({
      for (int k = 0; i == 2 && k < MANY / 2; k++) many[k * PAGE] = 2;
      write(ready[1], "x", 1);
      pause();
    });
  for (int i = 0; i < 3; i++) EQUAL(read(ready[0], &byte, 1), 1);
  EQUAL(row(text_of("/proc/self/smaps"), "Shared_Dirty", many), MANY * 4);
  // The written half has three owners and a copy, the other half four owners; a kernel may copy some pages more.
  long copied = row(text_of("/proc/%d/smaps", children[2]), "Private_Dirty", many);
  CHECK(copied >= MANY * 4 / 2 && copied <= MANY * 4 / 2 + 256);
  CHECK(labs(row(text_of("/proc/self/smaps"), "Pss", many) - (copied / 3 + (MANY * 4 - copied) / 4)) <= 1);
  CHECK(labs(row(text_of("/proc/%d/smaps", children[2]), "Pss", many) - (copied + (MANY * 4 - copied) / 4)) <= 1);

  section("children");
  char expected[100], path[100];
  snprintf(expected, sizeof expected, "%d %d %d ", children[0], children[1], children[2]);
  CHECK(!strcmp(text_of("/proc/self/task/%d/children", getpid()), expected));
  FAILS(open("/proc/self/children", O_RDONLY), ENOENT);
  for (int i = 0; i < 3; i++) kill(children[i], SIGKILL), waitpid(children[i], NULL, 0);
  EQUAL(row(text_of("/proc/self/smaps"), "Pss", many), MANY * 4);
  CHECK(!strcmp(text_of("/proc/self/task/%d/children", getpid()), ""));

  section("map_files");
  OK(lstat("/proc/self/map_files", &status));
  EQUAL(status.st_mode, S_IFDIR | 0500);
  snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (long)shared, (long)shared + PAGE);
  OK(lstat(path, &status));
  EQUAL(status.st_mode, S_IFLNK | 0600);
  EQUAL(status.st_size, 64);
  count = readlink(path, copy, sizeof copy);
  CHECK(count > 5 && !memcmp(copy + count - 5, "/file", 5));
  unlink("file");
  count = readlink(path, copy, sizeof copy);
  CHECK(count > 15 && !memcmp(copy + count - 15, "/file (deleted)", 15));
  int again = MUST(open(path, O_RDONLY));
  EQUAL(pread(again, copy, 3, 0), 3);
  CHECK(!memcmp(copy, "all", 3));
  snprintf(path, sizeof path, "/proc/self/map_files/0%lx-%lx", (long)shared, (long)shared + PAGE);
  FAILS(lstat(path, &status), ENOENT);
  snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (long)many, (long)many + MANY * PAGE);
  FAILS(lstat(path, &status), ENOENT);

  section("numa_maps");
  char *nodes = text_of("/proc/self/numa_maps");
  snprintf(path, sizeof path, "%08lx default anon=%d dirty=%d ", (long)many, MANY, MANY);
  CHECK(strstr(nodes, path));
  CHECK(strstr(nodes, " stack anon=") && strstr(nodes, " kernelpagesize_kB=4\n"));

  section("clear_refs");
  int forget = MUST(open("/proc/self/clear_refs", O_WRONLY));
  EQUAL(row(text_of("/proc/self/smaps"), "Referenced", many), MANY * 4);
  EQUAL(write(forget, "3\n", 2), 2);
  EQUAL(row(text_of("/proc/self/smaps"), "Referenced", many), MANY * 4);
  EQUAL(write(forget, "2", 1), 1);
  EQUAL(row(text_of("/proc/self/smaps"), "Referenced", many), 0);
  many[7 * PAGE]++;
  // Of its neighbours some may seem to have been used with it.
  long used = row(text_of("/proc/self/smaps"), "Referenced", many);
  CHECK(used >= 4 && used <= 256);
  EQUAL(many[8 * PAGE], 1);
  FAILS(write(forget, "0", 1), EINVAL);
  FAILS(write(forget, "6", 1), EINVAL);
  FAILS(write(forget, "x", 1), EINVAL);
  munmap(many, MANY * PAGE);
  long peak = row(text_of("/proc/self/status"), "VmHWM", NULL);
  EQUAL(write(forget, "5", 1), 1);
  CHECK(row(text_of("/proc/self/status"), "VmHWM", NULL) <= peak - MANY * 4 / 2);
  return conformance_end();
}
