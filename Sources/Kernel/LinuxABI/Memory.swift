// Numbers of the memory system calls (mmap(2), mprotect(2), madvise(2), msync(2), mremap(2), mlock(2)).

public let PROT_READ: UInt64 = 0x1
public let PROT_WRITE: UInt64 = 0x2
public let PROT_EXEC: UInt64 = 0x4
public let PROT_NONE: UInt64 = 0x0
public let PROT_GROWSDOWN: UInt64 = 0x0100_0000
public let PROT_GROWSUP: UInt64 = 0x0200_0000

public let MAP_SHARED: UInt64 = 0x01
public let MAP_PRIVATE: UInt64 = 0x02
public let MAP_SHARED_VALIDATE: UInt64 = 0x03
public let MAP_TYPE: UInt64 = 0x0f
public let MAP_FIXED: UInt64 = 0x10
public let MAP_ANONYMOUS: UInt64 = 0x20
public let MAP_32BIT: UInt64 = 0x40
public let MAP_GROWSDOWN: UInt64 = 0x0100
public let MAP_DENYWRITE: UInt64 = 0x0800
public let MAP_EXECUTABLE: UInt64 = 0x1000
public let MAP_LOCKED: UInt64 = 0x2000
public let MAP_NORESERVE: UInt64 = 0x4000
public let MAP_POPULATE: UInt64 = 0x8000
public let MAP_NONBLOCK: UInt64 = 0x10000
public let MAP_STACK: UInt64 = 0x20000
public let MAP_HUGETLB: UInt64 = 0x40000
public let MAP_SYNC: UInt64 = 0x80000
public let MAP_FIXED_NOREPLACE: UInt64 = 0x100000

public let MREMAP_MAYMOVE: UInt64 = 1
public let MREMAP_FIXED: UInt64 = 2
public let MREMAP_DONTUNMAP: UInt64 = 4

public let MS_ASYNC: UInt64 = 1
public let MS_INVALIDATE: UInt64 = 2
public let MS_SYNC: UInt64 = 4

public let MCL_CURRENT: UInt64 = 1
public let MCL_FUTURE: UInt64 = 2
public let MCL_ONFAULT: UInt64 = 4
public let MLOCK_ONFAULT: UInt64 = 1

public let MADV_NORMAL: UInt64 = 0
public let MADV_RANDOM: UInt64 = 1
public let MADV_SEQUENTIAL: UInt64 = 2
public let MADV_WILLNEED: UInt64 = 3
public let MADV_DONTNEED: UInt64 = 4
public let MADV_FREE: UInt64 = 8
public let MADV_REMOVE: UInt64 = 9
public let MADV_DONTFORK: UInt64 = 10
public let MADV_DOFORK: UInt64 = 11
public let MADV_MERGEABLE: UInt64 = 12
public let MADV_UNMERGEABLE: UInt64 = 13
public let MADV_HUGEPAGE: UInt64 = 14
public let MADV_NOHUGEPAGE: UInt64 = 15
public let MADV_DONTDUMP: UInt64 = 16
public let MADV_DODUMP: UInt64 = 17
public let MADV_WIPEONFORK: UInt64 = 18
public let MADV_KEEPONFORK: UInt64 = 19
public let MADV_COLD: UInt64 = 20
public let MADV_PAGEOUT: UInt64 = 21
public let MADV_POPULATE_READ: UInt64 = 22
public let MADV_POPULATE_WRITE: UInt64 = 23
public let MADV_COLLAPSE: UInt64 = 25

/// Bits of mmap's and memfd_create's flags that hold the binary logarithm of the size of huge pages.
public let MAP_HUGE_SHIFT: UInt64 = 26
public let MAP_HUGE_MASK: UInt64 = 0x3f

// personality(2)
public let ADDR_NO_RANDOMIZE: UInt32 = 0x0040000
public let MMAP_PAGE_ZERO: UInt32 = 0x0100000
public let ADDR_COMPAT_LAYOUT: UInt32 = 0x0200000
public let READ_IMPLIES_EXEC: UInt32 = 0x0400000

// swapon(2)
public let SWAP_FLAG_PRIO_MASK: UInt32 = 0x7fff
public let SWAP_FLAG_PREFER: UInt32 = 0x8000
public let SWAP_FLAG_DISCARD: UInt32 = 0x10000
public let SWAP_FLAG_DISCARD_ONCE: UInt32 = 0x20000
public let SWAP_FLAG_DISCARD_PAGES: UInt32 = 0x40000
