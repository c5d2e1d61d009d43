// What a part of an address space has in memory and on swap areas, as /proc/PID/smaps and numa_maps tell it (proc(5)).

import PhysicalMemory

/// Sums over pages; in pages unless said otherwise.
public struct Residency: Sendable {
  /// A page's share of something: its bytes divided by the number of its mappings, in 4096ths of a byte.
  public struct Share: Sendable {
    fileprivate(set) var units: UInt64 = 0
    public var kibibytes: Int { @export(interface) get { Int(truncatingIfNeeded: units >> 22) } }

    fileprivate init() {}
    fileprivate init(ofPageWith mappings: Int32) { units = pageSize << 12 / UInt64(max(1, mappings)) }
    fileprivate static func += (left: inout Share, right: Share) { left.units &+= right.units }
  }

  /// Pages with several mappings, and those with one.
  public var sharedClean = 0, sharedDirty = 0, privateClean = 0, privateDirty = 0
  public var anonymous = 0
  public var referenced = 0
  /// On reclaim's lists of pages in active use.
  public var active = 0
  public var swapCached = 0
  /// The largest number of mappings of a page.
  public var mostMappings = 0
  /// The shares in pages of private memory, of files, and of memory without a store that is mapped shared.
  public var ofAnonymous = Share(), ofFiles = Share(), ofMemory = Share()
  /// The shares in all pages that differ from their store.
  public var ofDirty = Share()
  /// The shares in locked pages.
  public var ofLocked = Share()
  public var swapped = 0
  public var ofSwapped = Share()
  /// Pages of 4 KiB in areas of huge pages, which no other count knows: all, and those with several mappings.
  public var huge = 0, sharedHuge = 0
  /// By node.
  public var nodes = InlineArray<8, Int>(repeating: 0)

  public init() {}

  public var resident: Int { @export(interface) get { sharedClean + sharedDirty + privateClean + privateDirty } }
  public var dirty: Int { sharedDirty + privateDirty }
  public var share: Share {
    @export(interface) get {
      var sum = ofAnonymous
      sum += ofFiles
      sum += ofMemory
      return sum
    }
  }

  @export(interface)
  public static func += (left: inout Residency, right: Residency) {
    left.sharedClean += right.sharedClean
    left.sharedDirty += right.sharedDirty
    left.privateClean += right.privateClean
    left.privateDirty += right.privateDirty
    left.anonymous += right.anonymous
    left.referenced += right.referenced
    left.active += right.active
    left.swapCached += right.swapCached
    left.mostMappings = max(left.mostMappings, right.mostMappings)
    left.ofAnonymous += right.ofAnonymous
    left.ofFiles += right.ofFiles
    left.ofMemory += right.ofMemory
    left.ofDirty += right.ofDirty
    left.ofLocked += right.ofLocked
    left.swapped += right.swapped
    left.ofSwapped += right.ofSwapped
    left.huge += right.huge
    left.sharedHuge += right.sharedHuge
    for node in 0..<left.nodes.count { left.nodes[node] += right.nodes[node] }
  }

  /// What is known of a page in memory.
  struct Page {
    enum Owner { case program, file, memory }
    var owner: Owner
    var mappings: Int32
    var isDirty: Bool
    var isReferenced: Bool
    var isLocked: Bool
    var frame: PageFrameNumber
  }

  mutating func add(_ page: Page) {
    let share = Share(ofPageWith: page.mappings)
    switch page.owner {
    case .program:
      anonymous += 1
      ofAnonymous += share
    case .file: ofFiles += share
    case .memory: ofMemory += share
    }
    switch (page.mappings > 1, page.isDirty) {
    case (true, true): sharedDirty += 1
    case (true, false): sharedClean += 1
    case (false, true): privateDirty += 1
    case (false, false): privateClean += 1
    }
    if page.isDirty { ofDirty += share }
    if page.isLocked { ofLocked += share }
    if page.isReferenced { referenced += 1 }
    mostMappings = max(mostMappings, Int(page.mappings))
    nodes[min(page.frame.node, nodes.count - 1)] += 1
  }

  mutating func addSwapped(mappings: Int32) {
    swapped += 1
    ofSwapped += Share(ofPageWith: mappings)
  }
}
