// What a sandbox sees of the host when its root is the host's root: the system's directories and the working directory.
//
// The default is for programs that are not trusted: nothing in it belongs to a user, except what the user works on. All else is
// there by name at most, so that programs find the directories that they expect, empty.
import ArgumentParser
import Devices
import Monitor

/// `--host-view`.
enum HostView: String, ExpressibleByArgument, CaseIterable {
  case system, all, none
}

extension HostView {
  /// The host's directories that programs need, and what they see of each.
  private static let systemDirectories: [(path: String, view: FileView)] =
    ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "nix/store", "gnu/store"].map { ($0, .everything) }
    + ["opt", "etc"].map { ($0, FileView(.publicFiles)) }
    // What package managers and caches of the system keep below /var.
    + ["dpkg", "apt", "rpm", "pacman", "apk", "texmf", "ca-certificates", "gems", "ghc"].map {
      ("var/lib/" + $0, .everything)
    }
    + ["var/cache/fontconfig", "var/cache/man", "var/cache/ldconfig"].map { ($0, FileView(.publicFiles)) }
    // Links to the file that names resolve by.
    + ["run/systemd/resolve/stub-resolv.conf", "run/resolvconf/resolv.conf"].map { ($0, .everything) }
    + emptyDirectories.map { ($0, FileView(.nothing)) }

  private static let emptyDirectories = [
    "dev", "home", "media", "mnt", "proc", "root", "run", "srv", "sys", "tmp", "var/lib", "var/local", "var/log",
    "var/mail",
    "var/opt", "var/spool", "var/tmp", "var/run", "var/lock", "var/cache", "run/lock",
  ]

  /// Directories of /etc in which files are secret that lie beside public ones. That is a matter of their permissions; the
  /// names only tell the second line of defence, which permits whole directories, where to look closer.
  private static let directoriesWithSecrets = [
    "NetworkManager", "apt", "cups", "docker", "kubernetes", "letsencrypt", "mysql", "openvpn", "pki", "pki/CA",
    "pki/tls",
    "postfix", "ppp", "samba", "security", "ssh", "ssl", "sudoers.d", "wireguard",
  ]

  private static func path(_ text: String) -> [Substring] { text.split(separator: "/") }

  /// The view as a tree.
  ///
  /// - Parameter directory: the working directory, shown with everything beneath it; nil: none.
  func tree(directory: String?) -> FileView {
    switch self {
    case .all: return .everything
    case .none:
      var view = FileView(.nothing)
      for name in Self.emptyDirectories { view.show(Self.path(name), as: FileView(.nothing)) }
      return view
    case .system:
      var view = FileView(.nothing)
      for (path, shown) in Self.systemDirectories { view.show(Self.path(path), as: shown) }
      for name in Self.directoriesWithSecrets { view.entries["etc"]?.name(Self.path(name)[...]) }
      if let directory { view.show(Self.path(directory)) }
      return view
    }
  }

  /// Why a directory is not shown although it is the working directory: what lies in it belongs to more than one piece of work.
  /// nil: it is shown.
  static func reasonToHide(_ directory: String, homes: [String]) -> String? {
    if directory == "/" { return "the root" }
    let shared = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/var", "/srv", "/mnt", "/media", "/proc", "/sys", "/dev"]
    if shared.contains(directory) { return "a directory that is shared by many" }
    for home in homes where home != "/" {
      if directory == home { return "a home directory" }
      if home.hasPrefix(directory + "/") { return "a directory with home directories" }
    }
    let components = path(directory)
    if components.first == "home", components.count <= 2 { return "a home directory" }
    return nil
  }
}

extension FileView {
  /// Names a directory without changing what is shown of it.
  fileprivate mutating func name(_ path: ArraySlice<Substring>) {
    guard let first = path.first, var child = entries[String(first)] ?? (others == .nothing ? nil : FileView(others))
    else {
      return
    }
    child.name(path.dropFirst())
    entries[String(first)] = child
  }
}
