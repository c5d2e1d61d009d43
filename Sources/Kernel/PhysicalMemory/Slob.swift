// The other allocator of small objects, for tiny memories: simple lists of blocks (after McIlroy's and Mackall's SLOB;
// first fit is Knuth's algorithm 2.5A). It is slower than the slab caches, and wastes less: an object takes 16 bytes more
// than it has at most, pages are shared by objects of all sizes, nothing is kept for a CPU, and an empty page goes back.
// The boot option `slob` chooses it.
//
// A page is 256 units of 16 bytes. The first two are a bitmap that marks the last unit of each object, from which
// `free` knows how long the object is: so objects have no headers, and are aligned. The free blocks of a page are linked
// in the order of their addresses through their first four bytes: length and place of the next.
//
//     ┌────────┬──────────┬───────┬─────────────┬──────┬─────────────────────────┐
//     │ bitmap │ object   │ free ─┼── object ───┼▶free │ …                       │
//     └────────┴─────────▲┴───────┴────────────▲┴──────┴─────────────────────────┘
//                        last unit marked       marked
//
// Pages with free blocks are in one of three lists, by the size of the object that they were made for: small objects
// do not eat up the room of large ones.

import KernelCore
import LinuxABI
import Synchronization

struct SlobState: ~Copyable {
  let lock = AllocatorLock(.slab)
  /// First page of each list.
  var heads = InlineArray<3, UInt32>(repeating: 0)
  var pages = 0
  var objects = 0
  var usedUnits = 0

  /// Objects for which a page has no room are runs of page frames.
  static var unitsInPage: Int { 256 }
  static var bitmapUnits: Int { 2 }

  static func list(size: Int) -> Int { size < 256 ? 0 : size < 1024 ? 1 : 2 }
}

extension PhysicalMemory {
  // SAFETY (of this file): everything happens under the lock of the state. Pages of kind `.slob` are written by this code
  // only, apart from objects that were handed out; places and lengths within a page are below 256 by construction, and
  // what `free` is given is checked.

  private func bitmap(_ page: UnsafeMutableRawPointer) -> UnsafeMutablePointer<UInt64> {
    unsafe page.assumingMemoryBound(to: UInt64.self)
  }

  /// A free block of a page, by its first unit: its length, and the next one's first unit, 0 at the end.
  private func block(_ page: UnsafeMutableRawPointer, _ unit: Int) -> UnsafeMutablePointer<
    (length: UInt16, next: UInt16)
  > {
    unsafe (page + unit &* 16).assumingMemoryBound(to: (length: UInt16, next: UInt16).self)
  }

  // MARK: Allocating

  @inline(never)
  func slobAllocate(size: Int, alignment: Int, options: AllocationOptions) -> UnsafeMutableRawPointer? {
    let step = max(1, alignment / 16)
    // Behind the bitmap, at the first place that is aligned.
    let room = SlobState.unitsInPage &- max(SlobState.bitmapUnits, step)
    guard max(size, 1) <= room &* 16 else {
      return unsafe allocatePages(size: size, alignment: alignment, options: options)
    }
    let units = (max(size, 1) &+ 15) / 16
    let list = SlobState.list(size: size)
    let slob = unsafe state.pointee.slob
    unsafe slob.pointee.lock.acquire()
    defer { unsafe slob.pointee.lock.release() }
    var number = unsafe UInt64(slob.pointee.heads[list])
    while number != 0 {
      let frame = unsafe descriptor(number)
      if unsafe frame.pointee.slobLongest >= units, let object = unsafe takeUnits(number, frame, units, step) {
        unsafe noteTaken(slob, number, frame, units)
        return unsafe object
      }
      number = unsafe UInt64(frame.pointee.next)
    }
    guard let fresh = makeSlobPage(list, options) else { return nil }
    let frame = unsafe descriptor(fresh)
    guard let object = unsafe takeUnits(fresh, frame, units, step) else { fail("an object does not fit an empty page") }
    unsafe noteTaken(slob, fresh, frame, units)
    return unsafe object
  }

  /// An empty page, in its list.
  private func makeSlobPage(_ list: Int, _ options: AllocationOptions) -> UInt64? {
    let number: UInt64
    do throws(Errno) {
      number = try takeBlock(order: 0, options: options.intersection([.atomic, .reserved])).number
    } catch {
      return nil
    }
    let frame = unsafe descriptor(number)
    unsafe prepare(frame, order: 0, references: 0)
    unsafe frame.pointee.kind = .slob
    unsafe frame.pointee.cache = UInt8(truncatingIfNeeded: list)
    let page = unsafe pointer(to: PageFrameNumber(number))
    for word in 0..<4 { unsafe bitmap(page)[word] = 0 }
    let free = SlobState.unitsInPage &- SlobState.bitmapUnits
    unsafe block(page, SlobState.bitmapUnits).pointee = (UInt16(free), 0)
    unsafe frame.pointee.slobFirst = SlobState.bitmapUnits
    unsafe frame.pointee.slobFree = free
    unsafe frame.pointee.slobLongest = free
    unsafe state.pointee.slob.pointee.pages &+= 1
    unsafe linkSlob(number, frame)
    return number
  }

  /// The first place in a page where so many units fit, at a multiple of `step` units.
  private func takeUnits(
    _ number: UInt64, _ frame: UnsafeMutablePointer<FrameDescriptor>, _ units: Int, _ step: Int
  ) -> UnsafeMutableRawPointer? {
    let page = unsafe pointer(to: PageFrameNumber(number))
    var previous = 0
    var place = unsafe frame.pointee.slobFirst
    var longest = 0
    while place != 0 {
      let (length, next) = unsafe (Int(block(page, place).pointee.length), Int(block(page, place).pointee.next))
      let start = (place &+ step &- 1) & ~(step &- 1)
      guard start &+ units <= place &+ length else {
        longest = max(longest, length)
        previous = place
        place = next
        continue
      }
      // What is left behind the object is a block, and so is what is left in front of it.
      let end = start &+ units
      var rest = next
      if end < place &+ length {
        unsafe block(page, end).pointee = (UInt16(place &+ length &- end), UInt16(next))
        rest = end
      }
      if start > place {
        unsafe block(page, place).pointee = (UInt16(start &- place), UInt16(rest))
      } else if previous != 0 {
        unsafe block(page, previous).pointee.next = UInt16(rest)
      } else {
        unsafe frame.pointee.slobFirst = rest
      }
      unsafe bitmap(page)[(end &- 1) >> 6] |= 1 << UInt64((end &- 1) & 63)
      return unsafe page + start &* 16
    }
    // Too small for this one: others need not look either.
    unsafe frame.pointee.slobLongest = longest
    return nil
  }

  private func noteTaken(
    _ slob: UnsafeMutablePointer<SlobState>, _ number: UInt64, _ frame: UnsafeMutablePointer<FrameDescriptor>,
    _ units: Int
  ) {
    unsafe slob.pointee.objects &+= 1
    unsafe slob.pointee.usedUnits &+= units
    unsafe frame.pointee.slobFree &-= units
    // The next search begins here; a full page is in no list.
    unsafe unlinkSlob(frame)
    if unsafe frame.pointee.slobFree > 0 { unsafe linkSlob(number, frame) }
  }

  // MARK: Freeing

  /// How many units an object has; 0 if none begins there that could end.
  private func slobLength(_ page: UnsafeMutableRawPointer, _ unit: Int) -> Int {
    guard unit >= SlobState.bitmapUnits else { return 0 }
    var word = unit >> 6
    var bits = unsafe bitmap(page)[word] & (~0 << UInt64(unit & 63))
    while bits == 0 {
      word &+= 1
      if word == 4 { return 0 }
      bits = unsafe bitmap(page)[word]
    }
    return word &* 64 &+ bits.trailingZeroBitCount &- unit &+ 1
  }

  func slobSize(of object: UnsafeMutableRawPointer) -> Int {
    let address = unsafe physicalAddress(of: object)
    let page = unsafe pointer(to: PageFrameNumber(address >> Self.pageShift))
    return unsafe slobLength(page, Int(address & 4095) / 16) &* 16
  }

  @inline(never)
  func slobFree(_ object: UnsafeMutableRawPointer, _ number: UInt64, _ frame: UnsafeMutablePointer<FrameDescriptor>) {
    let slob = unsafe state.pointee.slob
    unsafe slob.pointee.lock.acquire()
    defer { unsafe slob.pointee.lock.release() }
    let page = unsafe pointer(to: PageFrameNumber(number))
    let offset = unsafe Int(physicalAddress(of: object) & 4095)
    let unit = offset / 16
    let units = unsafe slobLength(page, unit)
    // The free blocks around it.
    var before = 0
    var after = unsafe frame.pointee.slobFirst
    while after != 0, after <= unit {
      before = after
      after = unsafe Int(block(page, after).pointee.next)
    }
    let endOfBefore = unsafe before == 0 ? 0 : before &+ Int(block(page, before).pointee.length)
    guard offset & 15 == 0, units > 0, endOfBefore <= unit, after == 0 || unit &+ units <= after else {
      fail("a pointer that is no object of the heap was freed")
    }
    let last = unit &+ units &- 1
    unsafe bitmap(page)[last >> 6] &= ~(1 << UInt64(last & 63))
    unsafe slob.pointee.objects &-= 1
    unsafe slob.pointee.usedUnits &-= units
    let wasFull = unsafe frame.pointee.slobFree == 0
    unsafe frame.pointee.slobFree &+= units
    unsafe frame.pointee.slobLongest = frame.pointee.slobFree
    if unsafe frame.pointee.slobFree == SlobState.unitsInPage &- SlobState.bitmapUnits {
      if !wasFull { unsafe unlinkSlob(frame) }
      unsafe slob.pointee.pages &-= 1
      unsafe frame.pointee.kind = .unused
      return giveBack(number, order: 0)
    }
    var length = units
    var next = after
    if after == unit &+ units {
      length &+= unsafe Int(block(page, after).pointee.length)
      next = unsafe Int(block(page, after).pointee.next)
    }
    if before != 0, endOfBefore == unit {
      length &+= unsafe Int(block(page, before).pointee.length)
      unsafe block(page, before).pointee = (UInt16(length), UInt16(next))
    } else {
      unsafe block(page, unit).pointee = (UInt16(length), UInt16(next))
      if before != 0 {
        unsafe block(page, before).pointee.next = UInt16(unit)
      } else {
        unsafe frame.pointee.slobFirst = unit
      }
    }
    if wasFull { unsafe linkSlob(number, frame) }
  }

  // MARK: Lists of pages

  private func linkSlob(_ number: UInt64, _ frame: UnsafeMutablePointer<FrameDescriptor>) {
    let list = unsafe Int(frame.pointee.cache)
    let head = unsafe state.pointee.slob.pointee.heads[list]
    unsafe frame.pointee.next = head
    unsafe frame.pointee.previous = 0
    if head != 0 { unsafe descriptor(UInt64(head)).pointee.previous = UInt32(truncatingIfNeeded: number) }
    unsafe state.pointee.slob.pointee.heads[list] = UInt32(truncatingIfNeeded: number)
  }

  private func unlinkSlob(_ frame: UnsafeMutablePointer<FrameDescriptor>) {
    let (next, previous) = unsafe (frame.pointee.next, frame.pointee.previous)
    if previous != 0 {
      unsafe descriptor(UInt64(previous)).pointee.next = next
    } else {
      unsafe state.pointee.slob.pointee.heads[Int(frame.pointee.cache)] = next
    }
    if next != 0 { unsafe descriptor(UInt64(next)).pointee.previous = previous }
  }
}

extension FrameDescriptor {
  /// Of a page of small objects: free units, the first free block, and what no free block is longer than.
  var slobFree: Int {
    @inline(__always) get { Int(truncatingIfNeeded: index & 0xffff) }
    @inline(__always) set { index = index & ~0xffff | UInt64(truncatingIfNeeded: newValue) }
  }
  var slobFirst: Int {
    @inline(__always) get { Int(truncatingIfNeeded: index >> 16 & 0xffff) }
    @inline(__always) set { index = index & ~(0xffff << 16) | UInt64(truncatingIfNeeded: newValue) << 16 }
  }
  var slobLongest: Int {
    @inline(__always) get { Int(truncatingIfNeeded: index >> 32 & 0xffff) }
    @inline(__always) set { index = index & ~(0xffff << 32) | UInt64(truncatingIfNeeded: newValue) << 32 }
  }
}
