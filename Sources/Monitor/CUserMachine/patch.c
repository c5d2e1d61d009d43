// Replacing SYSCALL instructions by jumps, in a copy of one page of code.
//
//   A   mov $number,%eax; syscall    the `mov` becomes a jump of five bytes to a trampoline, the SYSCALL stays
//   B   syscall                      becomes a jump of two bytes to a jump of five bytes to a trampoline
//
// Either way every boundary between instructions stays one: a thread that is behind the `mov` executes the SYSCALL and
// traps, and a call that starts again two bytes before its end comes through the gate again. A trampoline notes the
// address behind the SYSCALL in rcx, as the processor would, and jumps through the table at UM_GATE, which has an entry
// for each number. It lies in the same page, so that a copy is good wherever the page is mapped.
//
// Where instructions begin is found without the program's help. A program can jump to any byte of a page, and execute a
// SYSCALL that is part of another instruction: what it executes proves nothing. An instruction has at most 15 bytes, so one
// begins among any 15 bytes of code. All 15 are taken for beginnings and decoded from; where all of these chains have met,
// an instruction begins, and from there on the chain is the one that the code means. A SYSCALL that is not in it stays.
//
// Trampolines use bytes that no program executes: no-operations of that chain which fill the gap behind a return or jump
// up to an address divisible by 16, and to which no jump of the page leads.

#include "internal.h"

#include <string.h>

#define PAGE 4096
#define HALF 7        // of a trampoline: lea return(%rip),%rcx; jmp *entry
#define JUMP 5        // jmp rel32
#define SHORT_JUMP 2  // jmp rel8
#define MAXIMUM_GAPS 64

// MARK: Lengths of instructions (Intel SDM volume 2, appendix A; 64-bit mode)

enum operands { NONE, MODRM = 1, BYTE = 2, WORD = 4, LONG = 8, UNKNOWN = 16 };  // what follows the opcode

static unsigned one_byte(uint8_t op) {
  if (op < 0x40) return (op & 7) < 4 ? MODRM : (op & 7) == 4 ? BYTE : (op & 7) == 5 ? LONG : UNKNOWN;
  if (op >= 0x50 && op < 0x60) return NONE;
  if (op >= 0x70 && op < 0x80) return BYTE;
  if (op >= 0x84 && op < 0x90) return MODRM;
  if (op >= 0x90 && op < 0xa0) return op == 0x9a ? UNKNOWN : NONE;
  if (op >= 0xb0 && op < 0xb8) return BYTE;
  if (op >= 0xb8 && op < 0xc0) return LONG;
  if (op >= 0xd8 && op < 0xe0) return MODRM;
  switch (op) {
    case 0x63: case 0xd0: case 0xd1: case 0xd2: case 0xd3: case 0xf6: case 0xf7: case 0xfe: case 0xff: return MODRM;
    case 0x68: case 0xa9: case 0xe8: case 0xe9: return LONG;
    case 0x69: case 0x81: case 0xc7: return MODRM | LONG;
    case 0x6a: case 0xa8: case 0xeb: case 0xe0: case 0xe1: case 0xe2: case 0xe3: return BYTE;
    case 0x6b: case 0x80: case 0x83: case 0xc0: case 0xc1: case 0xc6: return MODRM | BYTE;
    case 0xa4: case 0xa5: case 0xa6: case 0xa7: case 0xaa: case 0xab: case 0xac: case 0xad: case 0xae: case 0xaf:
    case 0xc3: case 0xc9: case 0xcc: case 0xf4: case 0xf5: case 0xf8: case 0xf9: case 0xfc: case 0xfd: return NONE;
    case 0xc2: return WORD;
    default: return UNKNOWN;
  }
}

static unsigned two_byte(uint8_t op) {
  if (op >= 0x80 && op < 0x90) return LONG;
  if (op >= 0x10 && op < 0x20) return MODRM;
  if (op >= 0x28 && op < 0x30) return MODRM;
  if (op >= 0x70 && op < 0x74) return MODRM | BYTE;
  if (op == 0x77) return NONE;
  if (op >= 0x40 && op < 0x80) return op == 0x78 || op == 0x79 || op == 0x7a || op == 0x7b ? UNKNOWN : MODRM;
  if (op >= 0xc8 && op < 0xd0) return NONE;
  if (op >= 0x90 && op < 0xa0) return MODRM;
  if (op >= 0xd0) return MODRM;
  switch (op) {
    case 0x05: case 0x0b: case 0x31: case 0xa2: return NONE;
    case 0x01: case 0x0d: case 0xa3: case 0xa5: case 0xab: case 0xad: case 0xae: case 0xaf: case 0xc0: case 0xc1:
    case 0xc3: case 0xc7: return MODRM;
    case 0xa4: case 0xac: case 0xba: case 0xc2: case 0xc4: case 0xc5: case 0xc6: return MODRM | BYTE;
    default: return op >= 0xb0 && op < 0xc0 ? MODRM : UNKNOWN;
  }
}

struct instruction {
  uint32_t length;  // 0: not known
  bool ends;        // control never goes on behind it
  bool fills;       // does nothing
  bool undefined;   // no instruction of this mode: not code
  bool jumps;       // to `target`, from the instruction's first byte on
  int64_t target;
};

// Opcodes that are undefined in 64-bit mode, on all processors.
static bool is_undefined(uint8_t op) {
  switch (op) {
    case 0x06: case 0x07: case 0x0e: case 0x16: case 0x17: case 0x1e: case 0x1f: case 0x27: case 0x2f: case 0x37: case 0x3f:
    case 0x60: case 0x61: case 0x82: case 0x9a: case 0xce: case 0xd4: case 0xd6: case 0xea: return true;
    default: return false;
  }
}

static struct instruction decode(const uint8_t *at, uint32_t available) {
  struct instruction result = {0}, none = {0};
  uint32_t i = 0;
  bool narrow = false, wide = false;
  while (i < available && (at[i] == 0x66 || at[i] == 0xf2 || at[i] == 0xf3 || at[i] == 0x2e || at[i] == 0x36 ||
                           at[i] == 0x3e || at[i] == 0x26 || at[i] == 0x64 || at[i] == 0x65 || at[i] == 0x67 ||
                           at[i] == 0xf0)) {
    narrow |= at[i] == 0x66;
    if (++i > 12) return none;
  }
  if (i + 4 > available) return none;  // too near to the end to matter
  if ((at[i] & 0xf0) == 0x40) wide = at[i++] & 8;
  uint8_t op = at[i++];
  unsigned operands;
  if (op == 0x0f) {
    op = at[i++];
    if (op == 0x38 || op == 0x3a) {
      operands = op == 0x38 ? MODRM : MODRM | BYTE;
      i++;
    } else {
      operands = two_byte(op);
      result.jumps = op >= 0x80 && op < 0x90;
      result.ends = op == 0x0b;
      result.fills = op == 0x1f;
    }
  } else if (op == 0xc4 || op == 0xc5 || op == 0x62) {
    // VEX and EVEX: the map of opcodes is in the prefix.
    unsigned map = op == 0xc5 ? 1 : op == 0xc4 ? at[i] & 31 : at[i] & 7;
    i += op == 0xc5 ? 1 : op == 0xc4 ? 2 : 3;
    if (i >= available || map == 0 || map > 3) return none;
    op = at[i++];
    operands = map == 1 ? two_byte(op) & ~(unsigned)LONG : map == 2 ? MODRM : MODRM | BYTE;
  } else {
    operands = one_byte(op);
    if (is_undefined(op)) {
      result.undefined = true;
      return result;
    }
    result.jumps = (op >= 0x70 && op < 0x80) || (op >= 0xe0 && op < 0xe4) || op == 0xe8 || op == 0xe9 || op == 0xeb;
    if (op == 0x8f && i < available && at[i] & 0x38) return none;  // a prefix of AMD's XOP instructions
    result.ends = op == 0xc3 || op == 0xc2 || op == 0xe9 || op == 0xeb || op == 0xf4;
    result.fills = op == 0x90 || op == 0xcc;
    if (op == 0xf6 && i < available && (at[i] & 0x38) < 0x10) operands |= BYTE;
    if (op == 0xf7 && i < available && (at[i] & 0x38) < 0x10) operands |= LONG;
    if (op == 0xff && i < available && (at[i] & 0x30) == 0x20) result.ends = true;
    if (op >= 0xb8 && op < 0xc0 && wide) i += 4;
  }
  // Processors differ about what a jump with this prefix is.
  if (operands & UNKNOWN || (result.jumps && narrow && !wide)) return none;
  if (operands & MODRM) {
    if (i + 2 > available) return none;
    uint8_t modrm = at[i++], mode = modrm >> 6;
    bool based = true;
    if (mode != 3 && (modrm & 7) == 4) based = (at[i++] & 7) != 5 || mode != 0;
    else if (mode == 0 && (modrm & 7) == 5) based = false;
    i += mode == 1 ? 1 : mode == 2 || (mode == 0 && !based) ? 4 : 0;
  }
  i += operands & BYTE ? 1 : 0;
  i += operands & WORD ? 2 : 0;
  i += operands & LONG ? (narrow && !wide ? 2 : 4) : 0;
  if (i > available || i > 15) return none;
  result.length = i;
  if (result.jumps) {
    int32_t distance = (int8_t)at[i - 1];
    if (operands & LONG) memcpy(&distance, at + i - 4, 4);
    result.target = (int64_t)i + distance;
  }
  return result;
}

uint32_t um_instruction_length(const uint8_t *at, uint32_t available) { return decode(at, available).length; }

// MARK: Boundaries

#define LONGEST 15  // bytes of an instruction

// The first boundary on which the chains from each of the 15 bytes at `start` agree; PAGE when they do not.
static uint32_t meeting(const uint8_t *page, uint32_t start) {
  uint32_t at[LONGEST], count = LONGEST;
  for (uint32_t i = 0; i < LONGEST; i++) at[i] = start + i;
  for (;;) {
    uint32_t lowest = 0, highest = 0;
    for (uint32_t i = 1; i < count; i++) {
      if (at[i] < at[lowest]) lowest = i;
      if (at[i] > at[highest]) highest = i;
    }
    if (at[lowest] == at[highest]) return at[lowest];
    struct instruction one = decode(page + at[lowest], PAGE - at[lowest]);
    if (one.undefined) {
      at[lowest] = at[--count];  // this one was no chain of instructions
      continue;
    }
    if (one.length == 0) return PAGE;
    at[lowest] += one.length;
    if (at[lowest] >= PAGE) return PAGE;
  }
}

// Looks for a boundary from which decoding leads to `site`; false when there is none for certain. *before becomes the
// beginning of the instruction before the site, or the site.
static bool find_boundary(const uint8_t *page, uint32_t site, uint32_t *boundary, uint32_t *before) {
  for (uint32_t start = 0; start + LONGEST <= site; start += 8) {
    uint32_t at = meeting(page, start);
    if (at > site) continue;
    *boundary = *before = at;
    while (at < site) {
      struct instruction one = decode(page + at, PAGE - at);
      if (one.length == 0) break;
      *before = at;
      at += one.length;
    }
    if (at == site) return true;
    if (at > site) return false;
    start = at & ~7u;  // behind what is not known
  }
  return false;
}

// MARK: Gaps

struct gap {
  uint32_t start, end;
};
struct gaps {
  struct gap list[MAXIMUM_GAPS];
  uint32_t count;
};

// The gaps behind `from`, a boundary between instructions. What a trampoline has been put into is none any more.
static void find(struct gaps *gaps, const uint8_t *original, const uint8_t *page, uint32_t from) {
  uint8_t targets[PAGE / 8] = {0};
  for (uint32_t at = from; at < PAGE;) {
    struct instruction one = decode(original + at, PAGE - at);
    if (one.length == 0) break;
    int64_t target = at + one.target;
    if (one.jumps && target >= 0 && target < PAGE) targets[target / 8] |= (uint8_t)(1 << target % 8);
    at += one.length;
  }
  bool ended = false;
  gaps->count = 0;
  for (uint32_t at = from; at < PAGE && gaps->count < MAXIMUM_GAPS;) {
    struct instruction one = decode(original + at, PAGE - at);
    if (one.length == 0) break;
    // At an address divisible by 16 begins what is executed.
    if (ended && one.fills && at & 15) {
      uint32_t end = at, start = at;
      bool reached = false;
      do {
        for (uint32_t i = end; i < end + one.length; i++) {
          reached |= targets[i / 8] >> i % 8 & 1;
          if (page[i] != original[i]) start = i + 1;
        }
        end += one.length;
        one = decode(original + end, PAGE - end);
      } while (one.length && one.fills && end & 15);
      if (end % 16 == 0 && end > start && !reached) gaps->list[gaps->count++] = (struct gap){start, end};
      at = end;
      ended = false;
      continue;
    }
    at += one.length;
    ended = one.ends;
  }
}

// The tightest gap of `size` bytes that begins in the range; NULL when there is none.
static struct gap *choose(struct gaps *gaps, uint32_t size, int64_t low, int64_t high, const struct gap *except) {
  struct gap *best = NULL;
  for (uint32_t i = 0; i < gaps->count; i++) {
    struct gap *gap = &gaps->list[i];
    if (gap == except || gap->end - gap->start < size || (int64_t)gap->start < low || (int64_t)gap->start > high) continue;
    if (!best || gap->end - gap->start < best->end - best->start) best = gap;
  }
  return best;
}

// MARK: Writing

static void put_word(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }

static void put_jump(uint8_t *page, uint32_t from, uint32_t to) {
  page[from] = 0xe9;
  put_word(page + from + 1, to - (from + JUMP));
}

static void put_short_jump(uint8_t *page, uint32_t from, uint32_t to) {
  page[from] = 0xeb;
  page[from + 1] = (uint8_t)(to - (from + SHORT_JUMP));
}

static void put_note(uint8_t *page, uint32_t at, uint32_t back) {
  const uint8_t lea[] = {0x48, 0x8d, 0x0d};
  memcpy(page + at, lea, 3);
  put_word(page + at + 3, back - (at + HALF));
}

static void put_exit(uint8_t *page, uint32_t at, uint32_t entry) {
  const uint8_t jump[] = {0xff, 0x24, 0x25};
  memcpy(page + at, jump, 3);
  put_word(page + at + 3, UM_GATE + 8 * entry);
}

static uint32_t take(struct gap *gap, uint32_t size) {
  gap->start += size;
  return gap->start - size;
}

// Makes a trampoline that begins in the range: in one piece, or as two halves in different gaps. Its address; 0: no room.
static uint32_t put_trampoline(uint8_t *page, struct gaps *gaps, int64_t low, int64_t high, uint32_t back, uint32_t entry) {
  uint32_t at, rest;
  struct gap *first = choose(gaps, 2 * HALF, low, high, NULL), *second;
  if (first) {
    at = take(first, 2 * HALF);
    rest = at + HALF;
  } else {
    first = choose(gaps, HALF + JUMP, low, high, NULL);
    second = choose(gaps, HALF, 0, PAGE, first);
    bool far = first && second;
    for (uint32_t i = 0; !far && i < gaps->count; i++) {
      first = choose(&(struct gaps){{gaps->list[i]}, 1}, HALF + SHORT_JUMP, low, high, NULL) ? &gaps->list[i] : NULL;
      int64_t end = (int64_t)gaps->list[i].start + HALF + SHORT_JUMP;
      second = first ? choose(gaps, HALF, end - 128, end + 127, first) : NULL;
      if (second) break;
    }
    if (!first || !second) return 0;
    rest = take(second, HALF);
    at = take(first, HALF + (far ? JUMP : SHORT_JUMP));
    if (far) put_jump(page, at + HALF, rest);
    else put_short_jump(page, at + HALF, rest);
  }
  put_note(page, at, back);
  put_exit(page, rest, entry);
  return at;
}

static bool is_call(const uint8_t *page, uint32_t site) { return page[site] == 0x0f && page[site + 1] == 0x05; }

static bool replace_with_number(uint8_t *page, struct gaps *gaps, uint32_t site, uint32_t before) {
  if (before + 5 != site || page[before] != 0xb8) return false;
  uint32_t number;
  memcpy(&number, page + site - 4, 4);
  if (!um_gate_serves(number)) return false;
  uint32_t trampoline = put_trampoline(page, gaps, 0, PAGE, site + 2, number);
  if (trampoline) put_jump(page, site - 5, trampoline);
  return trampoline != 0;
}

static bool replace_alone(uint8_t *page, struct gaps *gaps, uint32_t site) {
  int64_t end = (int64_t)site + 2;
  uint32_t target = put_trampoline(page, gaps, end - 128, end + 127, site + 2, UM_GATE_ENTRIES - 1);
  if (!target) {
    struct gap *near = choose(gaps, JUMP, end - 128, end + 127, NULL);
    if (!near) return false;
    target = take(near, JUMP);
    uint32_t trampoline = put_trampoline(page, gaps, 0, PAGE, site + 2, UM_GATE_ENTRIES - 1);
    if (!trampoline) return false;
    put_jump(page, target, trampoline);
  }
  put_short_jump(page, site, target);
  return true;
}

bool um_patch_page(const uint8_t *original, uint8_t *page, uint32_t site) {
  // Not the last bytes of the page: what follows them may be anything.
  if (site + 2 >= PAGE || !is_call(original, site) || !is_call(page, site)) return false;
  if (site >= 5 && page[site - 5] == 0xe9 && original[site - 5] == 0xb8) return false;
  uint32_t boundary, before;
  if (!find_boundary(original, site, &boundary, &before)) return false;
  struct gaps gaps;
  find(&gaps, original, page, boundary);
  return replace_with_number(page, &gaps, site, before) || replace_alone(page, &gaps, site);
}
