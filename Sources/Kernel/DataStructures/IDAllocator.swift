// Small numbers handed out and taken back: descriptors want the smallest free one, process identifiers the next free
// one after the last. A bitmap of the numbers in use, and above it one bit for each full word of the level below: a
// search looks at one word per level however many numbers are in use. The levels grow with the largest number.

/// Allocates numbers from a range. The caller provides for mutual exclusion. Operations take O(log₆₄ n) time.
public struct IDAllocator {
  /// The numbers that can be handed out.
  public let range: Range<Int>
  /// How many are in use.
  public private(set) var count = 0
  // levels[0] has a bit for each number in use (counted from range.lowerBound); levels[k + 1] one for each word of
  // levels[k] that is full. The last level has one word.
  private var levels: [[UInt64]] = [[0]]
  private var cursor: Int

  @export(interface) public init(range: Range<Int>) {
    self.range = range
    cursor = range.lowerBound
  }

  /// Takes the smallest free number that is at least `minimum`; nil when there is none.
  @export(interface) public mutating func allocateSmallest(from minimum: Int = .min) -> Int? {
    let start = max(minimum, range.lowerBound)
    guard start < range.upperBound else { return nil }
    let index = firstFree(from: start &- range.lowerBound)
    guard index < range.count else { return nil }
    mark(index)
    return index &+ range.lowerBound
  }

  /// Takes the first free number behind the one that was handed out last in this way, starting over at the end.
  @export(interface) public mutating func allocateNext() -> Int? {
    guard let number = allocateSmallest(from: cursor) ?? allocateSmallest() else { return nil }
    cursor = number &+ 1 < range.upperBound ? number &+ 1 : range.lowerBound
    return number
  }

  /// Takes this very number; false when it is in use or out of range.
  @export(interface) public mutating func allocate(_ number: Int) -> Bool {
    guard range.contains(number), !contains(number) else { return false }
    mark(number &- range.lowerBound)
    return true
  }

  /// Whether the number is in use.
  @export(interface) public func contains(_ number: Int) -> Bool {
    guard range.contains(number) else { return false }
    let index = number &- range.lowerBound
    return index >> 6 < levels[0].count && levels[0][index >> 6] >> UInt64(index & 63) & 1 != 0
  }

  /// The first number in use at or after `start`.
  @export(interface) public func firstUsed(from start: Int) -> Int? {
    var index = max(start, range.lowerBound) &- range.lowerBound
    while index >> 6 < levels[0].count {
      let word = levels[0][index >> 6] >> UInt64(index & 63)
      if word != 0 { return index &+ word.trailingZeroBitCount &+ range.lowerBound }
      index = (index >> 6 &+ 1) << 6
    }
    return nil
  }

  /// Takes a number back, which must be in use.
  @export(interface) public mutating func free(_ number: Int) {
    precondition(contains(number), "the number is not in use")
    var index = number &- range.lowerBound
    count &-= 1
    for level in levels.indices {
      let wasFull = levels[level][index >> 6] == ~0
      levels[level][index >> 6] &= ~(1 << UInt64(index & 63))
      if !wasFull { break }
      index >>= 6
    }
  }

  /// The smallest free index at or after `start`; it may lie behind the levels.
  private func firstFree(from start: Int) -> Int {
    var level = 0
    var index = start
    // Climb while the word has nothing free at or after the place, then descend along the first zero bits.
    while true {
      guard index >> 6 < levels[level].count else { return max(start, index << (6 &* level)) }
      let free = ~levels[level][index >> 6] & (~0 << UInt64(index & 63))
      if free != 0 {
        index = (index & ~63) | free.trailingZeroBitCount
        break
      }
      if level &+ 1 == levels.count { return max(start, (index >> 6 &+ 1) << (6 &* (level &+ 1))) }
      index = index >> 6 &+ 1
      level &+= 1
    }
    while level > 0 {
      level &-= 1
      index <<= 6
      guard index >> 6 < levels[level].count else { return index << (6 &* level) }
      index |= (~levels[level][index >> 6]).trailingZeroBitCount
    }
    return index
  }

  private mutating func mark(_ index: Int) {
    grow(toHold: index)
    count &+= 1
    var index = index
    for level in levels.indices {
      levels[level][index >> 6] |= 1 << UInt64(index & 63)
      guard levels[level][index >> 6] == ~0 else { break }
      index >>= 6
    }
  }

  private mutating func grow(toHold index: Int) {
    guard index >> 6 >= levels[0].count else { return }
    var level = 0
    var needed = max(index >> 6 &+ 1, levels[0].count &* 2)
    while true {
      levels[level].append(contentsOf: repeatElement(0, count: max(0, needed &- levels[level].count)))
      guard levels[level].count > 1 else { break }
      if level &+ 1 == levels.count {
        // The new level above: only the words that existed before can be full.
        var summary: UInt64 = 0
        for word in 0..<min(64, levels[level].count) where levels[level][word] == ~0 { summary |= 1 << UInt64(word) }
        levels.append([summary])
      }
      needed = (levels[level].count &+ 63) >> 6
      level &+= 1
    }
  }
}
