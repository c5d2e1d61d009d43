import KernelCore
import LinuxABI
import TestSupport
import Testing

@testable import FileSystem

/// A file that knows whether it was closed.
final class CountedFile: OpenFile {
  var closes = 0
  init() {
    super.init(path: AnonymousFiles.makePath(kind: .fifo, name: "test"), flags: .readWrite, isSeekable: false)
  }
  override func close() { closes += 1 }
}

@Suite struct DescriptorTableTests {
  /// The file of a descriptor, without keeping it in use.
  private func file(of descriptor: Int32, in table: DescriptorTable) -> OpenFile? {
    do throws(Errno) { return try table.get(descriptor).file } catch { return nil }
  }

  @Test func `descriptors are the lowest free numbers and files close with their last one, over random steps`() throws {
    var random = SeededGenerator("descriptors")
    let table = DescriptorTable(limit: 200)
    var model: [Int32: (file: CountedFile, closeOnExec: Bool)] = [:]
    var files: [CountedFile] = []
    func lowest(_ from: Int32) -> Int32 {
      var number = from
      while model[number] != nil { number += 1 }
      return number
    }
    for _ in 0..<SeededGenerator.steps(10_000) {
      switch random.below(6) {
      case 0, 1:
        let file = CountedFile()
        let from = Int32(random.below(3) == 0 ? random.below(200) : 0)
        let flag = random.below(2) == 0
        let expected = lowest(from)
        if expected >= 200 {
          #expect(throws: Errno.EMFILE) { try table.insert(file, closeOnExec: flag, from: from) }
          #expect(file.closes == 1)
        } else {
          #expect(try table.insert(file, closeOnExec: flag, from: from) == expected)
          model[expected] = (file, flag)
          files.append(file)
        }
      case 2, 3:
        let number = Int32(random.below(210)) - 5
        if model[number] == nil {
          #expect(throws: Errno.EBADF) { try table.close(number) }
        } else {
          try table.close(number)
          model[number] = nil
        }
      case 4:
        let source = Int32(random.below(200))
        let target = Int32(random.below(200))
        guard source != target else { continue }
        if let entry = model[source] {
          try table.duplicate(source, to: target, closeOnExec: true)
          model[target] = (entry.file, true)
        } else {
          #expect(throws: Errno.EBADF) { try table.duplicate(source, to: target, closeOnExec: true) }
        }
      default:
        guard random.below(50) == 0 else { continue }
        table.closeOnExec()
        model = model.filter { !$0.value.closeOnExec }
      }
      let number = Int32(random.below(200))
      #expect(file(of: number, in: table) === model[number]?.file)
      #expect(table.openCount == model.count)
    }
    for file in files {
      let isOpen = model.values.contains { $0.file === file }
      #expect(file.closes == (isOpen ? 0 : 1))
    }
    table.leave()
    for file in files { #expect(file.closes == 1) }
  }

  @Test func `a copied table keeps files open that the original closes`() throws {
    let table = DescriptorTable(limit: 10)
    let file = CountedFile()
    let number = try table.insert(file)
    let copy = table.copy()
    try table.close(number)
    #expect(file.closes == 0)
    #expect(self.file(of: number, in: copy) === file)
    copy.leave()
    #expect(file.closes == 1)
  }

  @Test func `close_range marks or closes what is in the range`() throws {
    let table = DescriptorTable(limit: 100)
    for _ in 0..<20 { _ = try table.insert(CountedFile()) }
    table.close(from: 5, through: 9, marking: true)
    #expect(try table.isCloseOnExec(5) && table.isCloseOnExec(9))
    #expect(try !table.isCloseOnExec(10))
    table.close(from: 15, through: .max, marking: false)
    #expect(table.openCount == 15)
    table.closeOnExec()
    #expect(table.openCount == 10)
  }
}
