// The file tree that the command finds: the exported root directory of the host, as it is or below a memory overlay, with
// the kernel's own file systems and the bound directories mounted on it.

import Devtmpfs
import FileSystem
import Identity
import KernelCore
import LinuxABI
import Overlay
import Tmpfs

enum RootFileSystem {
  /// Mounts everything; the result is the namespace of the first process.
  static func mount() throws(StartUpFailure) -> MountNamespace {
    let root = try attempt("mounting the root directory") { () throws(Errno) in try makeRoot() }
    let namespace = MountNamespace(root: root)
    let superuser = Caller(
      credentials: Credentials(user: 0, group: 0), umask: 0, root: namespace.rootPath,
      workingDirectory: namespace.rootPath)
    for system in systems { try mount(system, in: namespace, by: superuser) }
    for bind in BootParameters.values("bind") { try mountBind(bind, in: namespace, by: superuser) }
    return namespace
  }

  // MARK: The root

  private static func makeRoot() throws(Errno) -> Superblock {
    if BootParameters.value("root") == ByteString("virtiofs") {
      return try FileSystemTypes.mount("virtiofs", source: "root", options: ByteString(), flags: [])
    }
    // The lower layer must not change anyway while it is part of an overlay (Linux: overlayfs.rst, "Changes to
    // underlying filesystems"), so what the host said once is believed for the whole run.
    let lower = try FileSystemTypes.mount("virtiofs", source: "root", options: "cache=always", flags: [.readOnly])
    var options: ByteString = "mode=755"
    if let size = BootParameters.value("overlay-size") { options = options + ",size=" + size }
    let upper = try FileSystemTypes.mount("tmpfs", source: "overlay", options: options, flags: [])
    guard let lowerRoot = lower.root.inode, let upperRoot = upper.root.inode else { throw .EIO }
    // The overlay shows the lower root's attributes until the first change; the upper root takes them over.
    let attributes = try lowerRoot.attributes()
    try upperRoot.setAttributes(
      AttributeChange(
        permissions: attributes.permissions, user: attributes.owner.user, group: attributes.owner.group,
        accessTime: attributes.accessTime, modifyTime: attributes.modifyTime))
    return try OverlaySuperblock(upper: upperRoot, lower: lowerRoot, description: ",lowerdir=host,upperdir=memory")
  }

  // MARK: The kernel's own file systems

  private struct System {
    var type: ByteString
    var place: ByteString
    var options = ByteString()
    var flags: MountFlags = []
  }

  private static var systems: [System] {
    let safe: MountFlags = [.noSetID, .noDevices, .noExecute]
    return [
      System(type: "proc", place: "/proc", flags: safe),
      System(type: "sysfs", place: "/sys", flags: safe),
      System(type: "devtmpfs", place: "/dev", flags: [.noSetID]),
      System(type: "devpts", place: "/dev/pts", flags: [.noSetID, .noExecute]),
      System(type: "tmpfs", place: "/dev/shm", options: "mode=1777", flags: [.noSetID, .noDevices]),
    ]
  }

  /// Mounts one of them. A root without the directory goes without it, unless it can be made.
  private static func mount(
    _ system: System, in namespace: MountNamespace, by caller: Caller
  ) throws(StartUpFailure) {
    let place: Path
    do throws(Errno) { place = try makePlace(system.place, in: namespace, by: caller) } catch {
      Log.info("\(system.place.string) is not mounted: the root has no such directory")
      return
    }
    try attempt("mounting \(system.place.string)") { () throws(Errno) in
      let superblock = try FileSystemTypes.mount(
        system.type, source: system.type, options: system.options, flags: system.flags)
      try namespace.attach(Mount(superblock: superblock, flags: system.flags), at: place)
    }
  }

  // MARK: Bound directories

  /// `bind=TAG:PATH:ro|rw`. The path may contain colons.
  private static func mountBind(
    _ bind: ByteString, in namespace: MountNamespace, by caller: Caller
  ) throws(StartUpFailure) {
    let parts = bind.split(separator: 0x3a)
    guard parts.count >= 3 else { throw StartUpFailure(sentence: "bad boot parameter bind=\(bind.string)") }
    let place = ByteString(bind.bytes[(parts[0].count + 1)..<(bind.count - parts[parts.count - 1].count - 1)])
    let flags: MountFlags = parts[parts.count - 1] == ByteString("ro") ? [.readOnly] : []
    try attempt("binding \(place.string)") { () throws(Errno) in
      let superblock = try FileSystemTypes.mount("virtiofs", source: parts[0], options: ByteString(), flags: flags)
      let target = try makePlace(place, in: namespace, by: caller)
      try namespace.attach(Mount(superblock: superblock, flags: flags), at: target)
    }
  }

  // MARK: Places

  /// Finds a directory to be mounted on. What is missing is made in the sandbox only: in a directory of the host stands a
  /// placeholder, so that nothing of it is left there; one with other directories in it is a small tmpfs.
  private static func makePlace(
    _ place: ByteString, in namespace: MountNamespace, by caller: Caller
  ) throws(Errno) -> Path {
    let components = place.split(separator: 0x2f).filter { !$0.isEmpty }
    var prefix = ByteString()
    var directory = caller.root
    for (index, component) in components.enumerated() {
      prefix = prefix + "/" + component
      do throws(Errno) {
        if directory.inode.superblock.isOnHost {
          let content = try placeholder()
          directory = try FileTree.makePlaceholder(prefix, content, by: caller)
          if index == components.count - 1 { break }
          try namespace.attach(Mount(superblock: content.superblock, flags: []), at: directory)
        } else {
          try FileTree.makeDirectory(prefix, permissions: 0o755, by: caller)
        }
      } catch .EEXIST {}
      directory = try PathWalk.resolve(prefix, [.directory], by: caller)
    }
    return directory
  }

  private static func placeholder() throws(Errno) -> Inode {
    let superblock = try FileSystemTypes.mount("tmpfs", source: "none", options: "mode=755,size=1m", flags: [])
    guard let directory = superblock.root.inode else { throw .EIO }
    return directory
  }

  private static func attempt<Result>(
    _ what: String, _ body: () throws(Errno) -> Result
  ) throws(StartUpFailure) -> Result {
    do throws(Errno) {
      return try body()
    } catch {
      throw StartUpFailure(sentence: "\(what) failed: \(error.words)")
    }
  }
}
