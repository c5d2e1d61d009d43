// Double-precision arithmetic without a floating-point unit, as far as the standard library needs it (Dictionary and
// Set compute their capacity with it). Kernel code never touches the floating-point registers, which hold the user
// thread's state. Values are passed as IEEE 754 bit patterns in integer registers, as the soft-float ABI does.
//
// Results are rounded to nearest, ties to even. Results below the normal range become zero. On the host the functions
// have other names, for the unit tests.
#include <stdint.h>

#if defined(__linux__)
#define NAME(x) machine_soft_##x
#else
#define NAME(x) x
#endif

#define SIGN (1ull << 63)
#define FRACTION ((1ull << 52) - 1)
#define HIDDEN (1ull << 52)
#define INFINITE 0x7ff0000000000000ull
#define NOT_A_NUMBER 0x7ff8000000000000ull

// Prototypes: the compiler knows some of these names with other types, and calls all of them by itself.
uint64_t machine_soft_ceil(uint64_t);
uint64_t NAME(__muldf3)(uint64_t, uint64_t);
uint64_t NAME(__divdf3)(uint64_t, uint64_t);
uint64_t NAME(__floatdidf)(int64_t);
uint64_t NAME(__floatundidf)(uint64_t);
int64_t NAME(__fixdfdi)(uint64_t);
int NAME(__gtdf2)(uint64_t, uint64_t);
int NAME(__gedf2)(uint64_t, uint64_t);
int NAME(__ltdf2)(uint64_t, uint64_t);
int NAME(__ledf2)(uint64_t, uint64_t);
int NAME(__eqdf2)(uint64_t, uint64_t);
int NAME(__nedf2)(uint64_t, uint64_t);
int NAME(__unorddf2)(uint64_t, uint64_t);

static int is_nan(uint64_t a) { return (a & ~SIGN) > INFINITE; }

// The double nearest to significand * 2^(exponent - 1075), for a significand whose highest bit is bit 63; the lowest
// bit is "sticky": set when anything below it was not zero.
static uint64_t pack(uint64_t sign, int64_t exponent, uint64_t significand) {
  exponent += 11;
  uint64_t rest = significand & 0x7ff, result = significand >> 11;
  if (rest > 0x400 || (rest == 0x400 && (result & 1))) result++;
  if (result >> 53) { result >>= 1; exponent++; }
  if (exponent <= 0) return sign;
  if (exponent >= 0x7ff) return sign | INFINITE;
  return sign | (uint64_t)exponent << 52 | (result & FRACTION);
}

// Splits a finite number other than zero: a significand with bit 52 set.
static uint64_t unpack(uint64_t a, int64_t *exponent) {
  *exponent = (int64_t)(a >> 52 & 0x7ff);
  uint64_t significand = a & FRACTION;
  if (*exponent) return significand | HIDDEN;
  int shift = __builtin_clzll(significand) - 11;
  *exponent = 1 - shift;
  return significand << shift;
}

uint64_t NAME(__muldf3)(uint64_t a, uint64_t b) {
  uint64_t sign = (a ^ b) & SIGN, x = a & ~SIGN, y = b & ~SIGN;
  if (is_nan(a) || is_nan(b)) return NOT_A_NUMBER;
  if (x == INFINITE || y == INFINITE) return x && y ? sign | INFINITE : NOT_A_NUMBER;
  if (!x || !y) return sign;
  int64_t ea, eb;
  uint64_t sa = unpack(x, &ea), sb = unpack(y, &eb);
  // 53 by 53 bits: the product has 105 or 106.
  unsigned __int128 product = (unsigned __int128)sa * sb;
  int shift = (uint64_t)(product >> 105) ? 42 : 41;
  uint64_t high = (uint64_t)(product >> shift);
  if (product & (((unsigned __int128)1 << shift) - 1)) high |= 1;
  return pack(sign, ea + eb - 1075 + shift, high);
}

uint64_t NAME(__divdf3)(uint64_t a, uint64_t b) {
  uint64_t sign = (a ^ b) & SIGN, x = a & ~SIGN, y = b & ~SIGN;
  if (is_nan(a) || is_nan(b)) return NOT_A_NUMBER;
  if (x == INFINITE) return y == INFINITE ? NOT_A_NUMBER : sign | INFINITE;
  if (y == INFINITE) return sign;
  if (!y) return x ? sign | INFINITE : NOT_A_NUMBER;
  if (!x) return sign;
  int64_t ea, eb;
  uint64_t sa = unpack(x, &ea), sb = unpack(y, &eb);
  int64_t exponent = ea - eb + 1075 - 63;
  if (sa < sb) { sa <<= 1; exponent--; }
  // Long division, a bit at a time: 64 bits of the quotient, the first of which is 1.
  uint64_t quotient = 0;
  for (int bit = 0; bit < 64; bit++) {
    quotient <<= 1;
    if (sa >= sb) { sa -= sb; quotient |= 1; }
    sa <<= 1;
  }
  if (sa) quotient |= 1;
  return pack(sign, exponent, quotient);
}

uint64_t NAME(__floatundidf)(uint64_t value) {
  if (!value) return 0;
  int shift = __builtin_clzll(value);
  return pack(0, 1075 - shift, value << shift);
}

uint64_t NAME(__floatdidf)(int64_t value) {
  if (value >= 0) return NAME(__floatundidf)((uint64_t)value);
  return SIGN | NAME(__floatundidf)(0 - (uint64_t)value);
}

// Truncates towards zero; what does not fit becomes the nearest limit.
int64_t NAME(__fixdfdi)(uint64_t a) {
  int64_t exponent = (int64_t)(a >> 52 & 0x7ff) - 1075;
  uint64_t significand = (a & FRACTION) | HIDDEN, magnitude;
  if (exponent > 10) return a & SIGN ? INT64_MIN : INT64_MAX;
  if (exponent < -63) return 0;
  magnitude = exponent >= 0 ? significand << exponent : significand >> -exponent;
  return a & SIGN ? -(int64_t)magnitude : (int64_t)magnitude;
}

// -1, 0 or 1; both zeros are equal. Neither is a NaN.
static int compare(uint64_t a, uint64_t b) {
  if (!((a | b) & ~SIGN)) return 0;
  int64_t x = a & SIGN ? -(int64_t)(a & ~SIGN) : (int64_t)a, y = b & SIGN ? -(int64_t)(b & ~SIGN) : (int64_t)b;
  return x < y ? -1 : x > y;
}

int NAME(__unorddf2)(uint64_t a, uint64_t b) { return is_nan(a) || is_nan(b); }
// Each comparison answers such that it is false for a NaN: `a > b` is `__gtdf2(a, b) > 0`, and so on.
int NAME(__gtdf2)(uint64_t a, uint64_t b) { return is_nan(a) || is_nan(b) ? -1 : compare(a, b); }
int NAME(__gedf2)(uint64_t a, uint64_t b) { return NAME(__gtdf2)(a, b); }
int NAME(__ltdf2)(uint64_t a, uint64_t b) { return is_nan(a) || is_nan(b) ? 1 : compare(a, b); }
int NAME(__ledf2)(uint64_t a, uint64_t b) { return NAME(__ltdf2)(a, b); }
int NAME(__eqdf2)(uint64_t a, uint64_t b) { return NAME(__ltdf2)(a, b); }
int NAME(__nedf2)(uint64_t a, uint64_t b) { return NAME(__ltdf2)(a, b); }

static uint64_t round_up(uint64_t a) {
  int64_t exponent = (int64_t)(a >> 52 & 0x7ff);
  if (exponent >= 1075) return a;  // an integer, an infinity or a NaN
  if (exponent < 1023) {
    if (!(a & ~SIGN)) return a;
    return a & SIGN ? SIGN : 0x3ff0000000000000ull;
  }
  uint64_t mask = FRACTION >> (exponent - 1023);
  if (!(a & mask)) return a;
  if (!(a & SIGN)) a += mask;  // the carry into the exponent is right
  return a & ~mask;
}

// ceil(3), whose name the compiler reserves for a function of doubles.
uint64_t machine_soft_ceil(uint64_t a) { return round_up(a); }
#if !defined(__linux__)
__asm__(".globl ceil\n.set ceil, machine_soft_ceil");
#endif
