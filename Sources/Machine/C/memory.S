// memcpy, memmove, memset and memcmp, which compilers call by themselves.
//
// The kernel has no vector registers, so short copies go by words and longer ones by `rep movsb` and `rep stosb`, which
// processors with ERMS (all since 2013) carry out by cache lines; starting one costs about 30 cycles, hence the limit.
// Lengths which are no multiple of the word are covered by a last word that overlaps the one before. On the host the
// routines have other names, for the unit tests.

#if defined(__linux__)
#define NAME(x) machine_##x
#else
#define NAME(x) x
#endif

// Longest block that is moved by words.
#define BY_WORDS 256

.macro function name
  .section .text.\name, "ax", @progbits
  .globl \name
  .type \name, @function
  .balign 16
\name:
.endm

// void *memcpy(void *to, const void *from, size_t count)
function NAME(memcpy)
  mov %rdi, %rax
.Lforward:
  cmp $16, %rdx
  jbe .Lcopy_small
  cmp $BY_WORDS, %rdx
  ja .Lcopy_string
  // The last 16 bytes are read first, so that this is right for overlapping blocks when `to` is lower.
  mov -16(%rsi, %rdx), %r8
  mov -8(%rsi, %rdx), %r9
  lea -16(%rdi, %rdx), %r10
1:
  mov (%rsi), %rcx
  mov 8(%rsi), %r11
  mov %rcx, (%rdi)
  mov %r11, 8(%rdi)
  add $16, %rsi
  add $16, %rdi
  cmp %r10, %rdi
  jb 1b
  mov %r8, (%r10)
  mov %r9, 8(%r10)
  ret
.Lcopy_string:
  mov %rdx, %rcx
  rep movsb
  ret
.Lcopy_small:
  // Everything is read before anything is written: right for any overlap.
  cmp $8, %rdx
  jb 2f
  mov (%rsi), %rcx
  mov -8(%rsi, %rdx), %r8
  mov %rcx, (%rdi)
  mov %r8, -8(%rdi, %rdx)
  ret
2:
  cmp $4, %rdx
  jb 3f
  mov (%rsi), %ecx
  mov -4(%rsi, %rdx), %r8d
  mov %ecx, (%rdi)
  mov %r8d, -4(%rdi, %rdx)
  ret
3:
  test %rdx, %rdx
  jz 4f
  movzbl (%rsi), %ecx
  cmp $1, %rdx
  je 5f
  movzwl -2(%rsi, %rdx), %r8d
  mov %cl, (%rdi)
  mov %r8w, -2(%rdi, %rdx)
4:
  ret
5:
  mov %cl, (%rdi)
  ret
  .size NAME(memcpy), . - NAME(memcpy)

// void *memmove(void *to, const void *from, size_t count)
// In the section of memcpy, whose code it goes on in.
  .globl NAME(memmove)
  .type NAME(memmove), @function
  .balign 16
NAME(memmove):
  mov %rdi, %rax
  mov %rdi, %rcx
  sub %rsi, %rcx
  cmp %rdx, %rcx
  jae .Lforward  // `to` is lower, or behind the end of `from`
  cmp $16, %rdx
  jbe .Lcopy_small
  // From the end: the first 16 bytes are read now and written last.
  mov (%rsi), %r8
  mov 8(%rsi), %r9
1:
  mov -8(%rsi, %rdx), %rcx
  mov -16(%rsi, %rdx), %r11
  mov %rcx, -8(%rdi, %rdx)
  mov %r11, -16(%rdi, %rdx)
  sub $16, %rdx
  cmp $16, %rdx
  ja 1b
  mov %r8, (%rdi)
  mov %r9, 8(%rdi)
  ret
  .size NAME(memmove), . - NAME(memmove)

// void *memset(void *to, int byte, size_t count)
function NAME(memset)
  mov %rdi, %r9
  movzbl %sil, %eax
  movabs $0x0101010101010101, %rcx
  imul %rcx, %rax
  cmp $8, %rdx
  jb 2f
  cmp $BY_WORDS, %rdx
  ja 4f
  lea -8(%rdi, %rdx), %r10
1:
  mov %rax, (%rdi)
  add $8, %rdi
  cmp %r10, %rdi
  jb 1b
  mov %rax, (%r10)
  mov %r9, %rax
  ret
2:
  test %rdx, %rdx
  jz 3f
  mov %al, (%rdi)
  inc %rdi
  dec %rdx
  jmp 2b
3:
  mov %r9, %rax
  ret
4:
  mov %rdx, %rcx
  rep stosb
  mov %r9, %rax
  ret
  .size NAME(memset), . - NAME(memset)

// int memcmp(const void *a, const void *b, size_t count)
function NAME(memcmp)
1:
  cmp $8, %rdx
  jb 2f
  mov (%rdi), %rax
  mov (%rsi), %rcx
  cmp %rcx, %rax
  jne 3f
  add $8, %rdi
  add $8, %rsi
  sub $8, %rdx
  jmp 1b
2:
  test %rdx, %rdx
  jz 4f
  movzbl (%rdi), %eax
  movzbl (%rsi), %ecx
  inc %rdi
  inc %rsi
  dec %rdx
  sub %ecx, %eax
  jz 2b
  ret
3:
  // The first byte that differs decides: in big-endian order it is the highest.
  bswap %rax
  bswap %rcx
  cmp %rcx, %rax
  sbb %eax, %eax
  or $1, %eax
  ret
4:
  xor %eax, %eax
  ret
  .size NAME(memcmp), . - NAME(memcmp)

.section .note.GNU-stack, "", @progbits
