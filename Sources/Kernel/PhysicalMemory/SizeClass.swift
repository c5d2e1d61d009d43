// The sizes of objects that the kernel heap deals in: at most 15 bytes or 1/4 more than asked for.
//
// A size is a multiple of 16 and objects lie side by side from the start of a page, so every object is aligned to 16
// and objects whose size is a power of two to that. 576 is a node of the radix tree.

enum SizeClass {
  static var count: Int { 33 }
  static var largest: Int { 8192 }

  static func size(_ index: Int) -> Int {
    switch index {
    case 0..<8: (index + 1) * 16  // 16, 32 … 128
    case 8..<12: 128 + (index - 7) * 32  // 160 … 256
    case 12..<16: 256 + (index - 11) * 64  // 320 … 512
    case 16: 576
    case 17..<21: 512 + (index - 16) * 128  // 640 … 1024
    case 21..<25: 1024 + (index - 20) * 256  // 1280 … 2048
    case 25..<29: 2048 + (index - 24) * 512  // 2560, 3072 … 4096
    default: 4096 + (index - 28) * 1024  // 5120 … 8192
    }
  }

  /// The smallest class that holds `size` bytes (at most `largest`) at this alignment (a power of two, at most a page).
  @inline(__always)
  static func index(size: Int, alignment: Int) -> Int {
    var size = size
    if alignment > 16 {
      // Only powers of two are aligned to more than 16.
      let needed = max(size, alignment)
      size = 1 << (Int.bitWidth &- (needed &- 1).leadingZeroBitCount)
    }
    if size <= 128 { return (max(size, 1) &- 1) >> 4 }
    if size <= 256 { return 8 &+ (size &- 129) >> 5 }
    if size <= 512 { return 12 &+ (size &- 257) >> 6 }
    if size <= 576 { return 16 }
    if size <= 1024 { return 17 &+ (size &- 513) >> 7 }
    if size <= 2048 { return 21 &+ (size &- 1025) >> 8 }
    if size <= 4096 { return 25 &+ (size &- 2049) >> 9 }
    return 29 &+ (size &- 4097) >> 10
  }
}
