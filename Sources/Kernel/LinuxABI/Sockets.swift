// Numbers and flags of the socket calls (x86-64): socket(2), socket(7), unix(7), sendmsg(2), recvmsg(2).

// Address families
public let AF_UNSPEC: Int32 = 0
public let AF_UNIX: Int32 = 1
public let AF_INET: Int32 = 2
public let AF_INET6: Int32 = 10
/// One more than the highest family.
public let AF_MAX: Int32 = 46

// Types, and the flags beside them
public let SOCK_STREAM: Int32 = 1
public let SOCK_DGRAM: Int32 = 2
public let SOCK_RAW: Int32 = 3
public let SOCK_SEQPACKET: Int32 = 5
/// One more than the highest type.
public let SOCK_MAX: Int32 = 11
public let SOCK_TYPE_MASK: Int32 = 0xf

// Messages
public let MSG_OOB: Int32 = 0x1
public let MSG_PEEK: Int32 = 0x2
public let MSG_CTRUNC: Int32 = 0x8
public let MSG_TRUNC: Int32 = 0x20
public let MSG_DONTWAIT: Int32 = 0x40
public let MSG_EOR: Int32 = 0x80
public let MSG_WAITALL: Int32 = 0x100
public let MSG_NOSIGNAL: Int32 = 0x4000
public let MSG_WAITFORONE: Int32 = 0x10000
public let MSG_CMSG_CLOEXEC: Int32 = 0x4000_0000
public let MSG_CMSG_COMPAT: Int32 = .min

// Control messages of SOL_SOCKET
public let SCM_RIGHTS: Int32 = 1
public let SCM_CREDENTIALS: Int32 = 2
public let SCM_PIDFD: Int32 = 4
/// How many descriptors one message may carry.
public let SCM_MAX_FD = 253

// Options
public let SOL_SOCKET: Int32 = 1
public let SO_DEBUG: Int32 = 1
public let SO_REUSEADDR: Int32 = 2
public let SO_TYPE: Int32 = 3
public let SO_ERROR: Int32 = 4
public let SO_DONTROUTE: Int32 = 5
public let SO_BROADCAST: Int32 = 6
public let SO_SNDBUF: Int32 = 7
public let SO_RCVBUF: Int32 = 8
public let SO_KEEPALIVE: Int32 = 9
public let SO_OOBINLINE: Int32 = 10
public let SO_NO_CHECK: Int32 = 11
public let SO_PRIORITY: Int32 = 12
public let SO_LINGER: Int32 = 13
public let SO_BSDCOMPAT: Int32 = 14
public let SO_REUSEPORT: Int32 = 15
public let SO_PASSCRED: Int32 = 16
public let SO_PEERCRED: Int32 = 17
public let SO_RCVLOWAT: Int32 = 18
public let SO_SNDLOWAT: Int32 = 19
public let SO_RCVTIMEO_OLD: Int32 = 20
public let SO_SNDTIMEO_OLD: Int32 = 21
public let SO_TIMESTAMP_OLD: Int32 = 29
public let SO_ACCEPTCONN: Int32 = 30
public let SO_SNDBUFFORCE: Int32 = 32
public let SO_RCVBUFFORCE: Int32 = 33
public let SO_TIMESTAMPNS_OLD: Int32 = 35
public let SO_MARK: Int32 = 36
public let SO_PROTOCOL: Int32 = 38
public let SO_DOMAIN: Int32 = 39
public let SO_RXQ_OVFL: Int32 = 40
public let SO_PEEK_OFF: Int32 = 42
public let SO_COOKIE: Int32 = 57
public let SO_PEERGROUPS: Int32 = 59
public let SO_TIMESTAMP_NEW: Int32 = 63
public let SO_TIMESTAMPNS_NEW: Int32 = 64
public let SO_RCVTIMEO_NEW: Int32 = 66
public let SO_SNDTIMEO_NEW: Int32 = 67
public let SO_PASSPIDFD: Int32 = 76
public let SO_PEERPIDFD: Int32 = 77

// ioctl(2)
public let FIOSETOWN: UInt32 = 0x8901
public let SIOCSPGRP: UInt32 = 0x8902
public let FIOGETOWN: UInt32 = 0x8903
public let SIOCGPGRP: UInt32 = 0x8904
/// Also TIOCOUTQ.
public let SIOCOUTQ: UInt32 = 0x5411

// shutdown(2)
public let SHUT_RD: Int32 = 0
public let SHUT_WR: Int32 = 1
public let SHUT_RDWR: Int32 = 2
