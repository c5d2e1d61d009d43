// Boot-time patching of the VMI's call sites for the ROM that the monitor left in memory.
#if !defined(__linux__)
#include "machine.h"

extern const struct machine_site __start_machine_sites[], __stop_machine_sites[];

enum { EINVAL = 22, ERANGE = 34, NOP = 0x90, CALL = 0xe8, SITE_LENGTH = 5 };

static int64_t check(const struct machine_rom_entry *entry) {
  switch (entry->kind) {
    case MACHINE_ROM_ABSENT: return 0;
    case MACHINE_ROM_CALL: return entry->target ? 0 : -EINVAL;
    case MACHINE_ROM_INLINE: return entry->length <= SITE_LENGTH ? 0 : -EINVAL;
    default: return -EINVAL;
  }
}

static int64_t patch_site(uint8_t *code, const struct machine_rom_entry *entry) {
  if (entry->kind == MACHINE_ROM_CALL) {
    int64_t distance = (int64_t)(entry->target - ((uint64_t)code + SITE_LENGTH));
    if (distance != (int32_t)distance) return -ERANGE;
    code[0] = CALL;
    for (int i = 0; i < 4; i++) code[1 + i] = (uint8_t)(distance >> (8 * i));
  } else if (entry->kind == MACHINE_ROM_INLINE) {
    for (uint32_t i = 0; i < SITE_LENGTH; i++) code[i] = i < entry->length ? entry->bytes[i] : NOP;
  }
  return 0;
}

int64_t machine_patch(const struct machine_rom *rom) {
  if (rom->signature != MACHINE_ROM_SIGNATURE || rom->version != MACHINE_VERSION) return -EINVAL;
  // Check everything before the first byte changes: a refused ROM leaves the image as it was.
  uint64_t count = rom->count < MACHINE_OP_COUNT ? rom->count : MACHINE_OP_COUNT;
  for (uint64_t i = 0; i < count; i++) {
    int64_t error = check(&rom->entries[i]);
    if (error) return error;
  }
  for (const struct machine_site *site = __start_machine_sites; site < __stop_machine_sites; site++) {
    if (site->operation >= MACHINE_OP_COUNT || site->length != SITE_LENGTH) return -EINVAL;
    if (site->operation >= count) continue;
    uint8_t *code = (uint8_t *)&site->location + site->location;
    // To the compiler this is still the constant table that it started from, and stores into that may be left out.
    __asm__("" : "+r"(code));
    int64_t error = patch_site(code, &rom->entries[site->operation]);
    if (error) return error;
  }
  return 0;
}
#endif
