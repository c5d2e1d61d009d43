// On whose behalf a file operation happens. Process code makes a Caller once per system call; that is all that the file
// rooms know about processes.

import Identity
import KernelCore
import LinuxABI

/// The identity and the view of the file tree with which an operation is made.
public struct Caller {
  public let credentials: Credentials
  public let umask: UInt32
  public let root: Path
  public let workingDirectory: Path

  @inline(__always)
  public init(credentials: Credentials, umask: UInt32, root: Path, workingDirectory: Path) {
    self.credentials = credentials
    self.umask = umask
    self.root = root
    self.workingDirectory = workingDirectory
  }

  /// The same view of the tree with another identity: access(2) checks with the real ids.
  @export(interface)
  public func with(_ credentials: Credentials) -> Caller {
    Caller(credentials: credentials, umask: umask, root: root, workingDirectory: workingDirectory)
  }

  public var fileSystemOwner: Owner { Owner(user: credentials.fileSystemUser, group: credentials.fileSystemGroup) }
}

/// What a permission check asks for; the bits are those of access(2).
public struct AccessMode: OptionSet, Sendable {
  public let rawValue: UInt32

  @inline(__always)
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static var execute: AccessMode { AccessMode(rawValue: 1) }
  /// Searching a directory is the execute bit.
  public static var search: AccessMode { AccessMode(rawValue: 1) }
  public static var write: AccessMode { AccessMode(rawValue: 2) }
  public static var read: AccessMode { AccessMode(rawValue: 4) }
}

extension Caller {
  /// Checks the permission bits of a file (path_resolution(7), "Permissions").
  ///
  /// - Throws: EACCES when neither the bits nor a capability permit the access.
  @export(interface)
  public func check(_ wanted: AccessMode, _ control: AccessControl, kind: FileKind) throws(Errno) {
    let permissions = control.permissions
    let granted: UInt32
    if credentials.fileSystemUser == control.owner.user {
      granted = permissions >> 6
    } else if (permissions >> 3) & 7 != permissions & 7, credentials.isMember(of: control.owner.group) {
      granted = permissions >> 3
    } else {
      granted = permissions
    }
    if wanted.rawValue & ~granted & 7 == 0 { return }
    // CAP_DAC_OVERRIDE passes everything but executing a file that nobody may execute.
    if credentials.has(.overrideAccess) {
      if kind == .directory || !wanted.contains(.execute) || permissions & 0o111 != 0 { return }
    }
    // CAP_DAC_READ_SEARCH reads files and searches directories.
    if credentials.has(.readSearchAccess) {
      if wanted == .read || (kind == .directory && !wanted.contains(.write)) { return }
    }
    throw .EACCES
  }

  /// Whether the caller owns the file or may act as if it did (CAP_FOWNER).
  @export(interface)
  public func owns(_ control: AccessControl) -> Bool {
    credentials.fileSystemUser == control.owner.user || credentials.has(.fileOwner)
  }
}
