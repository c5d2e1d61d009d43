import Identity
import Testing

@Suite struct CodeOwnerTests {
  @Test func `one identity owns code, another one other code, and two at once none`() throws {
    let root = try #require(Credentials.root.codeOwner)
    let user = try #require(Credentials(user: 1000, group: 1000).codeOwner)
    let other = try #require(Credentials(user: 1000, group: 1001).codeOwner)
    #expect(Set([root, user, other, 0]).count == 4)
    #expect(Credentials(user: 1000, group: 1000, groups: [5]).codeOwner == user)
    let mixed = try Credentials.root.settingUsers(real: .max, effective: 1000, saved: .max)
    #expect(mixed.codeOwner == nil, "it can become root again")
  }
}
