// Files whose pages are changed faster than anybody stores them: by mappings and by write(2), with truncation, fsync(2) and
// its like in between. `write_back DIRECTORY MEGABYTES` does it in another directory, with files larger than memory; the
// files stay there, and have the same contents wherever they were made.
// directory: overlay tmpfs bind root
#include "../conformance.h"
#include <pthread.h>
#include <sys/mman.h>

enum { PAGE = 4096 };
static size_t size = 4 << 20;
static bool keeps;  // the files, for somebody who looks at them

// What the word `at` of the file number `file` is.
static uint64_t word(uint64_t file, uint64_t at) { return (at + 1) * 0x9e3779b97f4a7c15u ^ file << 56; }

static void fill(uint64_t *words, uint64_t file, size_t from, size_t bytes) {
  for (size_t i = 0; i < bytes / 8; i++) words[i] = word(file, from / 8 + i);
}

static bool is_filled(const uint64_t *words, uint64_t file, size_t from, size_t bytes) {
  for (size_t i = 0; i < bytes / 8; i++)
    if (words[i] != word(file, from / 8 + i)) return false;
  return true;
}

static bool file_is_filled(int fd, uint64_t file, size_t from, size_t end) {
  static uint64_t piece[32768];
  for (size_t at = from; at < end; at += sizeof piece) {
    size_t bytes = end - at < sizeof piece ? end - at : sizeof piece;
    if (pread(fd, piece, bytes, at) != (ssize_t)bytes || !is_filled(piece, file, at, bytes)) return false;
  }
  return true;
}

static int create(const char *name) { return MUST(open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)); }

// A file system in memory has room for one of the files.
static void done(const char *name) {
  if (!keeps) EQUAL(unlink(name), 0);
}

static uint64_t *map(int fd, size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) _exit(97);
  return memory;
}

static void mapped(void) {
  section("mapped");
  int fd = create("mapped");
  EQUAL(ftruncate(fd, size), 0);
  uint64_t *words = map(fd, size);
  fill(words, 9, 0, size);
  EQUAL(msync(words, size / 2, MS_SYNC), 0);
  // Again, in an order that is not that of the file.
  enum { PIECE = 16 * PAGE };
  for (size_t at = 0, step = 0; step < size / PIECE; step++, at = (at + 37 * PIECE) % size)
    fill(words + at / 8, 1, at, PIECE);
  CHECK(is_filled(words, 1, 0, size));
  CHECK(file_is_filled(fd, 1, 0, size));
  EQUAL(munmap(words, size), 0);
  EQUAL(fsync(fd), 0);
  CHECK(file_is_filled(fd, 1, 0, size));
  EQUAL(close(fd), 0);
  done("mapped");
}

static void written(void) {
  section("written");
  int fd = create("written");
  static uint64_t piece[131072];
  bool ok = true;
  for (size_t at = 0; at < size; at += sizeof piece) {
    size_t bytes = size - at < sizeof piece ? size - at : sizeof piece;
    fill(piece, 2, at, bytes);
    ok = ok && write(fd, piece, bytes) == (ssize_t)bytes;
  }
  CHECK(ok);
  // Small pieces that share pages.
  for (size_t at = 0; at + 1000 < size; at += size / 500 / 8 * 8) {
    fill(piece, 2, at, 1000);
    ok = ok && pwrite(fd, piece, 1000, at) == 1000;
  }
  CHECK(ok);
  EQUAL(fdatasync(fd), 0);
  CHECK(file_is_filled(fd, 2, 0, size));
  EQUAL(close(fd), 0);
  done("written");
}

static void truncated(void) {
  section("truncated");
  int fd = create("truncated");
  EQUAL(ftruncate(fd, size), 0);
  uint64_t *words = map(fd, size);
  fill(words, 3, 0, size);
  EQUAL(ftruncate(fd, size / 2 + 100 * 8), 0);
  EQUAL(ftruncate(fd, size), 0);
  CHECK(is_filled(words, 3, 0, size / 2 + 100 * 8));
  size_t other = 0;
  for (size_t at = size / 16 + 100; at < size / 8; at++) other += words[at] != 0;
  EQUAL(other, 0);
  fill(words + size / 16, 3, size / 2, size / 4);
  EQUAL(fsync(fd), 0);
  EQUAL(ftruncate(fd, size / 4 * 3), 0);
  CHECK(file_is_filled(fd, 3, 0, size / 4 * 3));
  struct stat status;
  EQUAL(fstat(fd, &status), 0);
  CHECK((size_t)status.st_size == size / 4 * 3);
  munmap(words, size);
  EQUAL(close(fd), 0);
  done("truncated");
}

static void ranges(void) {
  section("ranges");
  int fd = create("ranges");
  EQUAL(ftruncate(fd, 64 * PAGE), 0);
  uint64_t *words = map(fd, 64 * PAGE);
  fill(words, 4, 0, 64 * PAGE);
  unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  EQUAL(sync_file_range(fd, 8 * PAGE, 8 * PAGE, SYNC_FILE_RANGE_WRITE), 0);
  EQUAL(sync_file_range(fd, 0, 0, all), 0);
  EQUAL(sync_file_range(fd, 0, 0, 0), 0);
  FAILS(sync_file_range(fd, 0, 0, 8), EINVAL);
  FAILS(sync_file_range(fd, -1, 0, all), EINVAL);
  FAILS(sync_file_range(fd, 0, -1, all), EINVAL);
  int ends[2];
  EQUAL(pipe(ends), 0);
  FAILS(sync_file_range(ends[0], 0, 0, all), ESPIPE);
  FAILS(fsync(ends[0]), EINVAL);
  EQUAL(syncfs(fd), 0);
  EQUAL(msync(words, 64 * PAGE, MS_ASYNC), 0);
  FAILS(msync(words, 64 * PAGE, MS_ASYNC | MS_SYNC), EINVAL);
  CHECK(file_is_filled(fd, 4, 0, 64 * PAGE));
  munmap(words, 64 * PAGE);
  close(ends[0]);
  close(ends[1]);
  EQUAL(close(fd), 0);
  done("ranges");
}

static volatile bool is_over;
static uint64_t *shared;

static void *change(void *argument) {
  size_t which = (size_t)argument;
  // Every other page is this thread's.
  for (int round = 0; round < 2; round++)
    for (size_t page = which; page < size / PAGE; page += 2)
      fill(shared + page * PAGE / 8, round == 1 ? 5 : 7, page * PAGE, PAGE);
  return NULL;
}

static void *store(void *argument) {
  int fd = *(int *)argument;
  bool ok = true;
  while (!is_over) {
    ok = ok && fsync(fd) == 0 && sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE) == 0;
    sleep_ms(5);
  }
  return (void *)(uintptr_t)ok;
}

static void together(void) {
  section("together");
  int fd = create("together");
  EQUAL(ftruncate(fd, size), 0);
  shared = map(fd, size);
  pthread_t writers[2], storer;
  pthread_create(&storer, NULL, store, &fd);
  for (size_t i = 0; i < 2; i++) pthread_create(&writers[i], NULL, change, (void *)i);
  for (size_t i = 0; i < 2; i++) pthread_join(writers[i], NULL);
  is_over = true;
  void *ok;
  pthread_join(storer, &ok);
  CHECK(ok != NULL);
  munmap(shared, size);
  EQUAL(close(fd), 0);
  fd = MUST(open("together", O_RDONLY));
  CHECK(file_is_filled(fd, 5, 0, size));
  EQUAL(close(fd), 0);
  done("together");
}

static long long number(const char *file, const char *name) {
  char text[65536];
  int fd = open(file, O_RDONLY);
  if (fd < 0) return -1;
  size_t length = 0;
  for (ssize_t n; (n = read(fd, text + length, sizeof text - 1 - length)) > 0;) length += n;
  close(fd);
  text[length] = 0;
  if (!*name) return atoll(text);
  for (char *at = text; (at = strstr(at, name)); at++)
    if ((at == text || at[-1] == '\n') && strchr(" :", at[strlen(name)])) return atoll(at + strlen(name) + 1);
  return -1;
}

static void parameters(void) {
  section("parameters");
  long long ratio = number("/proc/sys/vm/dirty_ratio", ""), bytes = number("/proc/sys/vm/dirty_bytes", "");
  CHECK(ratio >= 0 && ratio <= 100 && bytes >= 0 && (ratio == 0 || bytes == 0));
  ratio = number("/proc/sys/vm/dirty_background_ratio", ""), bytes = number("/proc/sys/vm/dirty_background_bytes", "");
  CHECK(ratio >= 0 && ratio <= 100 && bytes >= 0 && (ratio == 0 || bytes == 0));
  CHECK(number("/proc/sys/vm/dirty_writeback_centisecs", "") >= 0);
  CHECK(number("/proc/sys/vm/dirty_expire_centisecs", "") >= 0);
  CHECK(number("/proc/sys/vm/min_free_kbytes", "") > 0);
  CHECK(number("/proc/sys/vm/watermark_scale_factor", "") >= 1);
  CHECK(number("/proc/sys/vm/vfs_cache_pressure", "") >= 0);
  CHECK(number("/proc/meminfo", "Dirty") >= 0 && number("/proc/meminfo", "Writeback") >= 0);
  const char *names[] = {"nr_dirty",       "nr_writeback", "nr_dirtied",    "nr_written",     "nr_dirty_threshold",
                         "nr_dirty_background_threshold", "pgscan_kswapd", "pgscan_direct",  "pgsteal_kswapd",
                         "pgsteal_direct", "allocstall_normal"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (!CHECK(number("/proc/vmstat", names[i]) >= 0)) line("%s is missing", names[i]);
  long long background = number("/proc/vmstat", "nr_dirty_background_threshold");
  CHECK(background < number("/proc/vmstat", "nr_dirty_threshold"));
}

static int set(const char *name, const char *value) {
  char path[128];
  snprintf(path, sizeof path, "/proc/sys/vm/%s", name);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t n = write(fd, value, strlen(value));
  int error = errno;
  close(fd);
  errno = error;
  return n == (ssize_t)strlen(value) ? 0 : -1;
}

static long long get(const char *name) {
  char path[128];
  snprintf(path, sizeof path, "/proc/sys/vm/%s", name);
  return number(path, "");
}

static void settings(void) {
  section("settings");
  APUS_ONLY("a ratio or a number of bytes", {
    OK(set("dirty_ratio", "30\n"));
    EQUAL(get("dirty_ratio"), 30);
    OK(set("dirty_bytes", "8388608"));
    EQUAL(get("dirty_ratio"), 0);
    EQUAL(get("dirty_bytes"), 8388608);
    EQUAL(number("/proc/vmstat", "nr_dirty_threshold"), 2048);
    OK(set("dirty_background_bytes", "4096"));
    EQUAL(get("dirty_background_ratio"), 0);
    EQUAL(number("/proc/vmstat", "nr_dirty_background_threshold"), 1);
    OK(set("dirty_background_ratio", "10"));
    EQUAL(get("dirty_background_bytes"), 0);
    OK(set("dirty_ratio", "20"));
  });
  APUS_ONLY("bounds", {
    FAILS(set("dirty_ratio", "101"), EINVAL);
    FAILS(set("dirty_ratio", "-1"), EINVAL);
    FAILS(set("dirty_ratio", "x"), EINVAL);
    FAILS(set("dirty_bytes", "8191"), EINVAL);
    FAILS(set("dirty_background_bytes", "0"), EINVAL);
    FAILS(set("dirty_background_ratio", "101"), EINVAL);
    FAILS(set("dirty_expire_centisecs", "-1"), EINVAL);
    FAILS(set("drop_caches", "0"), EINVAL);
    FAILS(set("drop_caches", "5"), EINVAL);
    FAILS(set("watermark_scale_factor", "0"), EINVAL);
    FAILS(set("watermark_scale_factor", "3001"), EINVAL);
    FAILS(set("vfs_cache_pressure", "-1"), EINVAL);
  });
  APUS_ONLY("others", {
    OK(set("dirty_writeback_centisecs", "0"));
    EQUAL(get("dirty_writeback_centisecs"), 0);
    OK(set("dirty_writeback_centisecs", "500"));
    OK(set("dirty_expire_centisecs", "3000"));
    OK(set("vfs_cache_pressure", "100"));
    long long before = get("min_free_kbytes");
    char text[32];
    snprintf(text, sizeof text, "%lld", 2 * before);
    OK(set("min_free_kbytes", text));
    CHECK(get("min_free_kbytes") > 2 * before - 200 && get("min_free_kbytes") <= 2 * before);
    snprintf(text, sizeof text, "%lld", before);
    OK(set("min_free_kbytes", text));
    OK(set("watermark_scale_factor", "10"));
    OK(set("drop_caches", "3"));
    CHECK(number("/proc/vmstat", "drop_pagecache") >= 1);
  });
}

int main(int count, char **arguments) {
  bool isHere = count < 2;
  if (isHere) enter_work_directory();
  else if (chdir(arguments[1]) != 0) return 98;
  keeps = !isHere;
  if (count > 2) size = (size_t)atoi(arguments[2]) << 20;
  mapped();
  written();
  truncated();
  ranges();
  together();
  parameters();
  if (isHere && geteuid() == 0) settings();
  return conformance_end();
}
