// /proc/PID/map_files (proc(5)): a magic link for each mapping of a file, named by its addresses.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// The directory. It is for those who may look into the process.
final class MappedFilesDirectory: ProcInode {
  private let reference: TaskReference
  private static let areasAtOnce = 32

  init(_ superblock: Superblock, _ number: UInt64, _ reference: TaskReference) {
    self.reference = reference
    super.init(superblock, number, .directory, 0o500, reference)
  }

  override func lookup(_ name: ByteString) throws(Errno) -> Inode {
    try reference.requireAccess()
    guard let range = MappedFileName.range(name) else { throw .ENOENT }
    let reference = reference
    let file = try Self.file(reference, range)
    let flags = file.flags
    let permissions: UInt32 = (flags.allowsReading ? 0o400 : 0) | (flags.allowsWriting ? 0o200 : 0)
    let place = { () throws(Errno) in
      // A mapping may be all that a program was given of a file.
      guard let credentials = Task.running?.credentials,
        credentials.has(.systemAdministration) || credentials.has(.checkpointRestore)
      else { throw .EPERM }
      return try Self.file(reference, range).path
    }
    return ProcLink(
      superblock, number(of: range.lowerBound), permissions: permissions, of: reference, size: 64, place: place
    ) { () throws(Errno) in try Self.file(reference, range).mappingName }
  }

  override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    try reference.requireAccess()
    guard let space = try ProcessText.space(reference) else { return }
    // The cookie of an area is the number of the page behind it, and 2.
    var position = max(2, cookie) &- 2
    while true {
      let areas = space.areas(from: position &* pageSize, limit: Self.areasAtOnce)
      for area in areas {
        position = area.end / pageSize
        guard FileMapping.of(area) != nil else { continue }
        let entry = DirectoryEntry(
          name: MappedFileName.of(area.start..<area.end), number: number(of: area.start), kind: .symbolicLink,
          cookie: position &+ 2)
        guard emit(entry) else { return }
      }
      if areas.count < Self.areasAtOnce { return }
    }
  }

  private func number(of address: UInt64) -> UInt64 { 3 << 61 | number << 20 ^ address / pageSize }

  /// The file that is mapped at exactly these addresses.
  private static func file(_ reference: TaskReference, _ range: Range<UInt64>) throws(Errno) -> FileMapping {
    guard let area = try ProcessText.space(reference)?.areas(from: range.lowerBound, limit: 1).first,
      area.start == range.lowerBound, area.end == range.upperBound, let file = FileMapping.of(area)
    else { throw .ENOENT }
    return file
  }
}

/// The name of a mapping.
enum MappedFileName {
  static func of(_ range: Range<UInt64>) -> ByteString {
    var text = TextBuffer()
    text.append(hex: range.lowerBound)
    text.append("-")
    text.append(hex: range.upperBound)
    return text.byteString
  }

  /// The addresses; nil for anything else, leading zeros and capitals included.
  static func range(_ name: ByteString) -> Range<UInt64>? {
    var values: [UInt64] = [0]
    for byte in name.bytes {
      switch byte {
      case 0x2d where values.count == 1: values.append(0)
      case 0x30...0x39, 0x61...0x66:
        let last = values.count - 1
        guard values[last] < 1 << 60 else { return nil }
        values[last] = values[last] << 4 | UInt64(byte < 0x61 ? byte - 0x30 : byte - 0x61 + 10)
      default: return nil
      }
    }
    guard values.count == 2, values[0] < values[1], of(values[0]..<values[1]) == name else { return nil }
    return values[0]..<values[1]
  }
}
