// Copying a file of the lower layer into the upper one, before its first change. The copy is made without a name and
// linked when it is complete, so that no half of it is ever visible.

import FileSystem
import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

extension OverlayInode {
  /// The file in the upper layer, copied there first if need be.
  ///
  /// - Parameter size: how many bytes of the content matter, when it is about to be truncated; nil: all.
  /// - Locks: sleeps; `copyUpLock`.
  @discardableResult
  final func copyUp(keeping size: UInt64? = nil) throws(Errno) -> Inode {
    if let upper { return upper }
    let lock = overlay.copyUpLock
    lock.acquire()
    defer { lock.release() }
    return try copyUpLocked(keeping: size)
  }

  private final func copyUpLocked(keeping size: UInt64?) throws(Errno) -> Inode {
    let (upper, lower, place) = layers.withLock { ($0.upper, $0.lower, $0.place) }
    if let upper { return upper }
    guard let lower else { throw .EIO }
    let attributes = try lower.attributes()
    let copy: Inode
    if let place {
      let directory = try place.parent.copyUpLocked(keeping: nil)
      let times = try directory.attributes()
      copy = try make(place.name, in: directory, from: lower, attributes, keeping: size)
      if kind == .directory { place.parent.didHideDirectory() }
      // A copy is no change of the directory.
      try directory.setAttributes(
        AttributeChange(accessTime: times.accessTime, modifyTime: times.modifyTime, changeTime: times.changeTime))
    } else {
      // The file has no name any more: neither has its copy.
      copy = try overlay.upperRoot.makeTemporary(permissions: attributes.permissions, owner: attributes.owner)
      try fill(copy, from: lower, attributes, keeping: size)
    }
    layers.withLock { layers in
      layers.upper = copy
      let names = attributes.linkCount - min(attributes.linkCount, layers.removedNames)
      layers.lowerNames = names - min(names, place == nil ? 0 : 1)
    }
    if kind != .directory, attributes.linkCount > 1 { overlay.keep(self) }
    return copy
  }

  /// Makes the copy under its name.
  private func make(
    _ name: ByteString, in directory: Inode, from lower: Inode, _ attributes: Attributes, keeping size: UInt64?
  ) throws(Errno) -> Inode {
    let copy: Inode
    switch kind {
    case .regular:
      copy = try directory.makeTemporary(permissions: attributes.permissions, owner: attributes.owner)
      try fill(copy, from: lower, attributes, keeping: size)
      try directory.link(copy, as: name)
      return copy
    case .directory:
      copy = try directory.makeDirectory(name, permissions: attributes.permissions, owner: attributes.owner)
    case .symbolicLink:
      copy = try directory.makeSymbolicLink(name, target: try lower.readLink(), owner: attributes.owner)
    case .characterDevice, .blockDevice, .fifo, .socket:
      copy = try directory.makeNode(
        name, kind: kind, permissions: attributes.permissions, device: attributes.specialDevice,
        owner: attributes.owner)
    }
    try fill(copy, from: lower, attributes, keeping: size)
    return copy
  }

  /// Gives the copy the content and the attributes of the original.
  private func fill(_ copy: Inode, from lower: Inode, _ attributes: Attributes, keeping size: UInt64?) throws(Errno) {
    if kind == .regular { try copyContent(from: lower, to: copy, count: min(attributes.size, size ?? .max)) }
    for name in (try? lower.extendedAttributeNames()) ?? [] where !OverlayMark.isPrivate(name) {
      // An attribute that cannot be read or kept (a security label of the host) is not worth failing a write.
      guard let value = try? lower.extendedAttribute(name) else { continue }
      try? copy.setExtendedAttribute(name, value, .createOrReplace)
    }
    var text = TextBuffer()
    text.append(decimal: number)
    try copy.setExtendedAttribute(OverlayMark.origin, text.byteString, .createOrReplace)
    // A symbolic link has no permissions of its own to set (chmod(2)).
    try copy.setAttributes(
      AttributeChange(
        permissions: kind == .symbolicLink ? nil : attributes.permissions, accessTime: attributes.accessTime,
        modifyTime: attributes.modifyTime, changeTime: attributes.changeTime))
  }

  private func copyContent(from lower: Inode, to copy: Inode, count: UInt64) throws(Errno) {
    // SAFETY: freed at the end; all transfers end before that and stay within the buffer.
    let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(min(count, 128 << 10)), alignment: 16)
    defer { unsafe chunk.deallocate() }
    var offset: UInt64 = 0
    while offset < count {
      let wanted = Int(min(count - offset, UInt64(chunk.count)))
      var target = unsafe TransferBuffer(kernel: UnsafeMutableRawBufferPointer(rebasing: chunk[..<wanted]))
      let read = try lower.read(at: offset, &target)
      var source = unsafe TransferBuffer(kernel: UnsafeMutableRawBufferPointer(rebasing: chunk[..<read]))
      let moved = read == 0 ? 0 : try copy.write(at: offset, &source)
      // The original has become shorter: so is the copy.
      if moved == 0 { return }
      offset += UInt64(moved)
    }
  }
}
