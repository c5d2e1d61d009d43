// The limit that the benchmarks compare with: a radix tree as one would write it in C, without locks, checks, or readers
// beside the writer. 64 slots a node, three tags that propagate upwards.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct c_radix_node;
struct c_radix_tree {
  struct c_radix_node *root;
  size_t count;
};

/// The value at `index`, 0 when there is none.
uintptr_t c_radix_get(const struct c_radix_tree *tree, uint64_t index);
/// Puts a value other than 0 at `index`; false when there is one, or no memory.
bool c_radix_insert(struct c_radix_tree *tree, uint64_t index, uintptr_t value);
/// Takes out the value at `index`; 0 when there was none.
uintptr_t c_radix_remove(struct c_radix_tree *tree, uint64_t index);
void c_radix_remove_all(struct c_radix_tree *tree);
/// Copies up to `limit` items from index `start` on; how many there were.
size_t c_radix_gang(const struct c_radix_tree *tree, uint64_t start, uint64_t *indices, uintptr_t *values, size_t limit);
void c_radix_set_tag(struct c_radix_tree *tree, uint64_t index, int tag);
void c_radix_clear_tag(struct c_radix_tree *tree, uint64_t index, int tag);
/// Sets `to` on the items from `first` to `last` that have `from`; how many had it.
size_t c_radix_sweep(struct c_radix_tree *tree, uint64_t first, uint64_t last, int from, int to);
