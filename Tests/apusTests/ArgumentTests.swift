// The values of options: what is taken, what is refused, and with which words.
import ArgumentParser
import Monitor
import Testing

@testable import apus

private func refusal(_ body: () throws -> Void) -> String? {
  do {
    try body()
    return nil
  } catch let error as ValidationError {
    return error.message
  } catch {
    return "another error: \(error)"
  }
}

@Suite struct ArgumentTests {
  @Test(
    arguments: [
      ("32M", 32 << 20), ("1G", 1 << 30), ("1g", 1 << 30), ("65536k", 64 << 20), ("1T", 1 << 40),
      ("33554432", 32 << 20),
      ("33554433", 32 << 20), ("512M", 512 << 20),
    ] as [(String, UInt64)])
  func `a size is a number with an optional suffix`(text: String, bytes: UInt64) throws {
    #expect(try MemorySize(text).bytes == bytes)
  }

  @Test(arguments: ["1E", "", "M", "-1", "1.5G", "0x20M", "1GB", " 1G", "1G ", "٣G", "1 G", "+1G"])
  func `what is no size is refused with what is allowed`(text: String) {
    #expect(refusal { _ = try MemorySize(text) }?.contains("is no size: give a whole number of bytes") == true)
  }

  @Test(arguments: ["1", "0", "15M", "2T", "99999999999999999999", "18446744073709551615", "18014398509481984K"])
  func `a size out of range is refused with the range`(text: String) {
    #expect(
      refusal { _ = try MemorySize(text) } == "'\(text)' is out of range: the memory of a sandbox is from 16M to 1T")
  }

  @Test func `a bind has a source, an absolute destination and perhaps a mode`() throws {
    let plain = try BindArgument("src:/dst")
    #expect(plain.source == "src" && plain.destination == "/dst" && !plain.isReadOnly)
    #expect(try BindArgument("/a:/b:ro").isReadOnly)
    #expect(try !BindArgument("/a:/b:rw").isReadOnly)
    for text in ["", "a", ":", ":/b", "a:", "a:b", "a:/", "a://", "/a:/b:xx", "/a:/b:ro:ro"] {
      #expect(refusal { _ = try BindArgument(text) } != nil, "\(text)")
    }
  }

  @Test(arguments: [
    ("/proc", "/proc"), ("/dev/", "/dev"), ("//sys", "/sys"), ("/./proc/.", "/proc"), ("/mnt/../dev", "/dev"),
    ("/../proc/self/..", "/proc"),
  ])
  func `a bind does not take the place of the kernel's own directories`(path: String, own: String) {
    let message = refusal { _ = try BindArgument("a:\(path)") }
    #expect(
      message?.contains("\(own) is made by the sandbox's own kernel") == true
        && message?.contains("--bind a:/mnt") == true)
  }

  @Test(arguments: ["/dev/shm", "/procs", "/mnt/proc", "/sys2", "/..dev"])
  func `a bind may be beside or beneath them`(path: String) throws {
    #expect(try BindArgument("a:\(path)").destination == path)
  }

  @Test func `an environment variable is split at the first equals sign`() throws {
    let variable = try EnvironmentArgument("A=b=c")
    #expect(variable.name == "A" && variable.value == "b=c")
    #expect(try EnvironmentArgument("A=").value == "")
    #expect(try EnvironmentArgument("A").value == nil)
    #expect(try EnvironmentArgument("A=b\nc").value == "b\nc")
    for text in ["", "=b", "A\nB=c", "\n", "A\u{1b}=c"] {
      #expect(refusal { _ = try EnvironmentArgument(text) } != nil, "\(text)")
    }
  }

  @Test func `a user is one or two numbers below the one that means unchanged`() throws {
    #expect(try UserArgument("5").user == .init(user: 5, group: 5))
    #expect(try UserArgument("5:6").user == .init(user: 5, group: 6))
    for text in ["", "bob", "5:", ":5", "1:2:3", "-1", "+1", "4294967295", "4294967296"] {
      #expect(refusal { _ = try UserArgument(text) } != nil, "\(text)")
    }
  }

  @Test func `a time limit is positive and finite`() throws {
    #expect(try TimeoutArgument("0.5").seconds == 0.5)
    for text in ["0", "-1", "nan", "inf", "1e300", "x", ""] {
      #expect(refusal { _ = try TimeoutArgument(text) } != nil, "\(text)")
    }
  }

  @Test func `a disk is a file that may be read-only`() throws {
    #expect(try DiskArgument("/a:b") == DiskArgument(path: "/a:b", isReadOnly: false))
    #expect(try DiskArgument("a:ro") == DiskArgument(path: "a", isReadOnly: true))
    #expect(refusal { _ = try DiskArgument(":ro") } == "':ro' is not FILE or FILE:ro")
  }

  @Test func `a swap file may have a size`() throws {
    #expect(try SwapArgument("/swap") == SwapArgument(path: "/swap", size: nil))
    #expect(try SwapArgument("/swap:2G") == SwapArgument(path: "/swap", size: 2 << 30))
    #expect(try SwapArgument("a:b") == SwapArgument(path: "a:b", size: nil))
    #expect(
      refusal { _ = try SwapArgument("a:1K") } == "'a:1K': the size of swap space is a multiple of 4K from 64K to 1T")
    #expect(refusal { _ = try SwapArgument("a:65537") }?.contains("multiple of 4K") == true)
    #expect(refusal { _ = try SwapArgument(":1G") } == "':1G' is not FILE or FILE:SIZE")
  }
}
