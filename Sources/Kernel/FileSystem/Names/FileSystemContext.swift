// Where a process stands in the file tree; threads made with CLONE_FS share it.

import KernelCore
import LinuxABI

/// Root, working directory, file creation mask and mount namespace.
public final class FileSystemContext {
  private struct State {
    var root: Path
    var workingDirectory: Path
    var umask: UInt32
    var namespace: MountNamespace
  }
  private let state: SpinLock<State>

  @export(interface)
  public init(root: Path, workingDirectory: Path, umask: UInt32 = 0o022, namespace: MountNamespace) {
    root.mount.enter()
    workingDirectory.mount.enter()
    state = SpinLock(
      State(root: root, workingDirectory: workingDirectory, umask: umask, namespace: namespace), rank: .fileSystem)
  }

  /// A copy for a child that does not share (clone without CLONE_FS).
  @export(interface)
  public func copy() -> FileSystemContext {
    let now = state.withLock { $0 }
    return FileSystemContext(
      root: now.root, workingDirectory: now.workingDirectory, umask: now.umask, namespace: now.namespace)
  }

  deinit {
    LockOrder.mayWait()
    let last = state.withLock { $0 }
    last.root.mount.leave()
    last.workingDirectory.mount.leave()
  }

  public var root: Path { @export(interface) get { state.withLock { $0.root } } }
  public var workingDirectory: Path { @export(interface) get { state.withLock { $0.workingDirectory } } }
  public var umask: UInt32 { @export(interface) get { state.withLock { $0.umask } } }
  public var namespace: MountNamespace { @export(interface) get { state.withLock { $0.namespace } } }

  /// Root, working directory and umask at one moment: what a `Caller` is made of.
  @export(interface)
  public func snapshot() -> (root: Path, workingDirectory: Path, umask: UInt32) {
    state.withLock { ($0.root, $0.workingDirectory, $0.umask) }
  }

  /// umask(2).
  /// - Returns: the mask before.
  @export(interface)
  public func setUmask(_ mask: UInt32) -> UInt32 {
    state.withLock { state in
      let old = state.umask
      state.umask = mask & 0o777
      return old
    }
  }

  /// chdir(2); the caller has checked the directory.
  @export(interface)
  public func setWorkingDirectory(_ path: Path) {
    path.mount.enter()
    let old = state.withLock { state in
      let old = state.workingDirectory
      state.workingDirectory = path
      return old
    }
    old.mount.leave()
  }

  /// chroot(2); the caller has checked the directory and CAP_SYS_CHROOT.
  @export(interface)
  public func setRoot(_ path: Path) {
    path.mount.enter()
    let old = state.withLock { state in
      let old = state.root
      state.root = path
      return old
    }
    old.mount.leave()
  }

  /// Moves a root or working directory that is `old` to `new` (pivot_root(2)).
  @export(interface)
  public func replaceRoot(_ old: Path, with new: Path) {
    let now = snapshot()
    if now.root == old { setRoot(new) }
    if now.workingDirectory == old { setWorkingDirectory(new) }
  }
}
