// Which files of an export the guest sees. A view is a tree over the names of directories; where the tree ends, a rule goes for
// everything beneath.
//
// A file that is not in view does not exist for the guest: it cannot be looked up and is in no listing.

/// What the guest sees of a directory.
public struct FileView: Sendable, Equatable {
  public enum Rule: Sendable, Equatable {
    /// Everything that the monitor may read.
    case everything
    /// What every user of the host may read: files with the permission bit r for others, directories with r and x. So a guest
    /// of root does not see what root alone may read, such as /etc/shadow.
    case publicFiles
    /// Nothing but the names in `entries`.
    case nothing
  }

  /// For the entries that are not in `entries`, and for all beneath them.
  public var others: Rule
  public var entries: [String: FileView] = [:]

  public init(_ others: Rule) { self.others = others }

  public static var everything: FileView { FileView(.everything) }

  /// The view of an entry; nil when it is not shown.
  func entry(_ name: String) -> FileView? {
    if let named = entries[name] { return named }
    return others == .nothing ? nil : FileView(others)
  }

  /// Shows `path`, and the directories on the way to it, which show nothing else. The rule for public files stays in force
  /// beneath the directories that have it.
  public mutating func show(_ path: some Collection<Substring>, as view: FileView = .everything) {
    guard let name = path.first else {
      if others == .nothing {
        let named = entries
        self = view
        if view.others != .everything { entries.merge(named) { old, _ in old } }
      }
      return
    }
    if others == .everything { return }
    var child = entry(String(name)) ?? FileView(.nothing)
    child.show(path.dropFirst(), as: view)
    entries[String(name)] = child
  }

  /// Whether a file at `path` is shown, if its permissions admit it.
  public func shows(_ path: some Collection<Substring>) -> Bool {
    guard let name = path.first else { return others != .nothing }
    guard !entries.isEmpty || others == .nothing else { return true }
    return entry(String(name))?.shows(path.dropFirst()) ?? false
  }

  /// Whether a file with these permission bits may be in the directory that has this view.
  func admits(_ mode: UInt32) -> Bool {
    guard others == .publicFiles else { return true }
    switch mode & 0o170000 {
    case 0o120000: return true  // a symbolic link
    case 0o040000: return mode & 0o5 == 0o5
    default: return mode & 0o4 != 0
    }
  }
}
