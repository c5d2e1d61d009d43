import FileSystem
import KernelCore
import LinuxABI
import PhysicalMemory
import Testing
import Tmpfs

@testable import Overlay

@Suite(.serialized) struct OverlayRuleTests {
  @Test func `a file of the lower layer is read in place and copied at its first change`() throws {
    let overlay = try OverlayTree { try $0.put("/f", "below") }
    let tree = overlay.tree
    #expect(try tree.text("/f") == "below")
    #expect(!overlay.isAbove("f"))
    let number = try tree.attributes("/f").number
    try tree.put("/f", " and above", [.writeOnly, .append])
    #expect(try tree.text("/f") == "below and above")
    #expect(try overlay.upper.text("/f") == "below and above")
    #expect(try tree.attributes("/f").number == number)
    try overlay.expectLowerUnchanged()
  }

  @Test func `removing leaves a whiteout only where the lower layer has the name`() throws {
    let overlay = try OverlayTree { lower in
      try lower.put("/below", "")
      try lower.makeDirectory("/d")
    }
    let tree = overlay.tree
    try tree.put("/above", "")
    try tree.unlink("/above")
    try tree.unlink("/below")
    try tree.removeDirectory("/d")
    #expect(!overlay.isAbove("above"))
    for name in ["/below", "/d"] {
      let mark = try overlay.upper.attributes(name)
      #expect(mark.kind == .characterDevice && mark.specialDevice == .none)
    }
    #expect(try tree.names("/") == [])
    #expect(error { () throws(Errno) in _ = try tree.text("/below") } == .ENOENT)
    #expect(error { () throws(Errno) in try tree.removeDirectory("/d") } == .ENOENT)
    // What is made over a whiteout is a new file.
    try tree.put("/below", "new")
    #expect(try tree.text("/below") == "new")
    #expect(try tree.attributes("/below").number >= 1 << 48)
    try overlay.expectLowerUnchanged()
  }

  @Test func `a directory made in the place of a removed one does not show what was below`() throws {
    let overlay = try OverlayTree { lower in
      try lower.makeDirectory("/d")
      try lower.put("/d/old", "")
    }
    let tree = overlay.tree
    #expect(error { () throws(Errno) in try tree.removeDirectory("/d") } == .ENOTEMPTY)
    try tree.unlink("/d/old")
    try tree.removeDirectory("/d")
    try tree.makeDirectory("/d")
    #expect(try tree.names("/d") == [])
    #expect(error { () throws(Errno) in _ = try tree.text("/d/old") } == .ENOENT)
    #expect(try overlay.upper.place("/d").inode.extendedAttribute("trusted.overlay.opaque") == "y")
    // A directory of the upper layer moves, and stays opaque over whatever is below its new name.
    try tree.makeDirectory("/e")
    try tree.put("/e/new", "")
    try tree.rename("/e", "/d")
    #expect(try tree.names("/d") == ["new"])
    try overlay.expectLowerUnchanged()
  }

  @Test func `marks of the layers are not seen and cannot be made`() throws {
    let overlay = try OverlayTree { try $0.put("/f", "") }
    let tree = overlay.tree
    try FileTree.changeMode(try tree.place("/f"), 0o600, by: tree.caller)
    let place = try tree.place("/f")
    #expect(try FileTree.extendedAttributeNames(place, by: tree.caller) == [])
    let mark = OverlayMark.origin
    #expect(error { () throws(Errno) in _ = try FileTree.extendedAttribute(place, mark, by: tree.caller) } == .ENODATA)
    #expect(
      error { () throws(Errno) in
        try FileTree.setExtendedAttribute(place, mark, "7", .createOrReplace, by: tree.caller)
      } == .EPERM)
    #expect(
      error { () throws(Errno) in
        try FileTree.makeNode("/w", kind: .characterDevice, permissions: 0, device: .none, by: tree.caller)
      } == .EPERM)
  }

  @Test func `a copy keeps owner, mode, times and extended attributes`() throws {
    let old = FileTime(seconds: 1_000_000, nanoseconds: 5)
    let overlay = try OverlayTree { lower in
      try lower.makeDirectory("/d", 0o711)
      try lower.put("/d/f", "text")
      for path in ["/d/f", "/d"] {
        let inode = try lower.place(path).inode
        try inode.setExtendedAttribute("user.colour", "red", .create)
        try inode.setAttributes(
          AttributeChange(
            permissions: path == "/d" ? 0o711 : 0o4751, user: 7, group: 8, accessTime: old, modifyTime: old))
      }
    }
    let tree = overlay.tree
    let before = try (tree.attributes("/d/f"), tree.attributes("/d"))
    // Copies the file and its directory without changing either but for the attribute.
    try FileTree.setExtendedAttribute(try tree.place("/d/f"), "user.shape", "round", .create, by: tree.caller)
    let after = try (tree.attributes("/d/f"), tree.attributes("/d"))
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
      #expect(before.number == after.number)
      #expect(before.owner == after.owner)
      #expect(before.permissions == after.permissions)
      #expect(before.accessTime == after.accessTime)
      #expect(before.modifyTime == after.modifyTime)
    }
    // The directory was not changed at all.
    #expect(before.1.changeTime == after.1.changeTime)
    let copy = try overlay.upper.place("/d/f").inode
    #expect(try copy.extendedAttribute("user.colour") == "red")
    #expect(
      try FileTree.extendedAttributeNames(try tree.place("/d/f"), by: tree.caller) == ["user.colour", "user.shape"])
    #expect(try FileTree.extendedAttributeNames(try tree.place("/d"), by: tree.caller) == ["user.colour"])
    try overlay.expectLowerUnchanged()
  }

  @Test func `hard links made here are one file, also with a file of the lower layer`() throws {
    let overlay = try OverlayTree { try $0.put("/b", "shared") }
    let tree = overlay.tree
    try tree.put("/c", "one")
    try tree.link("/c", "/d")
    try tree.put("/d", "two")
    #expect(try tree.text("/c") == "two")
    #expect(try tree.attributes("/c").number == tree.attributes("/d").number)
    #expect(try tree.attributes("/c").linkCount == 2)
    // A link to a file of the lower layer copies it first.
    try tree.link("/b", "/e")
    try tree.put("/e", "both")
    #expect(try tree.text("/b") == "both")
    try overlay.expectLowerUnchanged()
  }

  @Test func `a directory with a lower part moves with all that is in it`() throws {
    let overlay = try OverlayTree { lower in
      try lower.makeDirectory("/low")
      try lower.put("/low/f", "below")
      try lower.makeDirectory("/low/deep")
      try lower.put("/low/deep/g", "deeper")
      try lower.makeDirectory("/other")
      try lower.put("/other/hidden", "")
    }
    let tree = overlay.tree
    let number = try tree.attributes("/low").number
    try tree.rename("/low", "/moved")
    #expect(try tree.names("/") == ["moved", "other"])
    #expect(try tree.names("/moved") == ["deep", "f"])
    #expect(try tree.text("/moved/deep/g") == "deeper")
    #expect(try tree.attributes("/moved").number == number)
    // The old name is free, and what is made there is empty.
    try tree.makeDirectory("/low")
    #expect(try tree.names("/low") == [])
    // What moves to the place of a lower directory does not join it.
    try tree.unlink("/other/hidden")
    try tree.rename("/moved", "/other")
    #expect(try tree.names("/other") == ["deep", "f"])
    try tree.put("/low/new", "above")
    try tree.rename("/low", "/other", .exchange)
    #expect(try tree.names("/other") == ["new"])
    #expect(try tree.names("/low") == ["deep", "f"])
    try tree.put("/low/deep/g", "changed")
    try tree.rename("/low/deep", "/deep")
    #expect(try tree.text("/deep/g") == "changed")
    #expect(try tree.names("/low") == ["f"])
    #expect(error { () throws(Errno) in try tree.rename("/deep", "/low") } == .ENOTEMPTY)
    try tree.unlink("/low/f")
    try tree.rename("/deep", "/low")
    #expect(try tree.names("/low") == ["g"])
    try overlay.expectLowerUnchanged()
  }

  @Test func `the names of a file of the lower layer stay names of one file`() throws {
    let overlay = try OverlayTree { lower in
      try lower.put("/a", "one")
      try lower.link("/a", "/b")
      try lower.makeDirectory("/d")
      try lower.link("/a", "/d/c")
    }
    let tree = overlay.tree
    let names = ["/a", "/b", "/d/c"]
    #expect(Set(try names.map { ObjectIdentifier(try tree.place($0).inode) }).count == 1)
    try tree.put("/b", "two")
    for name in names {
      #expect(try tree.text(name) == "two")
      #expect(try tree.attributes(name).linkCount == 3)
    }
    // A name that only the lower layer has is renamed, removed, replaced and linked like any other.
    try tree.rename("/d/c", "/e")
    try tree.put("/e", "three")
    #expect(try tree.text("/a") == "three")
    #expect(try tree.attributes("/a").linkCount == 3)
    try tree.unlink("/a")
    #expect(try tree.attributes("/b").linkCount == 2)
    try tree.put("/new", "other")
    try tree.rename("/new", "/b")
    #expect(try tree.text("/b") == "other")
    #expect(try tree.attributes("/e").linkCount == 1)
    try tree.link("/e", "/a")
    #expect(try tree.attributes("/e").linkCount == 2)
    try overlay.expectLowerUnchanged()
  }

  @Test func `linked files that nothing uses are forgotten, except for what only the overlay knows`() throws {
    let overlay = try OverlayTree { lower in
      for number in 0..<100 {
        try lower.put("/a\(number)", "text")
        try lower.link("/a\(number)", "/b\(number)")
      }
    }
    let tree = overlay.tree
    for number in 0..<100 { #expect(try tree.text("/b\(number)") == "text") }
    // A copy that has a name in the lower layer still.
    try tree.put("/a1", "changed")
    weak var used: Inode?
    let open = try tree.open("/a2", .readOnly)
    weak var unused: Inode?
    do {
      used = try tree.place("/b2").inode
      unused = try tree.place("/b0").inode
    }
    #expect(unused != nil)
    Shrinkers.dropAll()
    #expect(unused == nil)
    #expect(used != nil && used === open.inode)
    #expect(try tree.text("/b0") == "text")
    #expect(try tree.text("/b1") == "changed")
    #expect(try tree.attributes("/b1").linkCount == 2)
    try overlay.expectLowerUnchanged()
  }

  @Test func `a directory that the dentry cache would forget stays the one that its files know`() throws {
    let overlay = try OverlayTree { lower in
      try lower.makeDirectory("/low")
      try lower.put("/low/f", "below")
      try lower.link("/low/f", "/low/g")
    }
    let tree = overlay.tree
    // A file with two names is known by its place in /low, whether the cache has the name or not.
    #expect(try tree.text("/low/f") == "below")
    DentryCache.dropUnused()
    try tree.rename("/low", "/moved")
    DentryCache.dropUnused()
    try tree.put("/moved/g", " and above", [.writeOnly, .append])
    #expect(try tree.names("/") == ["moved"])
    #expect(try tree.text("/moved/f") == "below and above")
    #expect(try overlay.upper.text("/moved/f") == "below and above")
    try overlay.expectLowerUnchanged()
  }

  @Test func `an open file of the lower layer outlives its name, and its copy has none`() throws {
    let overlay = try OverlayTree { lower in
      try lower.put("/f", "old")
      try lower.put("/g", "old too")
    }
    let tree = overlay.tree
    let (removed, replaced) = (try tree.open("/f", .readOnly), try tree.open("/g", .readOnly))
    try tree.unlink("/f")
    #expect(try removed.inode.attributes().linkCount == 0)
    try tree.put("/f", "new")
    try tree.put("/other", "new too")
    try tree.rename("/other", "/g")
    #expect(try replaced.inode.attributes().linkCount == 0)
    for file in [removed, replaced] {
      // fchmod(2) copies a file that has no place any more.
      try file.inode.setAttributes(AttributeChange(permissions: 0o600))
      #expect(try file.inode.attributes().linkCount == 0)
    }
    #expect(try removed.readBytes(at: 0, count: 10) == Array("old".utf8))
    #expect(try replaced.readBytes(at: 0, count: 10) == Array("old too".utf8))
    #expect(try tree.text("/f") == "new")
    #expect(try tree.text("/g") == "new too")
    #expect(try tree.attributes("/f").permissions == 0o644)
    #expect(try tree.attributes("/g").permissions == 0o644)
    removed.release()
    replaced.release()
    try overlay.expectLowerUnchanged()
  }

  @Test func `a listing misses no file that is copied up or removed while it is read`() throws {
    let names = (0..<300).map { "f\($0)" }
    let overlay = try OverlayTree { lower in
      try lower.makeDirectory("/d")
      for name in names { try lower.put("/d/" + name, name) }
    }
    let tree = overlay.tree
    let directory = try tree.open("/d", .directory)
    defer { directory.release() }
    var seen: [String] = []
    while true {
      var taken = 0
      try directory.readDirectory { entry in
        guard taken < 10 else { return false }
        taken += 1
        if entry.kind == .regular { seen.append(entry.name.string) }
        return true
      }
      if taken == 0 { break }
      // Copies some that were listed and some that were not yet.
      for name in names.filter({ _ in seen.count % 3 == 0 }).prefix(seen.count) {
        try FileTree.changeMode(try tree.place("/d/" + name), 0o600, by: tree.caller)
      }
    }
    #expect(seen.sorted() == names.sorted())
    // rm -r: removing what was listed until nothing is left.
    for entry in try tree.list("/d") { try tree.unlink("/d/" + entry.name.string) }
    try tree.removeDirectory("/d")
    #expect(try tree.names("/") == [])
    try overlay.expectLowerUnchanged()
  }

  @Test func `a temporary file gets its name in the upper layer`() throws {
    let overlay = try OverlayTree { lower in
      try lower.makeDirectory("/d")
      try lower.put("/d/f", "low")
    }
    let tree = overlay.tree
    let file = try tree.open("/d", [.temporary, .readWrite])
    _ = try file.writeBytes(Array("high".utf8), at: 0)
    #expect(try file.inode.attributes().linkCount == 0)
    #expect(error { () throws(Errno) in try FileTree.link(file.path, to: "/d/f", by: tree.caller) } == .EEXIST)
    try tree.unlink("/d/f")
    try FileTree.link(file.path, to: "/d/f", by: tree.caller)
    file.release()
    #expect(try tree.text("/d/f") == "high")
    #expect(try tree.attributes("/d/f").linkCount == 1)
    try overlay.expectLowerUnchanged()
  }
}
