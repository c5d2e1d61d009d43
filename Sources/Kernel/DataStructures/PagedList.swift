// A list that grows without a large piece of memory: its elements lie in parts of about a page. An array of a hundred
// kilobytes needs as many frames in a row, twice while it grows, and a kernel that is short of memory has none; and where
// Swift makes an array, failure cannot be reported.

/// An append-only list of any length in small pieces.
public struct PagedList<Element> {
  private var parts: [[Element]] = []
  public private(set) var count = 0

  public init() {}

  /// Elements in a part: a power of two, so that a part is between half a page and a page, its header included.
  @inline(__always)
  private static var shift: Int {
    let fitting = max(1, (4096 - 32) / max(1, MemoryLayout<Element>.stride))
    return Int.bitWidth - 1 - fitting.leadingZeroBitCount
  }

  public mutating func append(_ element: Element) {
    if count >> Self.shift == parts.count {
      var part: [Element] = []
      part.reserveCapacity(1 << Self.shift)
      parts.append(part)
    }
    parts[parts.count - 1].append(element)
    count += 1
  }

  public subscript(_ index: Int) -> Element {
    precondition(index >= 0 && index < count)
    return parts[index >> Self.shift][index & (1 << Self.shift - 1)]
  }
}
