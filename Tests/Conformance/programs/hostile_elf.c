// Programs that lie: every one must fail with an error or die alone; none may hang or harm.
//
// The base is a correct tiny program. Each case changes something; the outcome that Linux and Apus must share is printed
// only where the ABI fixes it, otherwise only the fact that the loader survived.
// directory: overlay tmpfs bind root
#include "../conformance.h"
#include <elf.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>

// mov $42, %edi; mov $60, %eax; syscall
static const unsigned char code[] = {0xbf, 42, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05};
static struct image {
  Elf64_Ehdr header;
  Elf64_Phdr segments[2];
  unsigned char code[4096 - sizeof(Elf64_Ehdr) - 2 * sizeof(Elf64_Phdr)];
} good;

static void fill(struct image *i) {
  memset(i, 0, sizeof *i);
  memcpy(i->header.e_ident, "\x7f" "ELF\2\1\1", 7);
  i->header.e_type = ET_EXEC, i->header.e_machine = EM_X86_64, i->header.e_version = 1;
  i->header.e_ehsize = sizeof i->header, i->header.e_phentsize = sizeof(Elf64_Phdr), i->header.e_phnum = 1;
  i->header.e_phoff = offsetof(struct image, segments);
  i->header.e_entry = 0x400000 + offsetof(struct image, code);
  i->segments[0] = (Elf64_Phdr){.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = 0x400000, .p_filesz = sizeof *i, .p_memsz = sizeof *i, .p_align = 4096};
  memcpy(i->code, code, sizeof code);
}

// The exit status, 1000 + a signal, or minus the error of execve.
static int run(const void *bytes, size_t size) {
  unlink("program");
  int fd = MUST(open("program", O_CREAT | O_WRONLY, 0755));
  if (write(fd, bytes, size) != (ssize_t)size) return -999;
  close(fd);
  int p[2], error = 0;
  MUST(pipe2(p, O_CLOEXEC));
  pid_t child = CHILD({
    struct rlimit none = {0, 0};
    struct rlimit seconds = {2, 2};
    setrlimit(RLIMIT_CORE, &none), setrlimit(RLIMIT_CPU, &seconds);
    alarm(30);
    char *argv[] = {"program", NULL};
    char *envp[] = {NULL};
    execve("./program", argv, envp);
    write(p[1], &errno, sizeof errno);
    _exit(1);
  });
  close(p[1]);
  int n = read(p[0], &error, sizeof error);
  close(p[0]);
  int r = outcome(child);
  return n == sizeof error ? -error : r;
}

static struct image image;
#define CASE(what, expected, ...)                                              \
  do {                                                                         \
    fill(&image);                                                              \
    { __VA_ARGS__; }                                                           \
    check_equal(run(&image, sizeof image), expected, what, #expected, __LINE__); \
  } while (0)
// Whatever happens, it ends.
#define SURVIVES(what, ...)                                   \
  do {                                                        \
    fill(&image);                                             \
    { __VA_ARGS__; }                                          \
    int r_ = run(&image, sizeof image);                       \
    check_true(r_ != 42 && r_ != -999, what, __LINE__);       \
  } while (0)

int main(void) {
  enter_work_directory();
  Elf64_Phdr *s = image.segments;
  Elf64_Ehdr *h = &image.header;
  section("headers");
  CASE("a correct program", 42);
  CASE("no magic", -ENOEXEC, h->e_ident[0] = 0);
  CASE("a relocatable file", -ENOEXEC, h->e_type = ET_REL);
  CASE("another machine", -ENOEXEC, h->e_machine = EM_AARCH64);
  CASE("odd program header size", -ENOEXEC, h->e_phentsize = 55);
  CASE("no program headers", -ENOEXEC, h->e_phnum = 0);
  CASE("65535 program headers", -ENOEXEC, h->e_phnum = 65535);
  SURVIVES("program headers behind the end", h->e_phoff = 1 << 20);
  SURVIVES("program headers at the end of the world", h->e_phoff = UINT64_MAX - 20);
  check_true(run(&image, 1) < 0, "one byte", __LINE__);
  fill(&image);
  check_equal(run(&image, 40), -ENOEXEC, "a header cut off", "-ENOEXEC", __LINE__);
  CHECK(run(&image, 100) < 0);

  section("segments");
  CASE("entry outside every segment", SIGNALLED(SIGSEGV), h->e_entry = 0x10000000);
  CASE("entry that is not canonical", SIGNALLED(SIGSEGV), h->e_entry = 0x8000000000000000);
  SURVIVES("no permission to execute", s->p_flags = PF_R);
  SURVIVES("file size above memory size", s->p_memsz = 16);
  SURVIVES("memory size beyond the address space", s->p_memsz = 1UL << 47);
  SURVIVES("memory size of everything", s->p_memsz = UINT64_MAX);
  SURVIVES("address beyond the user's half", s->p_vaddr = 0x7ffffffff000);
  SURVIVES("address in the kernel's half", s->p_vaddr = 0xffffffff80000000);
  SURVIVES("address that wraps around", s->p_vaddr = UINT64_MAX - 4095);
  SURVIVES("address and offset out of step", s->p_vaddr = 0x400123);
  SURVIVES("offset behind the end of the file", s->p_offset = 1 << 24);
  SURVIVES("offset at the end of the world", s->p_offset = UINT64_MAX & ~4095UL);
  SURVIVES("file size of everything", s->p_filesz = UINT64_MAX; s->p_memsz = UINT64_MAX);
  CASE("alignment of no power of two", 42, s->p_align = 3);
  CASE("segments that overlap", 42, h->e_phnum = 2; s[1] = s[0]);
  SURVIVES("a segment over the usual place of the stack", h->e_phnum = 2; s[1] = s[0]; s[1].p_vaddr = 0x7ffffffde000; s[1].p_memsz = 0x21000; h->e_entry = 0);
  CASE("a large zeroed tail", 42, h->e_phnum = 2; s[1] = (Elf64_Phdr){.p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_vaddr = 0x10000000, .p_memsz = 256 << 20, .p_align = 4096});

  section("interpreters");
  SURVIVES("a name that does not end", h->e_phnum = 2; s[1] = (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = 200, .p_filesz = 16}; memset((char *)&image + 200, 'x', 16));
  SURVIVES("an empty name", h->e_phnum = 2; s[1] = (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = 200, .p_filesz = 1});
  SURVIVES("a name of everything", h->e_phnum = 2; s[1] = (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = 200, .p_filesz = UINT64_MAX});
  SURVIVES("a name behind the end", h->e_phnum = 2; s[1] = (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = 1 << 20, .p_filesz = 8});
  CASE("a missing interpreter", -ENOENT, h->e_phnum = 2; s[1] = (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = 200, .p_filesz = 8}; strcpy((char *)&image + 200, "/no/int"));
  CASE("an interpreter that is a directory", -EACCES, h->e_phnum = 2; s[1] = (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = 200, .p_filesz = 5}; strcpy((char *)&image + 200, "/tmp"));
  SURVIVES("itself as its interpreter", h->e_phnum = 2; s[1] = (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = 200, .p_filesz = 10}; strcpy((char *)&image + 200, "./program"); image.code[1] = 1);

  section("random damage");
  uint64_t seed = 88172645463325252ULL;
  int ended = 0;
  for (int i = 0; i < 150; i++) {
    fill(&image);
    for (int k = 0; k < 3; k++) {
      seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
      ((unsigned char *)&image)[4 + seed % (sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) - 4)] = seed >> 32;
    }
    ended += run(&image, sizeof image) != -999;
  }
  EQUAL(ended, 150);
  CASE("and a correct program still runs", 42);
  return conformance_end();
}
