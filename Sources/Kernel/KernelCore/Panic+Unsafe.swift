// The end of the kernel (panic) and of a thread that hit a kernel bug (oops). Both print the reason and a backtrace by
// return addresses, relative to the image; `apus` turns them into names with the image's own symbol table.
//
// A panic takes no lock and allocates nothing, because it may come from within the heap or the log. The first CPU that
// panics ends the machine; another one that panics meanwhile stops, and a bug within a panic ends the machine at once.

import Machine
import Synchronization

/// Ends the kernel: prints `message` and a backtrace, and stops the machine with status 125.
@export(interface)
public func panic(_ message: StaticString) -> Never { panic { line in line.append(message) } }

/// The same, with a message of several parts.
@export(interface)
public func panic(_ describe: (inout ConsoleLine) -> Void) -> Never {
  Panic.begin()
  var line = ConsoleLine("apus: kernel panic: ")
  describe(&line)
  line.print()
  Backtrace.print(from: Backtrace.framePointer())
  Panic.end()
}

/// What happens on a kernel bug in a thread.
public enum Panic {
  /// The exit status of a panicking machine, "failure of Apus itself".
  public static let exitStatus = 125

  /// Installed by Scheduling: ends the current thread, which hit a kernel bug; nil before threads exist.
  public nonisolated(unsafe) static var endThread: (() -> Void)?

  /// 1 + the index of the CPU that panics; 0 while none does.
  private static let owner = Atomic<Int>(0)

  /// Makes this CPU the one that ends the machine. Returns on one CPU, and once.
  @export(interface)
  public static func begin() {
    let own = CPU.currentIndex &+ 1
    let (isFirst, first) = owner.compareExchange(expected: 0, desired: own, ordering: .acquiringAndReleasing)
    if isFirst { return }
    if first == own { end() }
    stop()
  }

  /// Ends the machine if this CPU is panicking already, and stops this CPU if another one is. The first thing that the
  /// handler of kernel traps does: a panic that traps must not come back to itself.
  @export(interface)
  public static func endIfPanicking() {
    if owner.load(ordering: .acquiring) != 0 { begin() }
  }

  static func end() -> Never {
    machine_power_off(UInt64(exitStatus) << 8)
    stop()
  }

  private static func stop() -> Never { while true { machine_idle(.max) } }
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
    var line = ConsoleLine(label)
    line.append(hex: address &- imageBase)
    line.print()
  }
}
