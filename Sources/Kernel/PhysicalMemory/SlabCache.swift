// Caches of equally sized objects on page frames (Bonwick, "The Slab Allocator", 1994; magazines after Bonwick and
// Adams, 2001).
//
// A slab is a block of frames that holds objects of one size, side by side from its first byte. What is known about it
// is in the descriptor of its first frame: its free objects (linked through their first words), how many are in use,
// and how many were ever handed out: objects beyond were never touched and are carved off in order. The other frames of
// the slab only say which cache it belongs to. Slabs that have something free are linked in their cache.
//
// Each CPU has a magazine of free objects for each cache, so most operations touch neither the slab nor a lock.

import KernelCore
import LinuxABI
import Synchronization

/// The state of a cache, in the allocator's own memory.
struct SlabCacheState: ~Copyable {
  let lock: AllocatorLock
  var name: StaticString
  var objectSize: Int
  /// 2^32 / objectSize, rounded up: offsets within a slab are divided by multiplication.
  var reciprocal: UInt64
  var slabOrder: Int
  /// Objects moved between a magazine and the slabs at a time; a magazine holds twice as many.
  var batch: Int
  /// First slab with free objects.
  var partial: UInt32
  var slabCount: Int
  var frameCount: Int
  var objectCount: Int
  /// Objects outside the slabs: in use, or in a magazine.
  var takenCount: Int

  /// `offset` / objectSize, exact for offsets up to 2^15 + objectSize: the error of the reciprocal, less than 2^-32 for
  /// each unit of the offset, does not reach the next multiple.
  @inline(__always) func quotient(_ offset: Int) -> Int {
    Int(truncatingIfNeeded: (UInt64(truncatingIfNeeded: offset) &* reciprocal) >> 32)
  }
}

/// A cache of objects of one size, for code that makes many of them. Objects are raw memory aligned to 16 bytes, or to
/// their size if that is a power of two (at most a page).
public struct SlabCache {
  let memory: PhysicalMemory
  let index: Int

  /// Makes a cache, which exists forever.
  ///
  /// - Throws: EINVAL for objects larger than 8192 bytes; ENFILE when there are too many caches.
  @export(interface)
  public static func make(name: StaticString, objectSize: Int) throws(Errno) -> SlabCache {
    let memory = PhysicalMemory.system
    return SlabCache(memory: memory, index: try memory.makeCache(name: name, objectSize: objectSize))
  }

  /// Memory for an object; its contents are undefined.
  ///
  /// - Throws: ENOMEM.
  @export(interface) public func allocate(options: AllocationOptions = []) throws(Errno) -> UnsafeMutableRawPointer {
    if !options.contains(.reserved) { try AllocationFailure.check() }
    guard let object = unsafe memory.allocateObject(cache: index, options: options) else { throw .ENOMEM }
    return unsafe object
  }

  /// Gives an object of this cache back.
  @export(interface) public func free(_ object: UnsafeMutableRawPointer) { unsafe memory.heapFree(object) }
}

extension PhysicalMemory {
  static var maximumCaches: Int { 64 }

  // SAFETY (of this file): cache indices are below cacheCount. A slab's descriptor is changed under its cache's lock.
  // Objects in a magazine and on a slab's list are free: nobody but this code touches their memory.

  @inline(__always) func cache(_ index: Int) -> UnsafeMutablePointer<SlabCacheState> {
    unsafe state.pointee.caches + index
  }

  func makeCache(name: StaticString, objectSize: Int) throws(Errno) -> Int {
    guard objectSize > 0, objectSize <= SizeClass.largest else { throw .EINVAL }
    unsafe state.pointee.cacheLock.acquire()
    defer { unsafe state.pointee.cacheLock.release() }
    let index = unsafe state.pointee.cacheCount.load(ordering: .relaxed)
    guard index < Self.maximumCaches else { throw .ENFILE }
    let size = (objectSize &+ 15) & ~15
    // The smallest slab of eight objects or more that wastes at most an eighth; large objects make do with fewer.
    var order = 0
    while order < 3,
      (Self.pageSize << order) / size < 8 || (Self.pageSize << order) % size > (Self.pageSize << order) / 8
    {
      order &+= 1
    }
    unsafe cache(index).initialize(
      to: SlabCacheState(
        lock: AllocatorLock(.slab), name: name, objectSize: size, reciprocal: (1 << 32) / UInt64(size) &+ 1,
        slabOrder: order,
        batch: max(2, min(Magazine.slots / 2, 8192 / size)), partial: 0, slabCount: 0, frameCount: 0, objectCount: 0,
        takenCount: 0))
    unsafe state.pointee.cacheCount.store(index &+ 1, ordering: .releasing)
    return index
  }

  // MARK: The fast paths

  // The usual case is written so that nothing lives across a call: the compiler then saves no registers for it.

  @inline(__always)
  func allocateObject(cache index: Int, options: AllocationOptions) -> UnsafeMutableRawPointer? {
    if let object = unsafe pop(magazine(index)) { return unsafe object }
    return unsafe allocateObjectSlowly(index, options)
  }

  /// Takes the object on top of a magazine.
  @inline(__always)
  func pop(_ magazine: UnsafeMutablePointer<Magazine>) -> UnsafeMutableRawPointer? {
    let count = unsafe magazine.pointee.count &- 1
    guard count >= 0 else { return nil }
    unsafe magazine.pointee.count = count
    return unsafe UnsafeMutableRawPointer(bitPattern: magazine.pointee.objects[unchecked: count]).unsafelyUnwrapped
  }

  @inline(never)
  private func allocateObjectSlowly(_ index: Int, _ options: AllocationOptions) -> UnsafeMutableRawPointer? {
    if unsafe state.pointee.usesSlob {
      let size = unsafe cache(index).pointee.objectSize
      let alignment = size & (size &- 1) == 0 ? min(size, Self.pageSize) : 16
      return unsafe slobAllocate(size: size, alignment: alignment, options: options)
    }
    let magazine = unsafe magazine(index)
    guard unsafe fill(magazine, from: index, options) > 0 else { return nil }
    return unsafe pop(magazine)
  }

  @inline(__always)
  func freeObject(_ object: UnsafeMutableRawPointer, cache index: Int) {
    let magazine = unsafe magazine(index)
    let count = unsafe magazine.pointee.count
    // The commonest double free is seen at little cost: the object on top is freed again.
    guard unsafe count > 0 && count < cache(index).pointee.batch &* 2,
      unsafe magazine.pointee.objects[unchecked: count &- 1] != UInt(bitPattern: object)
    else { return unsafe freeObjectSlowly(object, index) }
    unsafe magazine.pointee.objects[unchecked: count] = UInt(bitPattern: object)
    unsafe magazine.pointee.count = count &+ 1
  }

  @inline(never)
  private func freeObjectSlowly(_ object: UnsafeMutableRawPointer, _ index: Int) {
    let magazine = unsafe magazine(index)
    var count = unsafe magazine.pointee.count
    if unsafe count > 0 && magazine.pointee.objects[count &- 1] == UInt(bitPattern: object) {
      fail("an object of the heap was freed twice")
    }
    if unsafe count >= cache(index).pointee.batch &* 2 { count = unsafe empty(magazine, into: index, count / 2) }
    unsafe magazine.pointee.objects[count] = UInt(bitPattern: object)
    unsafe magazine.pointee.count = count &+ 1
  }

  // MARK: Between magazines and slabs

  /// Moves a batch of objects into an empty magazine; how many it has then.
  @inline(never)
  private func fill(_ magazine: UnsafeMutablePointer<Magazine>, from index: Int, _ options: AllocationOptions) -> Int {
    let cache = unsafe cache(index)
    unsafe cache.pointee.lock.acquire()
    defer { unsafe cache.pointee.lock.release() }
    let batch = unsafe cache.pointee.batch
    var count = 0
    while count < batch {
      if unsafe cache.pointee.partial == 0 {
        // What is there already will do; a new slab is made for the first object only.
        guard count == 0, unsafe addSlab(cache, index, options) else { break }
      }
      let number = unsafe UInt64(cache.pointee.partial)
      let slab = unsafe descriptor(number)
      let capacity = unsafe cache.pointee.quotient(Self.pageSize << Int(slab.pointee.order))
      while count < batch, unsafe slab.pointee.objectsInUse < capacity {
        unsafe magazine.pointee.objects[count] = takeObject(of: slab, number, cache.pointee.objectSize)
        count &+= 1
      }
      if unsafe slab.pointee.objectsInUse == capacity { unsafe unlinkPartial(cache, slab) }
    }
    unsafe cache.pointee.takenCount &+= count
    unsafe magazine.pointee.count = count
    return count
  }

  /// Moves the `amount` objects that have been in the magazine longest to their slabs; how many it has then. Slabs that
  /// become empty are freed, except the last one with free objects.
  @inline(never)
  private func empty(_ magazine: UnsafeMutablePointer<Magazine>, into index: Int, _ amount: Int) -> Int {
    let cache = unsafe cache(index)
    let total = unsafe magazine.pointee.count
    unsafe cache.pointee.lock.acquire()
    for place in 0..<amount { unsafe returnObject(magazine.pointee.objects[place], cache) }
    unsafe cache.pointee.takenCount &-= amount
    unsafe cache.pointee.lock.release()
    for place in amount..<total { unsafe magazine.pointee.objects[place &- amount] = magazine.pointee.objects[place] }
    unsafe magazine.pointee.count = total &- amount
    return total &- amount
  }

  @inline(__always)
  private func takeObject(of slab: UnsafeMutablePointer<FrameDescriptor>, _ number: UInt64, _ size: Int) -> UInt {
    let object: UInt
    if unsafe slab.pointee.owner != 0 {
      object = unsafe slab.pointee.owner
      unsafe slab.pointee.owner = UnsafePointer<UInt>(bitPattern: object).unsafelyUnwrapped.pointee
    } else {
      let carved = unsafe slab.pointee.objectsCarved
      object = unsafe UInt(bitPattern: pointer(to: PageFrameNumber(number)) + carved &* size)
      unsafe slab.pointee.objectsCarved = carved &+ 1
    }
    unsafe slab.pointee.objectsInUse &+= 1
    return object
  }

  private func returnObject(_ object: UInt, _ cache: UnsafeMutablePointer<SlabCacheState>) {
    let pointer = unsafe UnsafeMutableRawPointer(bitPattern: object).unsafelyUnwrapped
    let address = unsafe physicalAddress(of: pointer)
    var number = address >> Self.pageShift
    if unsafe descriptor(number).pointee.kind == .slabTail {
      number &= unsafe ~((1 << UInt64(descriptor(number).pointee.order)) &- 1)
    }
    let slab = unsafe descriptor(number)
    let offset = Int(truncatingIfNeeded: address &- number << Self.pageShift)
    guard unsafe slab.pointee.kind == .slab && slab.pointee.objectsInUse > 0,
      unsafe cache.pointee.quotient(offset) &* cache.pointee.objectSize == offset
    else { fail("a pointer that is no object of the heap was freed") }
    let capacity = unsafe cache.pointee.quotient(Self.pageSize << Int(slab.pointee.order))
    if unsafe slab.pointee.objectsInUse == capacity { unsafe linkPartial(cache, slab, number) }
    unsafe pointer.storeBytes(of: slab.pointee.owner, as: UInt.self)
    unsafe slab.pointee.owner = object
    unsafe slab.pointee.objectsInUse &-= 1
    if unsafe slab.pointee.objectsInUse == 0 && (slab.pointee.next != 0 || slab.pointee.previous != 0) {
      unsafe removeSlab(cache, slab, number)
    }
  }

  // MARK: Slabs

  private func addSlab(_ cache: UnsafeMutablePointer<SlabCacheState>, _ index: Int, _ options: AllocationOptions)
    -> Bool
  {
    // Memory may be in pieces: smaller slabs do as well, as long as an object fits.
    var order = unsafe cache.pointee.slabOrder
    let objectSize = unsafe cache.pointee.objectSize
    var found: Buddy.Block?
    while found == nil, order >= 0, Self.pageSize << order >= objectSize {
      do throws(Errno) {
        found = try takeBlock(order: order, options: options.intersection([.atomic, .reserved]))
      } catch {
        order &-= 1
      }
    }
    guard let block = found else { return false }
    for place in 0..<(1 << order) {
      let frame = unsafe descriptor(block.number) + place
      unsafe prepare(frame, order: order, references: 0)
      unsafe frame.pointee.kind = place == 0 ? .slab : .slabTail
      unsafe frame.pointee.cache = UInt8(truncatingIfNeeded: index)
    }
    unsafe cache.pointee.slabCount &+= 1
    unsafe cache.pointee.frameCount &+= 1 << order
    unsafe cache.pointee.objectCount &+= (Self.pageSize << order) / cache.pointee.objectSize
    unsafe linkPartial(cache, descriptor(block.number), block.number)
    return true
  }

  private func removeSlab(
    _ cache: UnsafeMutablePointer<SlabCacheState>, _ slab: UnsafeMutablePointer<FrameDescriptor>, _ number: UInt64
  ) {
    unsafe unlinkPartial(cache, slab)
    let order = unsafe Int(slab.pointee.order)
    for place in 0..<(1 << order) { unsafe (slab + place).pointee.kind = .unused }
    unsafe cache.pointee.slabCount &-= 1
    unsafe cache.pointee.frameCount &-= 1 << order
    unsafe cache.pointee.objectCount &-= (Self.pageSize << order) / cache.pointee.objectSize
    giveBack(number, order: order)
  }

  private func linkPartial(
    _ cache: UnsafeMutablePointer<SlabCacheState>, _ slab: UnsafeMutablePointer<FrameDescriptor>, _ number: UInt64
  ) {
    let head = unsafe cache.pointee.partial
    unsafe slab.pointee.next = head
    unsafe slab.pointee.previous = 0
    if head != 0 { unsafe descriptor(UInt64(head)).pointee.previous = UInt32(truncatingIfNeeded: number) }
    unsafe cache.pointee.partial = UInt32(truncatingIfNeeded: number)
  }

  private func unlinkPartial(
    _ cache: UnsafeMutablePointer<SlabCacheState>, _ slab: UnsafeMutablePointer<FrameDescriptor>
  ) {
    let next = unsafe slab.pointee.next
    let previous = unsafe slab.pointee.previous
    if previous != 0 {
      unsafe descriptor(UInt64(previous)).pointee.next = next
    } else {
      unsafe cache.pointee.partial = next
    }
    if next != 0 { unsafe descriptor(UInt64(next)).pointee.previous = previous }
    unsafe slab.pointee.next = 0
    unsafe slab.pointee.previous = 0
  }

  /// Gives this CPU's free objects back to their slabs, and all empty slabs to their zones.
  func trimCaches() {
    for index in 0..<(unsafe state.pointee.cacheCount.load(ordering: .acquiring)) {
      let magazine = unsafe magazine(index)
      _ = unsafe empty(magazine, into: index, magazine.pointee.count)
      let cache = unsafe cache(index)
      unsafe cache.pointee.lock.acquire()
      var next = unsafe UInt64(cache.pointee.partial)
      while next != 0 {
        let number = next
        let slab = unsafe descriptor(number)
        next = unsafe UInt64(slab.pointee.next)
        if unsafe slab.pointee.objectsInUse == 0 { unsafe removeSlab(cache, slab, number) }
      }
      unsafe cache.pointee.lock.release()
    }
  }
}

extension FrameDescriptor {
  /// Of a slab's first frame: objects in magazines or in use, and objects ever taken.
  var objectsInUse: Int {
    @inline(__always) get { Int(truncatingIfNeeded: index & 0xffff_ffff) }
    @inline(__always) set { index = index & ~0xffff_ffff | UInt64(truncatingIfNeeded: newValue) }
  }
  var objectsCarved: Int {
    @inline(__always) get { Int(truncatingIfNeeded: index >> 32) }
    @inline(__always) set { index = index & 0xffff_ffff | UInt64(truncatingIfNeeded: newValue) << 32 }
  }
}
