// The vDSO (vdso(7)): a shared object of the kernel's that every program finds mapped, with functions that read clocks
// without a system call. In front of it lies its data page. One memory object holds both for all programs, so no program may
// change it: the mappings are private, and mprotect(2) and debuggers cannot make them writable.

import KernelCore
import LinuxABI
import Machine
import VirtualMemory

public enum VDSO {
  private static let dataSource = NamedMapping("[vvar]")
  private static let codeSource = NamedMapping("[vdso]")

  /// The data page and the image, nil when the machine has no vDSO.
  private static let object: MemoryObject? = makeObject()
  private static let imageSize: UInt64 = unsafe image.map { UInt64($0.count) } ?? 0

  private static var image: UnsafeRawBufferPointer? {
    var size: UInt64 = 0
    guard let start = unsafe machine_vdso(&size), size != 0 else { return nil }
    // SAFETY: part of the kernel image.
    return unsafe UnsafeRawBufferPointer(start: start, count: Int(size))
  }

  private static func makeObject() -> MemoryObject? {
    guard let image = unsafe image else { return nil }
    let object = MemoryObject(store: nil, size: pageSize + UInt64(image.count), isSwappable: false)
    do throws(Errno) {
      // SAFETY: the image is never written to; the buffer is a source only.
      var buffer = unsafe TransferBuffer(
        kernel: UnsafeMutableRawBufferPointer(mutating: image))
      _ = try object.write(at: pageSize, &buffer)
      try write(to: object)
      return object
    } catch {
      return nil
    }
  }

  /// Mirrors struct vdso_data (Sources/vDSO/vdso.c).
  private static func write(to object: MemoryObject) throws(Errno) {
    let routine = unsafe BootParameters.info?.pointee.host_vdso_clock_gettime ?? 0
    var data = (
      routine, Int64(bitPattern: 0 &- Clock.boot.nanoseconds), Clock.realtimeOffset
    )
    try unsafe withUnsafeMutableBytes(of: &data) { bytes throws(Errno) in
      // SAFETY: the tuple outlives the call.
      var buffer = unsafe TransferBuffer(kernel: bytes)
      _ = try object.write(at: 0, &buffer)
    }
  }

  /// Tells running programs that a clock was set.
  @export(interface)
  public static func clockWasSet() {
    if let object { try? write(to: object) }
  }

  /// Maps the vDSO into a new program.
  ///
  /// - Returns: the address of its ELF header, 0 when there is none.
  static func map(into space: AddressSpace) throws(Errno) -> UInt64 {
    guard let object else { return 0 }
    let base = try space.map(
      at: 0, length: pageSize + imageSize, protection: .read, maximum: .read, flags: [], object: object,
      source: dataSource)
    let code: Protection = [.read, .execute]
    _ = try space.map(
      at: base + pageSize, length: imageSize, protection: code, maximum: code, flags: .fixed, object: object,
      offset: pageSize, source: codeSource)
    return base + pageSize
  }
}
