// The name of a mapped file in /proc/PID/maps, and the reference that keeps the file open while it is mapped.

import FileSystem
import KernelCore
import LinuxABI
import VirtualMemory

/// An open file as the source of mappings.
public final class FileMapping: MappingSource {
  private let file: OpenFile
  private let device: UInt64

  private init(_ file: OpenFile) {
    self.file = file
    device = (try? file.inode.attributes())?.device.encoded ?? 0
    file.acquire()
  }

  deinit { file.release() }

  /// The source for a mapping of `file`.
  @export(interface)
  public static func source(of file: OpenFile) -> FileMapping { FileMapping(file) }

  /// The file that an area maps; nil for memory that has none.
  @export(interface)
  public static func of(_ area: AreaSnapshot) -> FileMapping? { area.source as? FileMapping }

  public var path: Path { @export(interface) get { file.path } }
  public var flags: OpenFlags { @export(interface) get { file.flags } }

  public var mappingName: ByteString {
    @export(interface) get {
      if let name = file.displayName { return name }
      var name = PathWalk.describe(file.path, from: FileMapping.root(above: file.path)).text
      if file.path.dentry.isDeleted { name.append(" (deleted)") }
      return name
    }
  }

  /// The root of the tree in which a file lies: mapped files are named from there (proc(5), maps).
  private static func root(above path: Path) -> Path {
    var mount = path.mount
    while let above = MountNamespace.place(of: mount) { mount = above.mount }
    return Path(mount: mount, dentry: mount.root)
  }

  public var mappingDevice: UInt64 { @export(interface) get { device } }
  public var mappingInode: UInt64 { @export(interface) get { file.inode.number } }

  @export(interface)
  public func takeWriteError() -> Errno? { file.takeWriteError() }

  public var allowsHoles: Bool { @export(interface) get { file.inode.seals?.allowWriting ?? true } }
}

/// A mapping that the kernel makes, known by a fixed name such as "[vdso]".
final class NamedMapping: MappingSource {
  let mappingName: ByteString
  var mappingDevice: UInt64 { 0 }
  var mappingInode: UInt64 { 0 }

  init(_ name: ByteString) { mappingName = name }
}
