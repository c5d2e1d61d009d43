// The FPU and vector registers of a thread, as an image in XSAVE's standard format (Intel SDM 1, 13.4). The machine
// keeps them; the kernel copies them out only to push a signal frame, and back for rt_sigreturn(2).

import KernelCore
import LinuxABI
import Machine
import VirtualMemory

/// An XSAVE image.
struct ExtendedState {
  var bytes: [UInt8]

  /// Bytes of an image on this machine.
  static var size: Int {
    // SAFETY: set at boot, never changed.
    guard let info = unsafe BootParameters.info else { return 576 }
    return max(576, Int(clamping: unsafe info.pointee.xstate_size))
  }

  /// Where the FXSAVE area has 48 bytes for software, and where the XSAVE header begins.
  static let softwareOffset = 464
  static let headerOffset = 512

  /// The state of a thread that has not touched a register: no component present, all exceptions masked.
  static let initial: ExtendedState = {
    var state = ExtendedState(bytes: [UInt8](repeating: 0, count: size))
    state.set(0x37f, at: 0)
    state.set(0x1f80, at: 24)
    return state
  }()

  /// The state of the machine's thread `user`; nil when the machine cannot tell.
  static func read(_ user: Int64) -> ExtendedState? {
    var bytes = [UInt8](repeating: 0, count: size)
    // SAFETY: the buffer has the size that is passed.
    let result = unsafe bytes.withUnsafeMutableBytes {
      unsafe machine_user_xstate_read(user, $0.baseAddress!, UInt64($0.count))
    }
    return result < 0 ? nil : ExtendedState(bytes: bytes)
  }

  /// Copies as much of an image as a program has at `address`; returns how many bytes that was. The rest is 0.
  static func copyIn(from address: UInt64, _ space: AddressSpace) -> (image: ExtendedState, count: Int) {
    var bytes = [UInt8](repeating: 0, count: size)
    // SAFETY: the buffer has the size that is passed.
    let count = unsafe bytes.withUnsafeMutableBytes {
      unsafe space.copyIn(from: address, count: $0.count, to: $0.baseAddress!)
    }
    return (ExtendedState(bytes: bytes), count)
  }

  /// Makes this the state of `user`.
  ///
  /// - Throws: EINVAL when the image is not one that the processor accepts.
  func write(_ user: Int64) throws(Errno) {
    // SAFETY: the machine reads `count` bytes and checks them.
    let result = unsafe bytes.withUnsafeBytes {
      unsafe machine_user_xstate_write(user, $0.baseAddress!, UInt64($0.count))
    }
    if result < 0 { throw .EINVAL }
  }

  /// The components which the image holds (XSTATE_BV).
  var components: UInt64 {
    get { word(at: ExtendedState.headerOffset) }
    set { set(newValue, at: ExtendedState.headerOffset) }
  }

  /// MXCSR's exception flags whose mask bit is clear.
  var unmaskedExceptions: UInt32 {
    let control = UInt32(truncatingIfNeeded: word(at: 24))
    return control & ~(control >> 7) & 0x3f
  }

  /// Zeroes all bytes from `offset` on.
  mutating func clear(from offset: Int) {
    for index in offset..<bytes.count { bytes[index] = 0 }
  }

  func word(at offset: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in (0..<8).reversed() { value = value << 8 | UInt64(bytes[offset + index]) }
    return value
  }

  mutating func set(_ value: UInt64, at offset: Int) {
    for index in 0..<8 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
  }
}
