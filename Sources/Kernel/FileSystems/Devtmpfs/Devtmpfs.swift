// /dev: a tmpfs that is filled with a node for every registered device when it is mounted, and with the links
// and directories that programs expect there. Devices that appear later add their node through `addNodes`.

import FileSystem
import KernelCore
import LinuxABI

/// The type "devtmpfs".
public enum Devtmpfs {
  /// Announces the type to mount(2), and the memory devices. The type "tmpfs" must be registered as well: it keeps the
  /// nodes.
  @export(interface)
  public static func register() {
    MemoryDevices.register()
    FileSystemTypes.register("devtmpfs") { (source, options, flags) throws(Errno) -> Superblock in
      let text = options.isEmpty ? ByteString("mode=755") : ByteString("mode=755,") + options
      let superblock = try FileSystemTypes.mount("tmpfs", source: source, options: text, flags: flags)
      do throws(Errno) {
        guard let root = superblock.root.inode else { throw .EIO }
        try addNodes(to: root)
        try addLinks(to: root)
      } catch {
        superblock.discard()
        throw error
      }
      return superblock
    }
  }

  /// Adds the nodes of devices that the directory does not have yet.
  @export(interface)
  public static func addNodes(to root: Inode) throws(Errno) {
    for device in DeviceFiles.all() {
      guard let name = device.name else { continue }
      try root.withLock { () throws(Errno) in
        if (try? root.lookup(name)) != nil { return }
        _ = try root.makeNode(
          name, kind: device.kind, permissions: device.permissions, device: device.number, owner: .root)
      }
    }
  }

  private static func addLinks(to root: Inode) throws(Errno) {
    let links: [(ByteString, ByteString)] = [
      ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
      ("stderr", "/proc/self/fd/2"), ("core", "/proc/kcore"),
    ]
    for (name, target) in links { _ = try root.makeSymbolicLink(name, target: target, owner: .root) }
    _ = try root.makeDirectory("shm", permissions: 0o1777, owner: .root)
    _ = try root.makeDirectory("pts", permissions: 0o755, owner: .root)
    _ = try root.makeDirectory("mqueue", permissions: 0o1777, owner: .root)
  }
}
