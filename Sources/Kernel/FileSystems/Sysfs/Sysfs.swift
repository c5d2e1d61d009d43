// sysfs: the file system of /sys. It shows what the machine consists of: today its CPUs and its memory nodes, which is
// what lscpu(1), numactl(8) and libraries that count CPUs look at.

import FileSystem
import KernelCore
import LinuxABI

/// The file system type "sysfs".
public enum Sysfs {
  /// Announces the type; mount(2) makes instances, all of which show the same.
  @export(interface)
  public static func register() {
    FileSystemTypes.register("sysfs") { source, _, _ throws(Errno) in SysSuperblock(source: source) }
  }
}

/// A mounted sysfs.
final class SysSuperblock: Superblock {
  init(source: ByteString) {
    super.init(typeName: "sysfs", source: source.isEmpty ? "sysfs" : source)
    setRoot(SysDirectory(self, 1, SysTree.root))
  }

  /// SYSFS_MAGIC (statfs(2)).
  override func statistics() throws(Errno) -> FileSystemStatistics { FileSystemStatistics(magic: 0x6265_6572) }
}
