// What the Embedded Swift runtime asks of its surroundings besides memory.S: the heap, which PhysicalMemory provides,
// and random numbers for the seeds of dictionaries. In the image only; on the host the C library has them.
#if !defined(__linux__)
#include <stddef.h>

#include "machine.h"

void *apus_heap_allocate(size_t alignment, size_t size);
void apus_heap_free(void *object);

// POSIX posix_memalign(3). The heap never fails: it has a reserve, an out-of-memory handler, and a panic.
int posix_memalign(void **result, size_t alignment, size_t size) {
  *result = apus_heap_allocate(alignment, size);
  return 0;
}

void free(void *object) {
  if (object) apus_heap_free(object);
}

void arc4random_buf(void *buffer, size_t count) { machine_random(buffer, count); }
#endif
