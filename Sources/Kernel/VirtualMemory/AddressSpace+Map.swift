// mmap(2): making areas.

import KernelCore
import LinuxABI
import Scheduling

extension AddressSpace {
  /// Maps memory and returns its address.
  ///
  /// - Parameters:
  ///   - address: a wish, or with `.fixed` and `.fixedNoReplace` an order.
  ///   - length: in bytes, rounded up to whole pages.
  ///   - object: what is mapped; nil for zero-filled memory.
  ///   - offset: where in the object the mapping begins, in bytes, a multiple of the page size.
  ///   - maximum: what mprotect may grant later.
  ///   - source: the name for /proc; it keeps the object's store alive.
  /// - Throws: EINVAL, ENOMEM, EEXIST, EPERM (also for an object that denies writable mappings), EAGAIN (locked memory),
  ///   EOVERFLOW.
  @export(interface)
  public func map(
    at address: UInt64, length: UInt64, protection: Protection, maximum: Protection = .all, flags: MappingFlags,
    object: MemoryObject?, offset: UInt64 = 0, source: (any MappingSource)? = nil
  ) throws(Errno) -> UInt64 {
    if flags.contains(.hugeTLB) || object?.isHuge == true {
      return try mapHuge(
        at: address, length: length, protection: protection, maximum: maximum, flags: flags, object: object,
        offset: offset, source: source)
    }
    guard length != 0, offset & pageMask == 0 else { throw .EINVAL }
    guard let length = roundedUpToPage(length), length <= Self.userLimit else { throw .ENOMEM }
    let writer = flags.contains(.shared) && maximum.contains(.write) ? object : nil
    try writer?.beginWriting()
    defer { writer?.endWriting() }
    guard !offset.addingReportingOverflow(length).overflow else { throw .EOVERFLOW }
    let isFixed = flags.contains(.fixed) || flags.contains(.fixedNoReplace)
    if isFixed {
      guard address & pageMask == 0 else { throw .EINVAL }
      guard Self.isUserRange(address, length) else { throw .ENOMEM }
      guard address >= Self.minimumAddress else { throw .EPERM }
    }
    var gather = MappingGather(space: machineSpace)
    let (start, areaFlags) = try changeAreas { state throws(Errno) in
      guard !state.isDestroyed else { throw .ENOMEM }
      let start = try place(state, address, length, flags, offset: offset)
      var areaFlags = flags.subtracting(.transient).union(state.futureFlags)
      let replaced = flags.contains(.fixed) ? state.mappedPages(start, start &+ length) : 0
      try state.checkLimits(
        adding: Int(truncatingIfNeeded: length / pageSize), replacing: replaced, protection, areaFlags)
      if flags.contains(.fixed) {
        defer { gather.finish() }
        try unmap(&state, start, start &+ length, &gather)
      }
      guard state.map.count < Self.maximumAreaCount else { throw .ENOMEM }
      var object = object
      if object == nil, areaFlags.contains(.shared) {
        // Shared anonymous memory is an object without a name; it pays for itself.
        object = try MemoryObject.anonymous(
          size: length, reserves: !areaFlags.contains(.noReserve) || CommitAccounting.mode == .never)
      } else if Self.isAccountable(protection, areaFlags) {
        try commit(&state, Int(truncatingIfNeeded: length / pageSize))
        areaFlags.insert(.accounted)
      }
      let area = VirtualMemoryArea(
        space: self, start: start, end: start &+ length, protection: protection, maximumProtection: maximum,
        flags: areaFlags, object: object, pageOffset: offset / pageSize, source: source)
      insert(&state, area)
      return (start, areaFlags)
    }
    if flags.contains(.populate) || (areaFlags.contains(.locked) && !areaFlags.contains(.lockedOnFault)) {
      // mmap(2): failing to bring pages in is no failure of the mapping.
      try? populate(start, start &+ length)
    }
    return start
  }

  /// Whether a mapping is a promise of memory: writes need frames of its own. Huge pages are promised by their pool.
  static func isAccountable(_ protection: Protection, _ flags: MappingFlags) -> Bool {
    guard protection.contains(.write), flags.isDisjoint(with: [.shared, .hugeTLB]) else { return false }
    return !flags.contains(.noReserve) || CommitAccounting.mode == .never
  }

  func commit(_ state: inout AreaState, _ pages: Int) throws(Errno) {
    try CommitAccounting.commit(pages, spacePages: state.totalPages)
    state.committedPages &+= pages
  }

  func uncommit(_ state: inout AreaState, _ pages: Int) {
    CommitAccounting.uncommit(pages)
    state.committedPages &-= pages
  }

  /// Refuses a copy of this space in time: a promise that cannot be made is no lack of memory, for which others would be
  /// asked to give some up.
  ///
  /// - Throws: ENOMEM.
  func checkPromises() throws(Errno) {
    guard CommitAccounting.mode == .never else { return }
    let (promised, total) = areas.withReadLock { state in
      var pages = 0
      state.map.visit { area in
        if area.flags.contains(.accounted), !area.flags.contains(.notInherited) { pages &+= area.pageCount }
        return true
      }
      return (pages, state.totalPages)
    }
    guard CommitAccounting.permits(promised, spacePages: total) else { throw .ENOMEM }
  }

  // MARK: Placing

  /// The address for a new mapping. Orders are followed and wishes granted as they are, but for huge pages.
  ///
  /// - Parameters:
  ///   - alignment: what a place must be a multiple of.
  ///   - offset: where in the object the mapping begins, in bytes.
  func place(
    _ state: borrowing AreaState, _ address: UInt64, _ length: UInt64, _ flags: MappingFlags,
    alignment: UInt64 = pageSize, offset: UInt64 = 0
  ) throws(Errno) -> UInt64 {
    if flags.contains(.fixedNoReplace) {
      if state.map.overlaps(address, address &+ length, respectingGaps: false) { throw .EEXIST }
      return address
    }
    if flags.contains(.fixed) { return address }
    if flags.contains(.low) {
      let slack = alignment &- pageSize
      guard let hole = state.map.lowestHole(of: length &+ slack, low: 0x4000_0000, high: 0x8000_0000) else {
        throw .ENOMEM
      }
      return (hole &+ slack) & ~(alignment &- 1)
    }
    var wish = max(roundedUpToPage(address) ?? 0, address == 0 ? 0 : Self.minimumAddress)
    wish = wish > .max &- alignment ? 0 : (wish &+ alignment &- 1) & ~(alignment &- 1)
    if wish != 0, Self.isUserRange(wish, length), !state.map.overlaps(wish, wish &+ length, respectingGaps: true) {
      return wish
    }
    let best = max(alignment, Self.bestAlignment(length, flags))
    if best > alignment, let hole = try? findHole(state, length, alignment: best, congruentTo: offset) { return hole }
    return try findHole(state, length, alignment: alignment)
  }

  /// What the address of a mapping should be congruent to its offset by, so that page tables belong to it alone: these are
  /// shared whole, after fork or by all who map the same object, and 2 MiB can be one page of the machine.
  ///
  /// Linux places private memory of whole multiples of 2 MiB like this, and large files.
  private static func bestAlignment(_ length: UInt64, _ flags: MappingFlags) -> UInt64 {
    if length >= 1 << PageTables.groupShift { return 1 << PageTables.groupShift }
    let span = PageTables.tableSpan
    let isLarge = flags.contains(.shared) ? length >= span : length & (span &- 1) == 0
    return isLarge ? span : pageSize
  }

  /// A hole for `length` bytes at a place that is congruent to `offset`, modulo `alignment`: where there is room for the
  /// worst case.
  func findHole(
    _ state: borrowing AreaState, _ length: UInt64, alignment: UInt64, congruentTo offset: UInt64 = 0
  ) throws(Errno) -> UInt64 {
    let hole = try findHole(state, length &+ alignment &- pageSize)
    return hole &+ (offset &- hole) & (alignment &- 1)
  }

  /// The highest hole below the mapping base, above it when the space below is full; in the legacy layout the lowest
  /// one above the base.
  func findHole(_ state: borrowing AreaState, _ length: UInt64) throws(Errno) -> UInt64 {
    if state.layout.mappingDirection == .up { return try findHoleAbove(state, length) }
    let base = state.layout.mappingBase == 0 ? Self.userLimit : min(state.layout.mappingBase, Self.userLimit)
    let window = Self.kernelWindow
    if base > window.upperBound,
      let hole = state.map.highestHole(of: length, low: window.upperBound, high: base)
    {
      return hole
    }
    if let hole = state.map.highestHole(
      of: length, low: Self.minimumAddress, high: min(base, window.lowerBound))
    {
      return hole
    }
    if base < Self.userLimit,
      let hole = state.map.highestHole(of: length, low: max(base, window.upperBound), high: Self.userLimit)
    {
      return hole
    }
    throw .ENOMEM
  }

  private func findHoleAbove(_ state: borrowing AreaState, _ length: UInt64) throws(Errno) -> UInt64 {
    let (base, window) = (state.layout.mappingBase, Self.kernelWindow)
    if base < window.lowerBound,
      let hole = state.map.lowestHole(of: length, low: base, high: min(window.lowerBound, Self.userLimit))
    {
      return hole
    }
    if Self.userLimit > window.upperBound,
      let hole = state.map.lowestHole(of: length, low: max(base, window.upperBound), high: Self.userLimit)
    {
      return hole
    }
    throw .ENOMEM
  }

  // MARK: Areas

  /// Adds an area, as a part of its neighbours where they fit.
  func insert(_ state: inout AreaState, _ area: VirtualMemoryArea) {
    tables.withLock { $0.noteNewArea(area.start, area.end) }
    area.object?.addMapping(area)
    state.map.insert(area)
    state.count(area, by: area.pageCount)
    mergeAround(&state, area)
  }

  /// Joins `area` with the neighbours that have the same properties.
  func mergeAround(_ state: inout AreaState, _ area: VirtualMemoryArea) {
    var area = area
    if let previous = state.map.previous(before: area), previous.canMerge(with: area) {
      // The survivor covers the range before the other one leaves: truncation always finds each page in some area.
      previous.resize(start: previous.start, end: area.end)
      forget(&state, area)
      state.map.didChange(previous)
      area = previous
    }
    if let next = state.map.next(after: area), area.canMerge(with: next) {
      area.resize(start: area.start, end: next.end)
      forget(&state, next)
      state.map.didChange(area)
    }
  }

  /// Takes an area out of the tree and away from its object. Its pages are gone, or another area covers them.
  func forget(_ state: inout AreaState, _ area: VirtualMemoryArea) {
    state.map.remove(area)
    area.object?.removeMapping(area)
  }

  /// Cuts the area that contains `address` in two there.
  ///
  /// - Throws: ENOMEM when there are too many areas, EINVAL within a huge page.
  func split(_ state: inout AreaState, at address: UInt64) throws(Errno) {
    guard let area = state.map.find(address), area.start != address else { return }
    guard !area.flags.contains(.hugeTLB) || address & HugePage.mask == 0 else { throw .EINVAL }
    guard state.map.count < Self.maximumAreaCount else { throw .ENOMEM }
    let upper = area.copy(start: address, end: area.end, in: self)
    upper.object?.addMapping(upper)
    area.resize(start: area.start, end: address)
    state.map.didChange(area)
    state.map.insert(upper)
  }
}

extension VirtualMemoryArea {
  /// Moves the ends of the area; the page that each address shows stays the same.
  func resize(start newStart: UInt64, end newEnd: UInt64) {
    guard let object else {
      (start, end) = (newStart, newEnd)
      return
    }
    object.withMappings {
      // An area grows downwards only when its object has pages before the first one (AddressSpace.grow).
      if newStart >= start {
        pageOffset = pageOffset &+ (newStart &- start) / pageSize
      } else {
        pageOffset = pageOffset &- (start &- newStart) / pageSize
      }
      (start, end) = (newStart, newEnd)
    }
  }
}

extension AreaState {
  /// Adds an area's pages to the sums, or takes them away.
  mutating func count(_ area: VirtualMemoryArea, by pages: Int) {
    totalPages &+= pages
    peakTotalPages = max(peakTotalPages, totalPages)
    if area.flags.contains(.growsDown) || area.flags.contains(.stack) {
      stackPages &+= pages
    } else if area.protection.contains(.write), !area.isShared {
      dataPages &+= pages
    } else if area.protection.contains(.execute) {
      executablePages &+= pages
    }
    if area.flags.contains(.locked) { lockedPages &+= pages }
    if area.flags.contains(.hugeTLB) { hugePages &+= pages }
  }

  /// Pages of [start, end) that areas cover.
  borrowing func mappedPages(_ start: UInt64, _ end: UInt64) -> Int {
    var pages: UInt64 = 0
    var next = map.firstEnding(after: start)
    while let area = next, area.start < end {
      pages &+= (min(area.end, end) &- max(area.start, start)) / pageSize
      next = map.next(after: area)
    }
    return Int(truncatingIfNeeded: pages)
  }

  /// RLIMIT_AS, RLIMIT_DATA and RLIMIT_MEMLOCK for `pages` more.
  borrowing func checkLimits(
    adding pages: Int, replacing: Int = 0, _ protection: Protection, _ flags: MappingFlags
  ) throws(Errno) {
    func exceeds(_ sum: Int, _ limit: UInt64) -> Bool { sum > 0 && UInt64(sum) > limit / pageSize }
    if exceeds(totalPages &- replacing &+ pages, limits.addressSpace) { throw .ENOMEM }
    if protection.contains(.write), !flags.contains(.shared), !flags.contains(.growsDown), !flags.contains(.stack),
      exceeds(dataPages &+ pages, limits.data)
    {
      throw .ENOMEM
    }
    if flags.contains(.locked), exceeds(lockedPages &+ pages, limits.locked) { throw .EAGAIN }
  }
}
