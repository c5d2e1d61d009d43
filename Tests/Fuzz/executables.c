// Fuzzes execve(2): executables, their interpreters and scripts, with headers changed at random.
//
//   executables [--seed N] [--rounds N] [--seconds N] [--first N] [--list 1] [--write N]
//
// Each attempt writes a program (and an interpreter for it) that ends with status 42, changes some fields, executes it and
// sees what comes of it: an error of execve, a run, or the end by a signal. With `--list 1` it prints this for each attempt and looks
// after nothing else: the list of Apus is compared with that of the host. With `--write N` it only writes the files of attempt N of round
// `--first` to the current directory.
#include "supervisor.h"

#include <elf.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { PROGRAMS = 200, FILE_SIZE = 12288, HEADERS = 6 };
static struct { uint64_t seed, rounds, first, seconds, list, write; } options = {.seed = 1, .rounds = 1, .write = PROGRAMS};

static generator g;

struct image {
  Elf64_Ehdr header;
  Elf64_Phdr segments[HEADERS];
  uint8_t note[64];
  char interpreter[64];
  uint8_t code[64];
  uint8_t rest[FILE_SIZE - sizeof(Elf64_Ehdr) - HEADERS * sizeof(Elf64_Phdr) - 192];
};
_Static_assert(sizeof(struct image) == FILE_SIZE, "image");

// exit_group(42)
static const uint8_t code[] = {0xb8, 231, 0, 0, 0, 0xbf, 42, 0, 0, 0, 0x0f, 0x05, 0xf4};

// A correct program: text with the headers, data with space behind it, a stack, a property note.
static void make(struct image *image, bool position_independent, const char *interpreter) {
  uint64_t base = position_independent ? 0 : 0x400000;
  memset(image, 0, sizeof *image);
  image->header = (Elf64_Ehdr){
    .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT}, .e_type = position_independent ? ET_DYN : ET_EXEC,
    .e_machine = EM_X86_64, .e_version = 1, .e_entry = base + offsetof(struct image, code), .e_phoff = sizeof(Elf64_Ehdr),
    .e_ehsize = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = interpreter ? 6 : 5};
  image->segments[0] = (Elf64_Phdr){PT_PHDR, PF_R, 64, base + 64, base + 64, 6 * 56, 6 * 56, 8};
  image->segments[1] = (Elf64_Phdr){PT_LOAD, PF_R | PF_X, 0, base, base, 4096, 4096, 4096};
  image->segments[2] = (Elf64_Phdr){PT_LOAD, PF_R | PF_W, 4096, base + 0x2000, base + 0x2000, 4096, 20000, 4096};
  image->segments[3] = (Elf64_Phdr){PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16};
  image->segments[4] = (Elf64_Phdr){PT_NOTE, PF_R, offsetof(struct image, note), base, base, 32, 32, 8};
  if (interpreter) {
    image->segments[5] = (Elf64_Phdr){PT_INTERP, PF_R, offsetof(struct image, interpreter), base, base, strlen(interpreter) + 1, strlen(interpreter) + 1, 1};
    strcpy(image->interpreter, interpreter);
  }
  memcpy(image->code, code, sizeof code);
}

static uint64_t field(uint64_t old) {
  switch (below(&g, 8)) {
    case 0: return old + below(&g, 3) - 1;
    case 1: return old ^ 1ull << below(&g, 64);
    case 2: return below(&g, 8);
    case 3: return PAGE * below(&g, 4096);
    case 4: return old + PAGE * (below(&g, 9) - 4);
    case 5: return PICK(&g, ((const uint64_t[]){0, 1, PAGE - 1, PAGE + 1, 0x7fffffffffff, 0x7ffffffff000, 0x7ffff0000000, 1ull << 46, 0x20000, 0x10000, 0x1000,
      ~0ull, ~0ull << 12, 1ull << 63, 1ull << 32, INT32_MAX}));
    default: return odd_number(&g);
  }
}

static void change(struct image *image) {
  Elf64_Ehdr *header = &image->header;
  Elf64_Phdr *segment = &image->segments[below(&g, HEADERS)];
  switch (below(&g, 20)) {
    case 0: header->e_type = PICK(&g, ((const uint16_t[]){0, 1, 2, 3, 4, 0xff00})); break;
    case 1: header->e_machine = PICK(&g, ((const uint16_t[]){3, 62, 183, 0})); break;
    case 2: header->e_phnum = one_in(&g, 2) ? below(&g, 12) : field(header->e_phnum); break;
    case 3: header->e_phentsize = one_in(&g, 2) ? 56 : field(56); break;
    case 4: header->e_phoff = field(header->e_phoff); break;
    case 5: header->e_entry = field(header->e_entry); break;
    case 6: header->e_ident[below(&g, 16)] = next_random(&g); break;
    case 7: segment->p_type = PICK(&g, ((const uint32_t[]){0, 1, 2, 3, 4, 5, 6, 7, 0x6474e550, 0x6474e551, 0x6474e552, 0x6474e553})); break;
    case 8: segment->p_flags = below(&g, one_in(&g, 4) ? 1ull << 32 : 8); break;
    case 9: segment->p_offset = field(segment->p_offset); break;
    case 10: segment->p_vaddr = field(segment->p_vaddr); break;
    case 11: segment->p_filesz = field(segment->p_filesz); break;
    case 12: segment->p_memsz = field(segment->p_memsz); break;
    case 13: segment->p_align = field(segment->p_align); break;
    case 14: *segment = image->segments[below(&g, HEADERS)]; break;
    case 15: {
      Elf64_Phdr other = *segment;
      Elf64_Phdr *second = &image->segments[below(&g, HEADERS)];
      *segment = *second, *second = other;
      break;
    }
    case 16: for (int i = 0; i < 32; i += 8) { uint64_t v = odd_number(&g); memcpy(image->note + i, &v, 8); } break;
    case 17: image->interpreter[below(&g, 12)] = next_random(&g); break;
    case 18: segment->p_memsz = segment->p_filesz = field(segment->p_memsz); break;
    default: ((uint8_t *)image)[below(&g, 400)] = next_random(&g);
  }
}

// Whether a segment has a fixed address below those that every system lets programs map.
static bool lies_low;
static void look_for_low_segments(const struct image *image) {
  for (int i = 0; i < HEADERS; i++)
    if (image->header.e_type == ET_EXEC && image->segments[i].p_type == PT_LOAD && image->segments[i].p_vaddr < 0x40000) lies_low = true;
}

static void write_file(const char *name, const void *bytes, size_t size) {
  unlink(name);
  int file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0755);
  if (file < 0 || write(file, bytes, size) < 0) _exit(98);
  close(file);
}

static size_t some_size(void) { return below(&g, 8) ? FILE_SIZE : below(&g, one_in(&g, 2) ? 600 : FILE_SIZE); }

static void write_script(void) {
  static const char *const lines[] = {
    "#!./interpreter\n", "#! ./interpreter\n", "#!\t./interpreter one two \n", "#!./interpreter", "#!", "#!\n", "#! \n", "#!./program\n", "#!./nothing\n", "#!/\n",
    "#!./interpreter\0x\n", "#!./plain\n", "#!./directory\n", "#!interpreter\n", "#!./interpreter\r\n", "#", "#!\xff\xfe\n",
  };
  char text[FILE_SIZE];
  memset(text, 'y', sizeof text);
  if (one_in(&g, 3)) {
    // Lines around the limit of 255 characters.
    size_t length = PICK(&g, ((const size_t[]){127, 128, 253, 254, 255, 256, 257, 300, 4096}));
    memcpy(text, "#!./interpreter ", 16);
    if (one_in(&g, 2)) memset(text + 2, '/', 100);
    text[length] = '\n';
    write_file("program", text, one_in(&g, 2) ? length + 1 : length);
  } else {
    const char *line = PICK(&g, lines);
    write_file("program", line, strlen(line));
  }
}

static void write_program(uint64_t round, int number) {
  struct image image;
  g = derive(options.seed, round, number);
  lies_low = false;
  make(&image, true, NULL);
  if (one_in(&g, 3)) change(&image);
  look_for_low_segments(&image);
  write_file("interpreter", &image, some_size());
  if (one_in(&g, 6)) {
    write_script();
    return;
  }
  make(&image, one_in(&g, 2), one_in(&g, 3) ? "./interpreter" : NULL);
  for (uint64_t n = below(&g, 4); n > 0; n--) change(&image);
  look_for_low_segments(&image);
  write_file("program", &image, some_size());
}

// The end of an attempt: an error number, 1000 + a signal, or 2000 + an exit status.
static int execute(void) {
  int ends[2], status, error = 0;
  MUST(pipe(ends));
  fcntl(ends[1], F_SETFD, FD_CLOEXEC);
  pid_t child = MUST(fork());
  if (child == 0) {
    struct rlimit processor = {5, 5}, space = {1ull << 31, 1ull << 31}, none = {0, 0};
    setrlimit(RLIMIT_CPU, &processor);
    setrlimit(RLIMIT_AS, &space);
    setrlimit(RLIMIT_CORE, &none);
    alarm(60);
    execve("./program", (char *[]){"./program", "one", NULL}, (char *[]){"A=B", NULL});
    error = errno;
    write(ends[1], &error, sizeof error);
    _exit(0);
  }
  close(ends[1]);
  bool failed = read(ends[0], &error, sizeof error) == sizeof error;
  close(ends[0]);
  while (waitpid(child, &status, 0) < 0) {}
  return failed ? error : WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : 2000 + WEXITSTATUS(status);
}

__attribute__((noreturn)) static void fault(const char *what) {
  say("FAULT: %s (seed %lu)", what, options.seed);
  _exit(1);
}

int main(int count, char **words) {
  static const char *const names[] = {"--seed", "--rounds", "--first", "--seconds", "--list", "--write"};
  uint64_t *const places[] = {&options.seed, &options.rounds, &options.first, &options.seconds, &options.list, &options.write};
  for (int i = 1; i + 1 < count; i += 2)
    for (int k = 0; k < 6; k++)
      if (!strcmp(words[i], names[k])) *places[k] = strtoull(words[i + 1], NULL, 0);
  if (options.write < PROGRAMS) return write_program(options.first, options.write), 0;
  char directory[] = "/tmp/executables-XXXXXX";
  if (!mkdtemp(directory) || chmod(directory, 0777) < 0 || chdir(directory) < 0) return 98;
  if (options.list) {
    if (getuid() == 0) {
      MUST(chown(directory, 65534, 65534));
      MUST(setgid(65534));
      MUST(setuid(65534));
    }
  } else {
    begin_supervision("/tmp");
  }
  mkdir("directory", 0755);
  write_file("plain", "text", 4);
  chmod("plain", 0644);
  int64_t begin = now_ms();
  struct counts before = {0}, after = {0};
  uint64_t rounds = 0, round = options.first, ran = 0, refused = 0, died = 0;
  for (; options.seconds ? now_ms() - begin < (int64_t)options.seconds * 1000 : rounds < options.rounds; round++) {
    for (int i = 0; i < PROGRAMS; i++) {
      write_program(round, i);
      int end = execute();
      if (end < 1000) refused++; else if (end < 2000) died++; else ran++;
      if (options.list) {
        // The class; then what differs between kernels: Linux finds some faults only when the old program is gone.
        if (lies_low) say("%lu %d maps the lowest addresses", round, i);
        else if (end >= 2000) say("%lu %d ran, status %d", round, i, end - 2000);
        else say("%lu %d did not run (%s)", round, i, end >= 1000 ? "killed" : strerrorname_np(end));
      }
    }
    if (!options.list && ++rounds == 2) before = at_rest();
    else if (options.list) rounds++;
  }
  if (chdir("/") == 0) {
    pid_t child = fork();
    if (child == 0) execlp("rm", "rm", "-rf", directory, NULL), _exit(127);
    waitpid(child, NULL, 0);
  }
  if (options.list) return 0;
  after = at_rest();
  say("%lu programs in %lu rounds: %lu ran, %lu were refused, %lu died", rounds * PROGRAMS, rounds, ran, refused, died);
  if (rounds > 4 && compare(&before, &after, rounds - 2)) fault("memory does not return");
  end_supervision();
  return 0;
}
