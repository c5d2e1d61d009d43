// The end of the kernel (panic) and of a thread that hit a kernel bug (oops). Both print the reason and a backtrace by
// return addresses, relative to the image; `apus` turns them into names with the image's own symbol table.

import Machine

/// Ends the kernel: prints `message` and a backtrace, and stops the machine with status 125.
@export(interface)
public func panic(_ message: String) -> Never {
  Log.console("apus: kernel panic: ")
  Log.console(ByteString(message))
  Log.console("\n")
  Backtrace.print(from: Backtrace.framePointer())
  machine_power_off(UInt64(Panic.exitStatus) << 8)
  while true { machine_idle(.max) }
}

/// What happens on a kernel bug in a thread.
public enum Panic {
  /// The exit status of a panicking machine, "failure of Apus itself".
  public static let exitStatus = 125

  /// Installed by Scheduling: ends the current thread, which hit a kernel bug; nil before threads exist.
  public nonisolated(unsafe) static var endThread: (() -> Void)?
}

/// Frame-pointer walks of kernel stacks.
public enum Backtrace {
  @inline(__always)
  public static func framePointer() -> UInt64 { machine_frame_pointer() }

  /// Prints the return addresses of the frames from `frame` upwards.
  ///
  /// A frame is believed only while it lies above the last one and within one kernel stack.
  @export(interface)
  public static func print(from frame: UInt64, at address: UInt64? = nil) {
    if let address { printAddress(address, "  at image+0x") }
    var frame = frame
    for _ in 0..<40 {
      guard frame != 0, frame % 8 == 0 else { return }
      // SAFETY: `frame` is the frame pointer of a live frame, or what such a frame saved, on a mapped kernel stack.
      let words = unsafe UnsafePointer<UInt64>(bitPattern: UInt(frame))!
      let next = unsafe words[0]
      let address = unsafe words[1]
      guard address >= imageBase, address < imageEnd else { return }
      printAddress(address, "  from image+0x")
      guard next > frame, next - frame < 32768 else { return }
      frame = next
    }
  }

  /// The image's address range, set at boot.
  public nonisolated(unsafe) static var imageBase: UInt64 = 0
  public nonisolated(unsafe) static var imageEnd: UInt64 = .max

  // The monitor knows these lines by their beginnings, and a return address by its "from".
  private static func printAddress(_ address: UInt64, _ label: StaticString) {
    var line = TextBuffer()
    line.append(label)
    line.append(hex: address &- imageBase)
    line.append("\n")
    Log.console(line.byteString)
  }
}
