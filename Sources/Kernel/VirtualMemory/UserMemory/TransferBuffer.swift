// The caller's side of input and output: user memory in one piece or several, or kernel memory. It is consumed from the
// front, so "how far did we get" is `remaining` and needs no second count.

import KernelCore
import LinuxABI

/// The source of a write or the target of a read.
@safe public struct TransferBuffer {
  /// Bytes that are left, over all pieces.
  public private(set) var remaining: Int
  /// The piece at the front: an address in `space`, or in the kernel when there is none.
  private var address: UInt64
  private var pieceRemaining: Int
  private var pieces: [(address: UInt64, count: Int)] = []
  private var nextPiece = 0
  private let space: AddressSpace?
  private let isKernel: Bool

  /// One piece of the memory of `space`, by default the calling thread's.
  @export(interface)
  public init(user address: UInt64, count: Int, in space: AddressSpace? = AddressSpace.current) {
    self.address = address
    self.space = space
    isKernel = false
    remaining = max(0, count)
    pieceRemaining = remaining
  }

  /// Several pieces. Counts that are negative, or whose sum overflows, are the caller's to refuse (EINVAL); here they
  /// count as empty.
  @export(interface)
  public init(userVectors pieces: [(UInt64, Int)], in space: AddressSpace? = AddressSpace.current) {
    self.space = space
    isKernel = false
    address = 0
    pieceRemaining = 0
    remaining = 0
    self.pieces.reserveCapacity(pieces.count)
    for (address, count) in pieces where count > 0 {
      let (sum, overflow) = remaining.addingReportingOverflow(count)
      if overflow { break }
      remaining = sum
      self.pieces.append((address, count))
    }
  }

  /// Kernel memory, which stays valid while the buffer is used.
  @export(interface)
  public init(kernel buffer: UnsafeMutableRawBufferPointer) {
    space = nil
    isKernel = true
    address = UInt64(UInt(bitPattern: buffer.baseAddress))
    remaining = buffer.count
    pieceRemaining = remaining
  }

  /// The length of the piece at the front, 0 at the end.
  public var frontCount: Int {
    @export(interface) get {
      min(remaining, pieceRemaining > 0 || nextPiece >= pieces.count ? pieceRemaining : pieces[nextPiece].count)
    }
  }

  /// Makes at most `count` bytes remain; returns how many bytes this hides. Give them back with `extend`.
  @export(interface) @discardableResult
  public mutating func limit(to count: Int) -> Int {
    let hidden = max(0, remaining - max(0, count))
    remaining -= hidden
    return hidden
  }

  /// Undoes `limit`.
  @export(interface)
  public mutating func extend(by hidden: Int) { remaining += hidden }

  /// Runs `body`, which moves bytes, and returns how many it moved. What it throws counts only when that is none:
  /// read(2) and write(2) report partial progress.
  @inline(__always)
  public mutating func transfer(_ body: (inout TransferBuffer) throws(Errno) -> Void) throws(Errno) -> Int {
    let before = remaining
    do throws(Errno) { try body(&self) } catch {
      if remaining == before { throw error }
    }
    return before - remaining
  }

  /// Copies from the kernel into the buffer.
  ///
  /// - Throws: EFAULT; the buffer has advanced by what could be copied. EINVAL when `count` exceeds `remaining`.
  @export(interface)
  public mutating func copyOut(_ source: UnsafeRawPointer, count: Int) throws(Errno) {
    Counters.add(count, to: Counters.copiedBytes)
    try forEachPiece(count) { buffer, offset, count in
      if buffer.isKernel {
        // SAFETY: the creator vouched for the memory, and `count` is within it.
        unsafe UnsafeMutableRawPointer(bitPattern: UInt(buffer.address))?.copyMemory(
          from: source + offset, byteCount: count)
        return count
      }
      return unsafe buffer.space?.copyOut(to: buffer.address, from: source + offset, count: count) ?? 0
    }
  }

  /// Copies out of the buffer into the kernel.
  ///
  /// - Throws: as `copyOut`.
  @export(interface)
  public mutating func copyIn(_ target: UnsafeMutableRawPointer, count: Int) throws(Errno) {
    Counters.add(count, to: Counters.copiedBytes)
    try forEachPiece(count) { buffer, offset, count in
      if buffer.isKernel {
        // SAFETY: as above.
        if let source = unsafe UnsafeRawPointer(bitPattern: UInt(buffer.address)) {
          unsafe (target + offset).copyMemory(from: source, byteCount: count)
        }
        return count
      }
      return unsafe buffer.space?.copyIn(from: buffer.address, count: count, to: target + offset) ?? 0
    }
  }

  /// Writes zeros into the buffer.
  ///
  /// - Throws: as `copyOut`.
  @export(interface)
  public mutating func clear(count: Int) throws(Errno) {
    try forEachPiece(count) { buffer, _, count in
      if buffer.isKernel {
        // SAFETY: as above.
        _ = unsafe UnsafeMutableRawPointer(bitPattern: UInt(buffer.address))?.initializeMemory(
          as: UInt8.self, repeating: 0, count: count)
        return count
      }
      return buffer.space?.clear(at: buffer.address, count: count) ?? 0
    }
  }

  /// Copies bytes into the buffer.
  @export(interface)
  public mutating func copyOut(_ bytes: [UInt8]) throws(Errno) {
    var failure: Errno?
    unsafe bytes.withUnsafeBytes { source in
      guard let base = source.baseAddress else { return }
      // SAFETY: the pointer is valid for `count` bytes during the call.
      do throws(Errno) { try unsafe copyOut(base, count: source.count) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  @export(interface)
  public mutating func copyOut(_ text: ByteString) throws(Errno) { try copyOut(text.bytes) }

  /// Copies the next `count` bytes of the buffer into a new array.
  @export(interface)
  public mutating func copyIn(count: Int) throws(Errno) -> [UInt8] {
    guard count >= 0, count <= remaining else { throw .EINVAL }
    var bytes = [UInt8](repeating: 0, count: count)
    var failure: Errno?
    unsafe bytes.withUnsafeMutableBytes { target in
      guard let base = target.baseAddress else { return }
      // SAFETY: as above.
      do throws(Errno) { try unsafe copyIn(base, count: target.count) } catch { failure = error }
    }
    if let failure { throw failure }
    return bytes
  }

  /// Whether it is memory of a program, whose pages can be pinned.
  public var isUserMemory: Bool { @export(interface) get { space != nil && !isKernel } }

  /// Whether all pieces begin at a multiple of `unit`, a power of two, and have such a length.
  @export(interface)
  public func isAligned(to unit: Int) -> Bool {
    var bits = address | UInt64(pieceRemaining)
    for index in nextPiece..<max(pieces.count, nextPiece) {
      bits |= pieces[index].address | UInt64(pieces[index].count)
    }
    return bits & UInt64(unit - 1) == 0
  }

  /// Calls `body` for each piece of user memory that remains, until it answers false. Nothing is consumed.
  func forEachUserPiece(
    _ body: (AddressSpace, _ address: UInt64, _ count: Int) throws(Errno) -> Bool
  ) throws(Errno) {
    guard let space, !isKernel else { throw .EFAULT }
    var left = remaining
    var piece = (address: address, count: pieceRemaining)
    var next = nextPiece
    while left > 0 {
      let count = min(piece.count, left)
      if count > 0, !(try body(space, piece.address, count)) { return }
      left -= count
      guard left > 0, next < pieces.count else { return }
      piece = pieces[next]
      next += 1
    }
  }

  /// Passes over `count` bytes.
  mutating func skip(_ count: Int) throws(Errno) { try forEachPiece(count) { _, _, count in count } }

  /// Calls `body` for each piece's part of the next `count` bytes with the offset within them; it answers how many bytes
  /// it could do.
  @inline(__always)
  private mutating func forEachPiece(
    _ count: Int, _ body: (borrowing TransferBuffer, Int, Int) -> Int
  ) throws(Errno) {
    guard count >= 0, count <= remaining else { throw .EINVAL }
    var offset = 0
    while offset < count {
      while pieceRemaining == 0 {
        guard nextPiece < pieces.count else { throw .EINVAL }
        (address, pieceRemaining) = pieces[nextPiece]
        nextPiece += 1
      }
      let part = min(count - offset, pieceRemaining)
      let done = body(self, offset, part)
      // Wrapping: the address of a piece at the very end of the space is never used again.
      address = address &+ UInt64(done)
      pieceRemaining -= done
      remaining -= done
      offset += done
      if done < part { throw .EFAULT }
    }
  }
}
