// What a guest that is root in its sandbox tries to leave on the host: programs that run as somebody else, devices,
// capabilities. None arrives, and each rule has a control: an export that lets it through.

import CDevices
import CLinuxABI
import Foundation
import Testing

@testable import Devices

@Suite(.serialized) struct FileServerPrivilegeTests {
  private func mode(_ path: String) -> UInt32 {
    var status = stat()
    return lstat(path, &status) == 0 ? UInt32(status.st_mode) & 0o7777 : .max
  }

  @Test(arguments: [UInt32(0o4755), 0o2755, 0o6711])
  func `set-ID bits of files do not reach the host`(bits: UInt32) {
    let place = Playground()
    place.write("f", "program")
    let guest = Guest(place)
    let file = guest.lookup("f").node
    #expect(guest.changeMode(file, bits) == 0)
    #expect(guest.create(LINUX_FUSE_CREATE, "created", mode: bits).mode == bits)
    #expect(guest.create(LINUX_FUSE_TMPFILE, "", mode: bits).mode == bits)
    let node = bytesOf(linux_fuse_mknod_in(mode: UInt32(S_IFREG) | bits, special_device: 0, umask: 0, padding: 0))
    #expect(guest.request(LINUX_FUSE_MKNOD, 1, node + Array("made\0".utf8))!.error == 0)
    for name in ["f", "created", "made"] {
      #expect(mode(place.root + "/" + name) == bits & 0o777 | 0o1000)
      // Guests see the bits, also those of another run.
      #expect(guest.lookup(name).mode & 0o7777 == bits)
      #expect(Guest(place).lookup(name).mode & 0o7777 == bits)
    }
    // A guest cannot give itself bits by the attribute that keeps them.
    #expect(guest.setAttribute(file, "user.apus.mode") == -EPERM)
    #expect(guest.changeMode(file, 0o711) == 0)
    #expect(mode(place.root + "/f") == 0o711)
    #expect(guest.changeMode(file, 0o1711) == 0)
    #expect(guest.lookup("f").mode & 0o7777 == 0o1711)
    // A file that its owner may not write to.
    #expect(guest.changeMode(file, 0o555) == 0 && guest.changeMode(file, bits & 0o7555) == 0)
    #expect(guest.lookup("f").mode & 0o7777 == bits & 0o7555)
    let open = Guest(place, takesPrivilegedFiles: true)
    #expect(open.changeMode(open.lookup("f").node, bits) == 0)
    #expect(mode(place.root + "/f") == bits)
    #expect(open.create(LINUX_FUSE_CREATE, "created-too", mode: bits).mode == bits)
  }

  @Test func `a set-ID program of the host loses its bits before a guest changes it`() {
    let place = Playground()
    for name in ["written", "cut", "kept"] {
      place.write(name, "program")
      chmod(place.root + "/" + name, 0o4755)
    }
    let guest = Guest(place)
    #expect(guest.write(guest.lookup("written").node, "evil") == 0)
    #expect(mode(place.root + "/written") == 0o755)
    var cut = linux_fuse_setattr_in()
    cut.valid = LINUX_FATTR_SIZE
    #expect(guest.request(LINUX_FUSE_SETATTR, guest.lookup("cut").node, bytesOf(cut))!.error == 0)
    #expect(mode(place.root + "/cut") == 0o755)
    // Reading leaves it as it is, and so does writing where the export says so (root's writes clear nothing by themselves).
    #expect(guest.read(guest.lookup("kept").node).text == "program")
    #expect(mode(place.root + "/kept") == 0o4755)
    guard geteuid() == 0 else { return }
    let open = Guest(place, takesPrivilegedFiles: true)
    #expect(open.write(open.lookup("kept").node, "fine") == 0)
    #expect(mode(place.root + "/kept") == 0o4755)
  }

  @Test func `directories inherit their group, and may be told to`() {
    let place = Playground()
    place.makeDirectory("d")
    let guest = Guest(place)
    #expect(guest.changeMode(guest.lookup("d").node, 0o2775) == 0)
    #expect(mode(place.root + "/d") == 0o2775)
  }

  @Test func `device files do not reach the host, whiteouts and FIFOs do`() {
    let place = Playground()
    func make(_ guest: Guest, _ name: String, _ kind: Int32, _ device: UInt32) -> Int32 {
      let body = bytesOf(linux_fuse_mknod_in(mode: UInt32(kind) | 0o666, special_device: device, umask: 0, padding: 0))
      return guest.request(LINUX_FUSE_MKNOD, 1, body + Array(name.utf8) + [0])!.error
    }
    let guest = Guest(place)
    #expect(make(guest, "mem", Int32(S_IFCHR), 0x101) == -EPERM)
    #expect(make(guest, "disk", Int32(S_IFBLK), 0x800) == -EPERM)
    #expect(make(guest, "nothing", Int32(S_IFBLK), 0) == -EPERM)
    #expect(make(guest, "directory", Int32(S_IFDIR), 0) == -EINVAL)
    #expect(make(guest, "fifo", Int32(S_IFIFO), 0) == 0)
    #expect(make(guest, "whiteout", Int32(S_IFCHR), 0) == 0)
    guard geteuid() == 0 else { return }
    #expect(make(Guest(place, takesPrivilegedFiles: true), "null", Int32(S_IFCHR), 0x103) == 0)
    var status = stat()
    #expect(stat(place.root + "/null", &status) == 0 && status.st_rdev == 0x103)
  }

  @Test func `attributes that mean power do not reach the host`() {
    let place = Playground()
    place.write("f", "text")
    let guest = Guest(place)
    let file = guest.lookup("f").node
    #expect(guest.setAttribute(file, "user.a") == 0)
    for name in ["security.capability", "security.selinux", "trusted.overlay.opaque"] {
      #expect(guest.setAttribute(file, name) == -EPERM)
      #expect(guest.request(LINUX_FUSE_REMOVEXATTR, file, Array(name.utf8) + [0])!.error == -EPERM)
    }
    #expect(guest.setAttribute(file, "system.posix_acl_access") == -EOPNOTSUPP)
    guard geteuid() == 0 else { return }
    let open = Guest(place, takesPrivilegedFiles: true)
    #expect(open.setAttribute(open.lookup("f").node, "trusted.a") == 0)
  }
}

@Suite(.serialized) struct FileServerTemporaryFileTests {
  @Test func `a file without a name gets one by a link and stays the same node`() {
    let place = Playground()
    let guest = Guest(place)
    let (error, node, _) = guest.create(LINUX_FUSE_TMPFILE, "", mode: 0o640)
    #expect(error == 0)
    #expect(guest.list(1).names == [".", ".."])
    #expect(guest.write(node, "text") == 0)
    let link = bytesOf(linux_fuse_link_in(node: node)) + Array("name\0".utf8)
    #expect(guest.request(LINUX_FUSE_LINK, 1, link)!.error == 0)
    #expect(guest.lookup("name").node == node)
    #expect(guest.read(node).text == "text")
    // Forgotten without a name, it is gone from the host.
    let other = guest.create(LINUX_FUSE_TMPFILE, "", mode: 0o600).node
    let before = guest.server.table.counts
    _ = guest.request(LINUX_FUSE_FORGET, other, bytesOf(linux_fuse_forget_in(lookups: 1)))
    #expect(guest.server.table.counts.nodes == before.nodes - 1)
    #expect(guest.request(LINUX_FUSE_GETATTR, other, bytesOf(linux_fuse_getattr_in()))!.error == -ESTALE)
  }

  @Test func `a file whose name goes and comes again by another link is one node`() {
    let place = Playground()
    place.write("a", "text")
    link(place.root + "/a", place.root + "/b")
    let guest = Guest(place)
    let node = guest.lookup("a").node
    #expect(guest.request(LINUX_FUSE_UNLINK, 1, Array("a\0".utf8))!.error == 0)
    #expect(guest.lookup("b").node == node)
    #expect(guest.request(LINUX_FUSE_UNLINK, 1, Array("b\0".utf8))!.error == 0)
    #expect(guest.read(node).text == "text")
  }

  @Test func `an append-only file grows at its end, in whatever pieces the guest writes`() {
    let place = Playground()
    place.write("log", "begin")
    let file = Glibc.open(place.root + "/log", O_RDONLY)
    var flags: UInt32 = 0
    // Only root may set the flag, and not every file system has it.
    guard host_get_flags(file, &flags) == 0, host_set_flags(file, flags | 0x20) == 0 else { return }
    defer {
      _ = host_set_flags(file, flags)
      close(file)
    }
    let guest = Guest(place)
    let node = guest.lookup("log").node
    // The guest writes the page from its beginning; what is there stays.
    #expect(guest.write(node, "BEGIN and on") == 0)
    #expect(guest.write(node, "!", offset: 12) == 0)
    #expect(guest.read(node).text == "begin and on!")
    #expect(guest.write(node, "x", offset: 100) == -EPERM)
    #expect(guest.read(node).text == "begin and on!")
  }

  @Test func `immutable and append-only files of guests do not come into being on the host`() {
    let place = Playground()
    place.write("f", "text")
    let guest = Guest(place)
    let file = guest.lookup("f").node
    func control(_ command: UInt32, _ flags: UInt32) -> Int32 {
      let body = linux_fuse_ioctl_in(handle: 0, flags: 0, command: command, argument: 0, input_size: 4, output_size: 4)
      return guest.request(LINUX_FUSE_IOCTL, file, bytesOf(body) + bytesOf(flags))!.error
    }
    let host = Glibc.open(place.root + "/f", O_RDONLY)
    defer { close(host) }
    var flags: UInt32 = 0
    // Not every file system has flags.
    guard host_get_flags(host, &flags) == 0 else { return }
    #expect(control(0x4008_6602, flags | 0x10) == -EPERM)
    #expect(control(0x4008_6602, flags | 0x20) == -EPERM)
    // No dump is a hint.
    #expect(control(0x4008_6602, flags | 0x40) == 0)
    var after: UInt32 = 0
    #expect(host_get_flags(host, &after) == 0 && after == flags | 0x40)
  }

  @Test func `a read-only export makes no temporary files and sets no flags`() {
    let place = Playground()
    place.write("f", "text")
    let guest = Guest(place, isReadOnly: true)
    #expect(guest.create(LINUX_FUSE_TMPFILE, "", mode: 0o600).error == -EROFS)
    let file = guest.lookup("f").node
    func control(_ command: UInt32) -> Int32 {
      let body = linux_fuse_ioctl_in(handle: 0, flags: 0, command: command, argument: 0, input_size: 4, output_size: 4)
      return guest.request(LINUX_FUSE_IOCTL, file, bytesOf(body) + bytesOf(UInt32(0)))!.error
    }
    #expect(control(0x4008_6602) == -EROFS)
    // Anything but the two requests about flags is unknown.
    #expect(control(0x5401) == -ENOTTY)
    #expect(control(0x6612) == -ENOTTY)
  }
}
