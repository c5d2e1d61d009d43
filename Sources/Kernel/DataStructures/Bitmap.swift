// A set of small integers as an array of bits, searched a word at a time.

/// A fixed number of bits, all zero at first. The caller provides for mutual exclusion.
public struct Bitmap {
  /// The number of bits.
  public let count: Int
  // Bits beyond `count` in the last word stay zero.
  private var words: [UInt64]

  @export(interface) public init(count: Int) {
    precondition(count >= 0)
    self.count = count
    words = [UInt64](repeating: 0, count: count / 64 + (count % 64 == 0 ? 0 : 1))
  }

  public subscript(index: Int) -> Bool {
    @export(interface) get {
      precondition(index >= 0 && index < count)
      return words[index >> 6] >> UInt64(index & 63) & 1 != 0
    }
    @export(interface) set {
      precondition(index >= 0 && index < count)
      let mask = UInt64(1) << UInt64(index & 63)
      if newValue { words[index >> 6] |= mask } else { words[index >> 6] &= ~mask }
    }
  }

  /// The number of bits that are set. O(count).
  public var setCount: Int {
    @export(interface) get {
      var total = 0
      for word in words { total &+= word.nonzeroBitCount }
      return total
    }
  }

  /// The first bit at or after `start` that is set.
  @export(interface) public func firstSet(from start: Int = 0) -> Int? {
    search(from: start, inverting: 0)
  }

  /// The first bit at or after `start` that is zero.
  @export(interface) public func firstZero(from start: Int = 0) -> Int? {
    search(from: start, inverting: ~0)
  }

  /// The start of the first run of `length` zero bits at or after `start`, at a multiple of `alignment`.
  @export(interface) public func firstZeroRun(length: Int, from start: Int = 0, alignment: Int = 1) -> Int? {
    precondition(length > 0 && alignment > 0)
    var from = start
    while let zero = firstZero(from: from) {
      let remainder = zero % alignment
      let candidate = remainder == 0 ? zero : zero &+ (alignment &- remainder)
      guard candidate <= count, length <= count &- candidate else { return nil }
      if candidate != zero, self[candidate] {
        from = candidate
        continue
      }
      let end = firstSet(from: candidate) ?? count
      if end &- candidate >= length { return candidate }
      from = end
    }
    return nil
  }

  /// Sets all bits of a range.
  @export(interface) public mutating func set(_ range: Range<Int>) {
    forWords(of: range) { word, mask in word |= mask }
  }

  /// Clears all bits of a range.
  @export(interface) public mutating func clear(_ range: Range<Int>) {
    forWords(of: range) { word, mask in word &= ~mask }
  }

  @inline(__always)
  private func search(from start: Int, inverting: UInt64) -> Int? {
    guard start >= 0, start < count else { return nil }
    var index = start >> 6
    var word = (words[index] ^ inverting) & (~0 << UInt64(start & 63))
    while word == 0 {
      index &+= 1
      guard index < words.count else { return nil }
      word = words[index] ^ inverting
    }
    let bit = index << 6 | word.trailingZeroBitCount
    return bit < count ? bit : nil
  }

  @inline(__always)
  private mutating func forWords(of range: Range<Int>, _ change: (inout UInt64, UInt64) -> Void) {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    var position = range.lowerBound
    while position < range.upperBound {
      let offset = position & 63
      let length = min(64 &- offset, range.upperBound &- position)
      let ones = length == 64 ? UInt64.max : (UInt64(1) << UInt64(length)) &- 1
      change(&words[position >> 6], ones << UInt64(offset))
      position &+= length
    }
  }
}
