// A small assembler of seccomp filters.
//
// A filter begins with `begin`, goes on with blocks for single system calls and ends with `end`. Within a block every
// condition that does not hold ends in RET_TRAP, and the end of the block allows the call.

#ifndef UM_FILTER_H
#define UM_FILTER_H

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

struct program {
  struct sock_filter code[384];
  uint16_t count;
  uint16_t block;  // place of the jump over the open block
  uint16_t misses[16], miss_count;  // the jumps out of the open case
};

static inline void emit(struct program *p, struct sock_filter instruction) {
  if (p->count < sizeof p->code / sizeof p->code[0]) p->code[p->count++] = instruction;
}
static inline void statement(struct program *p, uint16_t code, uint32_t operand) {
  emit(p, (struct sock_filter)BPF_STMT(code, operand));
}
static inline void jump(struct program *p, uint16_t condition, uint32_t operand, uint8_t taken, uint8_t other) {
  emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | condition | BPF_K, operand, taken, other));
}
static inline void load(struct program *p, size_t offset) { statement(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset); }
static inline void trap(struct program *p) { statement(p, BPF_RET | BPF_K, SECCOMP_RET_TRAP); }
static inline void allow(struct program *p) { statement(p, BPF_RET | BPF_K, SECCOMP_RET_ALLOW); }

// Goes on when the word just loaded equals `value`.
static inline void require(struct program *p, uint32_t value) {
  jump(p, BPF_JEQ, value, 1, 0);
  trap(p);
}
static inline size_t argument(int n) { return offsetof(struct seccomp_data, args) + (size_t)n * 8; }
static inline void require_argument(struct program *p, int n, uint64_t value) {
  load(p, argument(n));
  require(p, (uint32_t)value);
  load(p, argument(n) + 4);
  require(p, (uint32_t)(value >> 32));
}
// The C type of the argument is int: the upper half does not count.
static inline void require_word(struct program *p, int n, uint32_t value) {
  load(p, argument(n));
  require(p, value);
}

// Architecture first: numbers mean something else elsewhere. x32 numbers have bit 30 set and equal none of ours.
static inline void begin(struct program *p) {
  p->count = 0;
  load(p, offsetof(struct seccomp_data, arch));
  require(p, AUDIT_ARCH_X86_64);
  load(p, offsetof(struct seccomp_data, nr));
}
static inline void open_block(struct program *p, uint32_t number) {
  p->block = p->count;
  jump(p, BPF_JEQ, number, 0, 0);
}
static inline void close_block(struct program *p) {
  allow(p);
  p->code[p->block].jf = (uint8_t)(p->count - p->block - 1);
}
static inline void allow_number(struct program *p, uint32_t number) {
  open_block(p, number);
  close_block(p);
}

// A case allows one number with certain arguments, and goes on with what follows for any other. It begins and ends with
// the number loaded.
static inline void miss(struct program *p) { p->misses[p->miss_count++] = (uint16_t)(p->count - 1); }
static inline void open_case(struct program *p, uint32_t number) {
  p->miss_count = 0;
  jump(p, BPF_JEQ, number, 0, 0);
  miss(p);
}
// The C type of the argument is int: the upper half does not count.
static inline void match_word(struct program *p, int n, uint32_t value) {
  load(p, argument(n));
  jump(p, BPF_JEQ, value, 0, 0);
  miss(p);
}
static inline void match(struct program *p, int n, uint64_t value) {
  match_word(p, n, (uint32_t)value);
  load(p, argument(n) + 4);
  jump(p, BPF_JEQ, (uint32_t)(value >> 32), 0, 0);
  miss(p);
}
static inline void close_case(struct program *p) {
  allow(p);
  for (uint16_t i = 0; i < p->miss_count; i++) p->code[p->misses[i]].jf = (uint8_t)(p->count - p->misses[i] - 1);
  load(p, offsetof(struct seccomp_data, nr));
}

#endif
