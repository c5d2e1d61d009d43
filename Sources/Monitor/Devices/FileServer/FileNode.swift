// A file that the guest knows. The guest names it by a number; the server finds it again by its place in the tree, its
// parent and its name, and checks that the file there is still the same. Descriptors are only a cache: a guest may know
// a million files, and the host gives a process a few thousand descriptors.

import CDevices
import CLinuxABI
import Glibc

/// A file of the exported directory. All mutable fields belong to the table's lock.
final class FileNode: @unchecked Sendable {
  /// The guest's name for it; never used twice.
  let number: UInt64
  let identity: FileIdentity
  /// The S_IFMT bits of the mode.
  let kind: UInt32
  /// A file system of the host's kernel (proc, sysfs) begins here: shown, but without contents.
  let isSealed: Bool

  /// What of a directory is shown.
  let view: FileView

  /// The last known place. The parent stays alive for its children, whether or not the guest still knows it.
  var parent: FileNode?
  var name: FileName
  /// How often the guest was told of the node; FORGET takes back.
  var lookups: UInt64 = 0

  var anchor: HostDescriptor?
  var reader: HostDescriptor?
  var writer: HostDescriptor?
  var directory: DirectoryStream?
  /// The name is gone: without its descriptor the file could not be found again.
  var isPinned = false
  /// For the clock that closes descriptors.
  var wasUsed = false
  var slot = -1

  init(
    number: UInt64, status: host_status, isSealed: Bool, view: FileView, parent: FileNode?, name: FileName
  ) {
    self.number = number
    identity = FileIdentity(status)
    kind = status.attributes.mode & UInt32(S_IFMT)
    self.isSealed = isSealed
    self.view = view
    self.parent = parent
    self.name = name
  }

  /// What is shown of an entry; nil: it does not exist for the guest.
  func view(of name: FileName) -> FileView? {
    // Most directories need no look at the name.
    view.entries.isEmpty && view.others != .nothing ? view : view.entry(name.description)
  }

  var isDirectory: Bool { kind == UInt32(S_IFDIR) }
  var isRegular: Bool { kind == UInt32(S_IFREG) }

  /// How many descriptors the node holds.
  var descriptorCount: Int {
    (anchor == nil ? 0 : 1) + (reader == nil ? 0 : 1) + (writer == nil ? 0 : 1) + (directory == nil ? 0 : 1)
  }
  /// Any descriptor: all tell the status.
  var anyDescriptor: HostDescriptor? { anchor ?? reader ?? writer ?? directory?.descriptor }

  func closeDescriptors() {
    anchor = nil
    reader = nil
    writer = nil
    directory = nil
  }
}
