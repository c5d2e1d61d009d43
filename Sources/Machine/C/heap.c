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

// The end of an object whose initializer has thrown before all was set. The runtime's own (weak) function ends what subclasses have
// set and forgets the object itself. In the description of a class the superclass is first, what ends its properties third.
struct class_description { struct class_description *superclass; void *destroy; __attribute__((swiftcall)) void (*destroy_properties)(__attribute__((swift_context)) void *); };
void swift_deallocPartialClassInstance(struct class_description **object, struct class_description *initialized, size_t size, size_t alignment) {
  for (struct class_description *at = *object; at && at != initialized; at = at->superclass)
    if (at->destroy_properties) at->destroy_properties(object);
  free(object);
}

void arc4random_buf(void *buffer, size_t count) { machine_random(buffer, count); }
#endif
