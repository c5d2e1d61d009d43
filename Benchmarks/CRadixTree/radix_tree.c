#include <stdlib.h>

#include "CRadixTree.h"

enum { TAGS = 3 };

struct c_radix_node {
  uintptr_t slots[64];
  uint64_t tags[TAGS];
  uint64_t present;
  struct c_radix_node *parent;
  uint8_t shift, slot;
};
typedef struct c_radix_node node;

static node *make_node(unsigned shift, node *parent, unsigned slot) {
  node *n = calloc(1, sizeof *n);
  if (!n) return NULL;
  n->parent = parent;
  n->shift = (uint8_t)shift;
  n->slot = (uint8_t)slot;
  return n;
}

static bool covers(uint64_t index, unsigned shift) { return shift >= 58 || index >> (shift + 6) == 0; }
static unsigned slot_of(uint64_t index, const node *n) { return (index >> n->shift) & 63; }

static node *leaf(const struct c_radix_tree *tree, uint64_t index) {
  node *n = tree->root;
  if (!n || !covers(index, n->shift)) return NULL;
  while (n && n->shift) n = (node *)n->slots[slot_of(index, n)];
  return n;
}

uintptr_t c_radix_get(const struct c_radix_tree *tree, uint64_t index) {
  node *n = leaf(tree, index);
  return n ? n->slots[index & 63] : 0;
}

bool c_radix_insert(struct c_radix_tree *tree, uint64_t index, uintptr_t value) {
  node *n = tree->root;
  if (!n) {
    unsigned shift = 0;
    while (!covers(index, shift)) shift += 6;
    if (!(n = tree->root = make_node(shift, NULL, 0))) return false;
  }
  while (!covers(index, n->shift)) {
    node *top = make_node(n->shift + 6, NULL, 0);
    if (!top) return false;
    top->slots[0] = (uintptr_t)n;
    top->present = 1;
    for (int tag = 0; tag < TAGS; tag++) top->tags[tag] = n->tags[tag] != 0;
    n->parent = top;
    n->slot = 0;
    n = tree->root = top;
  }
  while (n->shift) {
    unsigned slot = slot_of(index, n);
    node *child = (node *)n->slots[slot];
    if (!child) {
      if (!(child = make_node(n->shift - 6, n, slot))) return false;
      n->slots[slot] = (uintptr_t)child;
      n->present |= 1ull << slot;
    }
    n = child;
  }
  unsigned slot = index & 63;
  if (n->slots[slot]) return false;
  n->slots[slot] = value;
  n->present |= 1ull << slot;
  tree->count++;
  return true;
}

static void clear_tag(node *n, unsigned slot, int tag) {
  while (n->tags[tag] >> slot & 1) {
    n->tags[tag] &= ~(1ull << slot);
    if (n->tags[tag] || !n->parent) return;
    slot = n->slot;
    n = n->parent;
  }
}

uintptr_t c_radix_remove(struct c_radix_tree *tree, uint64_t index) {
  node *n = leaf(tree, index);
  if (!n) return 0;
  unsigned slot = index & 63;
  uintptr_t value = n->slots[slot];
  if (!value) return 0;
  for (int tag = 0; tag < TAGS; tag++) clear_tag(n, slot, tag);
  n->slots[slot] = 0;
  n->present &= ~(1ull << slot);
  tree->count--;
  while (!n->present) {
    node *parent = n->parent;
    slot = n->slot;
    free(n);
    if (!parent) {
      tree->root = NULL;
      return value;
    }
    parent->slots[slot] = 0;
    parent->present &= ~(1ull << slot);
    n = parent;
  }
  while (tree->root->shift && tree->root->present == 1) {
    node *top = tree->root;
    tree->root = (node *)top->slots[0];
    tree->root->parent = NULL;
    free(top);
  }
  return value;
}

static void free_tree(node *n) {
  if (n->shift)
    for (uint64_t rest = n->present; rest; rest &= rest - 1) free_tree((node *)n->slots[__builtin_ctzll(rest)]);
  free(n);
}

void c_radix_remove_all(struct c_radix_tree *tree) {
  if (tree->root) free_tree(tree->root);
  tree->root = NULL;
  tree->count = 0;
}

// `base` is the index of the node's first slot.
static size_t gang(
    const node *n, uint64_t base, uint64_t start, uint64_t *indices, uintptr_t *values, size_t limit) {
  unsigned first = start > base ? slot_of(start, n) : 0;
  uint64_t rest = n->present & ~0ull << first;
  size_t found = 0;
  for (; rest && found < limit; rest &= rest - 1) {
    unsigned slot = (unsigned)__builtin_ctzll(rest);
    if (n->shift)
      found += gang(
          (node *)n->slots[slot], base + ((uint64_t)slot << n->shift), start, indices + found, values + found,
          limit - found);
    else {
      indices[found] = base + slot;
      values[found++] = n->slots[slot];
    }
  }
  return found;
}

size_t c_radix_gang(const struct c_radix_tree *tree, uint64_t start, uint64_t *indices, uintptr_t *values, size_t limit) {
  if (!tree->root || !covers(start, tree->root->shift)) return 0;
  return gang(tree->root, 0, start, indices, values, limit);
}

void c_radix_set_tag(struct c_radix_tree *tree, uint64_t index, int tag) {
  node *n = leaf(tree, index);
  unsigned slot = index & 63;
  if (!n || !n->slots[slot]) return;
  while (n && !(n->tags[tag] >> slot & 1)) {
    n->tags[tag] |= 1ull << slot;
    slot = n->slot;
    n = n->parent;
  }
}

void c_radix_clear_tag(struct c_radix_tree *tree, uint64_t index, int tag) {
  node *n = leaf(tree, index);
  if (n) clear_tag(n, index & 63, tag);
}

static size_t sweep(node *n, uint64_t base, uint64_t first, uint64_t last, int from, int to) {
  unsigned low = base < first ? slot_of(first, n) : 0;
  uint64_t end = n->shift >= 58 ? ~0ull : base + (64ull << n->shift) - 1;
  unsigned high = end > last ? slot_of(last, n) : 63;
  uint64_t mask = ~0ull << low & ~0ull >> (63 - high);
  uint64_t found = n->tags[from] & mask;
  if (!n->shift) {
    n->tags[to] |= found;
    return (size_t)__builtin_popcountll(found);
  }
  size_t count = 0;
  for (uint64_t rest = found; rest; rest &= rest - 1) {
    unsigned slot = (unsigned)__builtin_ctzll(rest);
    size_t below = sweep((node *)n->slots[slot], base + ((uint64_t)slot << n->shift), first, last, from, to);
    if (below) n->tags[to] |= 1ull << slot;
    count += below;
  }
  return count;
}

size_t c_radix_sweep(struct c_radix_tree *tree, uint64_t first, uint64_t last, int from, int to) {
  node *root = tree->root;
  if (!root || !covers(first, root->shift) || last < first) return 0;
  return sweep(root, 0, first, last, from, to);
}
