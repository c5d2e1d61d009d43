// procfs: the file system of /proc. It sits above everything that it shows and reads snapshots: no room below knows that
// it exists. The root holds the files about the system, `self`, and a directory for each process.

import FileSystem
import KernelCore
import LinuxABI
import Process

/// The file system type "proc".
public enum Procfs {
  /// Announces the type; mount(2) makes instances, which differ in whose processes they show.
  @export(interface)
  public static func register() {
    FileSystemTypes.register("proc") { source, options, _ throws(Errno) in
      ProcSuperblock(source: source, try ProcOptions(options))
    }
  }
}

/// A mounted procfs.
final class ProcSuperblock: Superblock {
  private let optionStorage: SpinLock<ProcOptions>

  init(source: ByteString, _ options: ProcOptions) {
    optionStorage = SpinLock(options, rank: .inode)
    super.init(typeName: "proc", source: source.isEmpty ? "proc" : source)
    setRoot(ProcRoot(self))
  }

  var options: ProcOptions { optionStorage.withLock { $0 } }
  override var shownOptions: ByteString { options.text }

  override func remount(options text: ByteString) throws(Errno) {
    let new = try ProcOptions(text)
    optionStorage.withLock { $0 = new }
  }

  /// PROC_SUPER_MAGIC (statfs(2)).
  override func statistics() throws(Errno) -> FileSystemStatistics { FileSystemStatistics(magic: 0x9fa0) }
}

/// The root directory.
final class ProcRoot: ProcFixedDirectory {
  init(_ superblock: Superblock) { super.init(superblock, 1, SystemFiles.entries) }

  override var linkCount: UInt64 { UInt64(ProcessTable.counters().processes) + 2 }

  override func lookup(_ name: ByteString) throws(Errno) -> Inode {
    guard let identifier = ProcName.identifier(name) else { return try super.lookup(name) }
    // A thread that is no leader can be reached by its number too, but is not listed (proc(5), /proc/tid).
    let reference = try TaskReference(identifier, as: .process)
    guard !reference.isHidden(on: superblock, from: .presence) else { throw .ENOENT }
    return ProcessDirectory(superblock, reference)
  }

  override func readDirectory(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    var cookie = cookie
    if cookie < lastCookie {
      var isFull = false
      try super.readDirectory(from: cookie) { entry in
        isFull = !emit(entry)
        return !isFull
      }
      if isFull { return }
      cookie = lastCookie
    }
    let options = (superblock as? ProcSuperblock)?.options
    for process in ProcessTable.processes() where lastCookie + UInt64(process.pid) > cookie {
      if let options, options.hiding != .off {
        guard let reference = try? TaskReference(process.pid, as: .process),
          !options.hides(reference, from: .presence)
        else { continue }
      }
      let entry = DirectoryEntry(
        name: ProcName.of(process.pid), number: TaskReference.number(process.pid, .process), kind: .directory,
        cookie: lastCookie + UInt64(process.pid))
      guard emit(entry) else { return }
    }
  }
}

/// Names that are numbers.
enum ProcName {
  static func of(_ identifier: Int32) -> ByteString {
    var text = TextBuffer()
    text.append(signed: Int64(identifier))
    return text.byteString
  }

  /// The number that a name spells; nil for anything else, leading zeros included.
  static func identifier(_ name: ByteString) -> Int32? {
    guard let value = name.decimal(), name.bytes[0] != 0x30 || name.count == 1 else { return nil }
    return Int32(exactly: value)
  }
}
