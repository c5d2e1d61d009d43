// swapon(2), swapoff(2).

import Block
import FileSystem
import Identity
import LinuxABI
import Process
import VirtualMemory

/// Calls about swap areas.
public enum SwapCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(
        167, "swapon", .partial("block devices only; freed pages are not discarded one by one"), "path:s flags:x",
        swapOn),
      SystemCall(168, "swapoff", .full, "path:s", swapOff),
    ]
  }

  static func swapOn(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = UInt32(truncatingIfNeeded: frame.a1)
    let known =
      SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK | SWAP_FLAG_DISCARD | SWAP_FLAG_DISCARD_ONCE | SWAP_FLAG_DISCARD_PAGES
    guard flags & ~known == 0 else { throw .EINVAL }
    guard frame.caller.credentials.has(.systemAdministration) else { throw .EPERM }
    let area = try SwapDisk(try device(&frame))
    if flags & SWAP_FLAG_DISCARD != 0, flags & SWAP_FLAG_DISCARD_PAGES == 0 {
      // The pages of an area in use are not to be lost.
      guard !SwapSpace.statistics().contains(where: { $0.name == area.swapName }) else { throw .EBUSY }
      // It saves space and is not needed for anything.
      try? area.discard()
    }
    try SwapSpace.enable(
      area, priority: flags & SWAP_FLAG_PREFER != 0 ? Int(flags & SWAP_FLAG_PRIO_MASK) : nil)
    return 0
  }

  static func swapOff(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.caller.credentials.has(.systemAdministration) else { throw .EPERM }
    try SwapSpace.disable(SwapDisk.name(of: try device(&frame)))
    return 0
  }

  /// The disk that the path names.
  private static func device(_ frame: inout SystemCallFrame) throws(Errno) -> BlockDevice {
    let place = try PathWalk.resolve(try FileArguments.path(frame.a0), by: frame.caller)
    guard place.inode.kind == .blockDevice else { throw .EINVAL }
    guard let device = BlockDevices.find(try place.inode.attributes().specialDevice) else { throw .ENXIO }
    return device
  }
}
