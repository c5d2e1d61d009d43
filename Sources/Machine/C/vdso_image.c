// The vDSO as the linker put it into the image (Scripts/link-kernel.sh).
#include "machine.h"

#if defined(__linux__)
const uint8_t *machine_vdso(uint64_t *size) {
  *size = 0;
  return 0;
}
#else
extern const uint8_t _binary_vdso_so_start[], _binary_vdso_so_end[];

const uint8_t *machine_vdso(uint64_t *size) {
  *size = (uint64_t)(_binary_vdso_so_end - _binary_vdso_so_start);
  return _binary_vdso_so_start;
}
#endif
