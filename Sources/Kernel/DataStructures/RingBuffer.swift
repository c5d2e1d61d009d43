// A queue of bytes of fixed capacity: what a terminal or a pipe holds between a writer and a reader. Positions count
// all bytes ever written and read, and are reduced to a place in the storage only when it is touched; the buffer is
// empty when they are equal, and full when they differ by the capacity.

/// A first-in, first-out buffer of bytes. The caller provides for mutual exclusion.
@safe public final class RingBuffer {
  private let storage: UnsafeMutableRawPointer
  /// The most bytes that fit, a power of two.
  public let capacity: Int
  private var written: UInt = 0
  private var consumed: UInt = 0

  /// A buffer of at least `minimumCapacity` bytes, rounded up to a power of two.
  @export(interface) public init(minimumCapacity: Int) {
    precondition(minimumCapacity > 0 && minimumCapacity <= 1 << 40)
    var size = 16
    while size < minimumCapacity { size <<= 1 }
    capacity = size
    // SAFETY: owned by this object until deinit; never handed out.
    unsafe storage = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
  }

  deinit { unsafe storage.deallocate() }

  /// The number of bytes waiting to be read.
  public var count: Int { Int(bitPattern: written &- consumed) }
  /// The number of bytes that can be written now.
  public var freeCount: Int { capacity &- count }
  public var isEmpty: Bool { written == consumed }
  public var isFull: Bool { count == capacity }

  /// Writes as many of the bytes as fit; returns how many.
  @export(interface) public func write(_ bytes: UnsafeRawBufferPointer) -> Int {
    let amount = min(bytes.count, freeCount)
    guard amount > 0, let source = bytes.baseAddress else { return 0 }
    let place = Int(bitPattern: written) & (capacity &- 1)
    let front = min(amount, capacity &- place)
    // SAFETY: place + front <= capacity, and the second part starts over at 0 with fewer than capacity bytes.
    unsafe storage.advanced(by: place).copyMemory(from: source, byteCount: front)
    if front < amount {
      unsafe storage.copyMemory(from: source.advanced(by: front), byteCount: amount &- front)
    }
    written &+= UInt(bitPattern: amount)
    return amount
  }

  /// Writes one byte; false when the buffer is full.
  @export(interface) public func write(_ byte: UInt8) -> Bool {
    guard !isFull else { return false }
    // SAFETY: the offset is below the capacity.
    unsafe storage.storeBytes(of: byte, toByteOffset: Int(bitPattern: written) & (capacity &- 1), as: UInt8.self)
    written &+= 1
    return true
  }

  /// Copies out up to `bytes.count` bytes, from `offset` bytes behind the oldest, and leaves them; returns how many.
  @export(interface) public func peek(into bytes: UnsafeMutableRawBufferPointer, at offset: Int = 0) -> Int {
    guard offset >= 0, offset < count, let target = bytes.baseAddress else { return 0 }
    let amount = min(bytes.count, count &- offset)
    let place = (Int(bitPattern: consumed) &+ offset) & (capacity &- 1)
    let front = min(amount, capacity &- place)
    // SAFETY: as in write.
    unsafe target.copyMemory(from: storage.advanced(by: place), byteCount: front)
    if front < amount {
      unsafe target.advanced(by: front).copyMemory(from: storage, byteCount: amount &- front)
    }
    return amount
  }

  /// Moves up to `bytes.count` bytes out; returns how many.
  @export(interface) public func read(into bytes: UnsafeMutableRawBufferPointer) -> Int {
    let amount = unsafe peek(into: bytes)
    consumed &+= UInt(bitPattern: amount)
    return amount
  }

  /// Takes out the oldest byte.
  @export(interface) public func readByte() -> UInt8? {
    guard !isEmpty else { return nil }
    let byte = self[0]
    consumed &+= 1
    return byte
  }

  /// The byte at `offset` behind the oldest.
  public subscript(offset: Int) -> UInt8 {
    @export(interface) get {
      precondition(offset >= 0 && offset < count)
      // SAFETY: the offset is below the capacity.
      return unsafe storage.load(
        fromByteOffset: (Int(bitPattern: consumed) &+ offset) & (capacity &- 1), as: UInt8.self)
    }
  }

  /// Takes back the youngest byte (a terminal's erase).
  @export(interface) public func removeLast() -> UInt8? {
    guard !isEmpty else { return nil }
    let byte = self[count &- 1]
    written &-= 1
    return byte
  }

  /// Drops up to `amount` of the oldest bytes.
  @export(interface) public func discard(_ amount: Int) {
    consumed &+= UInt(bitPattern: max(0, min(amount, count)))
  }

  /// The oldest bytes that lie side by side, for a consumer that takes them in place and then calls `discard`.
  public func withContiguousBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    let place = Int(bitPattern: consumed) & (capacity &- 1)
    // SAFETY: the range ends at the end of the storage or of what was written.
    return try unsafe body(
      UnsafeRawBufferPointer(start: storage.advanced(by: place), count: min(count, capacity &- place)))
  }

  /// Drops everything.
  @export(interface) public func removeAll() { consumed = written }
}
