// The disks of a machine: opening their files, and everything that can be wrong with them.

import Devices
import Glibc

extension Monitor {
  /// Opens what `configuration` names: the disks, then those for swap.
  static func disks(_ configuration: MachineConfiguration) throws(MonitorFailure) -> [Disk] {
    var disks: [Disk] = []
    for (index, disk) in configuration.disks.enumerated() {
      let file = try open("--disk", disk.path, isReadOnly: disk.isReadOnly)
      guard file.byteCount >= 512 else {
        throw MonitorFailure("--disk: '\(disk.path)' is smaller than a sector of 512 bytes")
      }
      disks.append(Disk(file, identifier: "disk\(index)"))
    }
    for (index, swap) in configuration.swaps.enumerated() {
      disks.append(Disk(try openSwap(swap), identifier: "swap\(index)"))
    }
    return disks
  }

  private static func open(
    _ option: String, _ path: String, isReadOnly: Bool, newSize: UInt64? = nil
  ) throws(MonitorFailure) -> HostDisk {
    do throws(HostDisk.Failure) {
      return try HostDisk(path: path, isReadOnly: isReadOnly, newSize: newSize)
    } catch {
      throw failure(option, path, error, isReadOnly: isReadOnly)
    }
  }

  private static func failure(
    _ option: String, _ path: String, _ error: HostDisk.Failure, isReadOnly: Bool = false
  ) -> MonitorFailure {
    let what =
      switch error.code {
      case EMEDIUMTYPE: "is neither a regular file nor a block device"
      case EBUSY: "is in use by another process"
      case ENOENT where option == "--swap": "does not exist; give a size to make it, as in \(path):1G"
      case EISDIR: "is a directory"
      case EACCES, EPERM, EROFS:
        isReadOnly ? "may not be read" : "may not be written" + (option == "--disk" ? "; add :ro to only read it" : "")
      default: text(of: error.code)
      }
    return MonitorFailure("\(option): '\(path)' \(what)")
  }

  // MARK: Swap

  /// Opens a swap file. It must have a swap signature (mkswap(8)) or hold nothing yet, in which case it gets one: what
  /// somebody may still want to read is not overwritten.
  static func openSwap(_ swap: MachineConfiguration.Swap) throws(MonitorFailure) -> HostDisk {
    let file = try open("--swap", swap.path, isReadOnly: false, newSize: swap.size)
    if let size = swap.size, file.byteCount != size {
      throw MonitorFailure("--swap: '\(swap.path)' exists and has \(file.byteCount) bytes, not \(size)")
    }
    guard file.byteCount >= SwapHeader.leastSize else {
      throw MonitorFailure("--swap: '\(swap.path)' has \(file.byteCount) bytes; the least is \(SwapHeader.leastSize)")
    }
    do throws(HostDisk.Failure) {
      let beginning = try file.beginning(SwapHeader.examinedBytes)
      if SwapHeader.isSigned(beginning) { return file }
      if beginning.allSatisfy({ $0 == 0 }) {
        try file.write(SwapHeader.make(byteCount: file.byteCount), at: 0)
        return file
      }
    } catch {
      throw failure("--swap", swap.path, error)
    }
    throw MonitorFailure(
      "--swap: '\(swap.path)' holds something that is not swap space; if it may be lost, run mkswap on it")
  }
}

/// The first page of swap space, as mkswap(8) writes it (Linux: union swap_header).
enum SwapHeader {
  static let pageSize = 4096
  static let leastSize: UInt64 = 64 << 10
  /// Signatures of file systems are found in so many bytes.
  static let examinedBytes = 128 << 10
  private static let signature = Array("SWAPSPACE2".utf8)
  private static let signaturePlace = pageSize - signature.count
  private static let versionPlace = 1024

  static func isSigned(_ beginning: [UInt8]) -> Bool {
    beginning.count >= pageSize && beginning[signaturePlace..<pageSize].elementsEqual(signature)
  }

  /// The header of a new swap area: version 1, the number of its last page, no bad pages.
  static func make(byteCount: UInt64) -> [UInt8] {
    var page = [UInt8](repeating: 0, count: pageSize)
    let lastPage = UInt32(clamping: byteCount / UInt64(pageSize) - 1)
    page[versionPlace] = 1
    for byte in 0..<4 { page[versionPlace + 4 + byte] = UInt8(truncatingIfNeeded: lastPage >> UInt32(8 * byte)) }
    page.replaceSubrange(signaturePlace..., with: signature)
    return page
  }
}
