// The host's vDSO in user processes, so that guest programs read the clock without leaving user code.
//
// The zygote moves the areas which the host has given it (vdso(7): code, and before it the pages of data that it reads,
// at fixed distances) into the reserved region, where all user processes inherit them. They are read-only and of no use
// against the stub: a guest may execute any instructions anyway, and its system calls trap wherever they stand.
// Anything unexpected means that there is no clock here.

#include "internal.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

// MARK: The routine

// The bytes of the vDSO at `address`, an address of its own as its headers tell it, or NULL when it has not so many.
static const void *bytes(const uint8_t *start, uint64_t length, uint64_t address, uint64_t count) {
  return address <= length && count <= length - address ? start + address : NULL;
}

// The offset of __vdso_clock_gettime from the start of the vDSO; 0 when there is none.
static uint64_t find_routine(const uint8_t *start, uint64_t length) {
  const Elf64_Ehdr *header = bytes(start, length, 0, sizeof *header);
  if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_phentsize != sizeof(Elf64_Phdr)) return 0;
  const Elf64_Phdr *programs = bytes(start, length, header->e_phoff, (uint64_t)header->e_phnum * sizeof *programs);
  if (!programs) return 0;
  uint64_t base = UINT64_MAX;
  const Elf64_Dyn *dynamic = NULL;
  uint64_t dynamic_count = 0;
  for (int i = 0; i < header->e_phnum; i++) {
    const Elf64_Phdr *p = &programs[i];
    if (p->p_type == PT_LOAD && base == UINT64_MAX) base = p->p_vaddr - p->p_offset;
    if (p->p_type == PT_DYNAMIC) {
      dynamic = bytes(start, length, p->p_offset, p->p_filesz);
      dynamic_count = p->p_filesz / sizeof *dynamic;
    }
  }
  if (!dynamic || base == UINT64_MAX) return 0;
  uint64_t symbols = 0, strings = 0;
  for (uint64_t i = 0; i < dynamic_count && dynamic[i].d_tag != DT_NULL; i++) {
    if (dynamic[i].d_tag == DT_SYMTAB) symbols = dynamic[i].d_un.d_ptr - base;
    if (dynamic[i].d_tag == DT_STRTAB) strings = dynamic[i].d_un.d_ptr - base;
  }
  // The linker puts the strings behind the symbols: that bounds the table, whose size is written nowhere.
  static const char name[] = "__vdso_clock_gettime";
  for (uint64_t at = symbols; symbols && at + sizeof(Elf64_Sym) <= strings; at += sizeof(Elf64_Sym)) {
    const Elf64_Sym *symbol = bytes(start, length, at, sizeof *symbol);
    if (!symbol) return 0;
    const char *text = bytes(start, length, strings + symbol->st_name, sizeof name);
    if (!text || memcmp(text, name, sizeof name) != 0 || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) continue;
    uint64_t offset = symbol->st_value - base;
    return offset < length ? offset : 0;
  }
  return 0;
}

// MARK: The areas

void um_host_clock_find(void) {
  uint64_t code = getauxval(AT_SYSINFO_EHDR);
  um.clock_area_count = 0;
  um.clock_offset = 0;
  FILE *maps = code ? fopen("/proc/self/maps", "re") : NULL;
  if (!maps) return;
  char line[512];
  uint32_t count = 0, limit = sizeof um.clock_areas / sizeof um.clock_areas[0];
  bool odd = false, found = false;
  while (fgets(line, sizeof line, maps)) {
    uint64_t start, end;
    char protection[8], name[256];
    if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &start, &end, protection, name) != 4) continue;
    bool data = strncmp(name, "[vvar", 5) == 0;
    if (!data && strcmp(name, "[vdso]") != 0) continue;
    // One behind the other, the code last, nothing writable.
    odd |= count == limit || protection[1] != '-' || found || (count && um.clock_areas[count - 1].end != start);
    if (odd) break;
    um.clock_areas[count].start = start;
    um.clock_areas[count].end = end;
    count++;
    if (!data) {
      found = start == code;
      odd |= !found;
    }
  }
  fclose(maps);
  if (odd || !found || um.clock_areas[count - 1].end - um.clock_areas[0].start > UM_HOST_CLOCK_SIZE) return;
  uint64_t routine = find_routine((const uint8_t *)code, um.clock_areas[count - 1].end - code);
  if (routine == 0) return;
  um.clock_offset = code - um.clock_areas[0].start + routine;
  um.clock_area_count = count;
}

bool um_host_clock_move(void) {
  if (um.clock_area_count == 0) return false;
  // Nothing of the monitor may be there: we run in a copy of it.
  int64_t place = um_call6(SYS_mmap, UM_HOST_CLOCK, UM_HOST_CLOCK_SIZE, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, (uint64_t)-1, 0);
  if (place != (int64_t)UM_HOST_CLOCK) {
    if (place > 0) um_call2(SYS_munmap, place, UM_HOST_CLOCK_SIZE);  // before Linux 4.17, which knows no such flag
    return false;
  }
  uint64_t to = UM_HOST_CLOCK;
  for (uint32_t i = 0; i < um.clock_area_count; i++) {
    uint64_t from = um.clock_areas[i].start, length = um.clock_areas[i].end - from;
    int64_t moved = um_call6(SYS_mremap, from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to, 0);
    if (moved != (int64_t)to) return false;  // the boot code unmaps what is there
    to += length;
  }
  if (to < UM_HOST_CLOCK + UM_HOST_CLOCK_SIZE) um_call2(SYS_munmap, to, UM_HOST_CLOCK + UM_HOST_CLOCK_SIZE - to);
  return true;
}

uint64_t um_vdso_clock_gettime(void) {
  if (!um.ready) return 0;
  struct um_ring *ring = (struct um_ring *)(um.control + UM_CONTROL_ZYGOTE_RING);
  return atomic_load(&ring->clock_kept) ? UM_HOST_CLOCK + um.clock_offset : 0;
}
