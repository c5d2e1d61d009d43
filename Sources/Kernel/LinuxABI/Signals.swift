// Signal numbers, action flags and codes of x86-64 Linux: signal(7), sigaction(2).

public let SIGHUP: Int32 = 1
public let SIGINT: Int32 = 2
public let SIGQUIT: Int32 = 3
public let SIGILL: Int32 = 4
public let SIGTRAP: Int32 = 5
public let SIGABRT: Int32 = 6
public let SIGBUS: Int32 = 7
public let SIGFPE: Int32 = 8
public let SIGKILL: Int32 = 9
public let SIGUSR1: Int32 = 10
public let SIGSEGV: Int32 = 11
public let SIGUSR2: Int32 = 12
public let SIGPIPE: Int32 = 13
public let SIGALRM: Int32 = 14
public let SIGTERM: Int32 = 15
public let SIGSTKFLT: Int32 = 16
public let SIGCHLD: Int32 = 17
public let SIGCONT: Int32 = 18
public let SIGSTOP: Int32 = 19
public let SIGTSTP: Int32 = 20
public let SIGTTIN: Int32 = 21
public let SIGTTOU: Int32 = 22
public let SIGURG: Int32 = 23
public let SIGXCPU: Int32 = 24
public let SIGXFSZ: Int32 = 25
public let SIGVTALRM: Int32 = 26
public let SIGPROF: Int32 = 27
public let SIGWINCH: Int32 = 28
public let SIGIO: Int32 = 29
public let SIGPWR: Int32 = 30
public let SIGSYS: Int32 = 31
public let SIGRTMIN: Int32 = 32
public let SIGRTMAX: Int32 = 64

public let SIG_DFL: UInt64 = 0
public let SIG_IGN: UInt64 = 1

public let SA_NOCLDSTOP: UInt64 = 0x0000_0001
public let SA_NOCLDWAIT: UInt64 = 0x0000_0002
public let SA_SIGINFO: UInt64 = 0x0000_0004
public let SA_UNSUPPORTED: UInt64 = 0x0000_0400
public let SA_EXPOSE_TAGBITS: UInt64 = 0x0000_0800
public let SA_RESTORER: UInt64 = 0x0400_0000
public let SA_ONSTACK: UInt64 = 0x0800_0000
public let SA_RESTART: UInt64 = 0x1000_0000
public let SA_NODEFER: UInt64 = 0x4000_0000
public let SA_RESETHAND: UInt64 = 0x8000_0000

public let SS_ONSTACK: Int32 = 1
public let SS_DISABLE: Int32 = 2
public let SS_AUTODISARM: Int32 = Int32(bitPattern: 0x8000_0000)
/// The smallest alternate stack that Linux accepts when the frame's size is known: AT_MINSIGSTKSZ is the real need.
public let MINSIGSTKSZ: UInt64 = 2048

public let SIG_BLOCK: Int32 = 0
public let SIG_UNBLOCK: Int32 = 1
public let SIG_SETMASK: Int32 = 2

// si_code.
public let SI_USER: Int32 = 0
public let SI_KERNEL: Int32 = 0x80
public let SI_QUEUE: Int32 = -1
public let SI_TIMER: Int32 = -2
public let SI_MESGQ: Int32 = -3
public let SI_ASYNCIO: Int32 = -4
public let SI_SIGIO: Int32 = -5
public let SI_TKILL: Int32 = -6
public let ILL_ILLOPN: Int32 = 2
public let FPE_INTDIV: Int32 = 1
public let FPE_FLTDIV: Int32 = 3
public let FPE_FLTOVF: Int32 = 4
public let FPE_FLTUND: Int32 = 5
public let FPE_FLTRES: Int32 = 6
public let FPE_FLTINV: Int32 = 7
public let SEGV_MAPERR: Int32 = 1
public let SEGV_ACCERR: Int32 = 2
public let BUS_ADRALN: Int32 = 1
public let BUS_ADRERR: Int32 = 2
public let BUS_OBJERR: Int32 = 3
public let TRAP_BRKPT: Int32 = 1
public let TRAP_TRACE: Int32 = 2
public let CLD_EXITED: Int32 = 1
public let CLD_KILLED: Int32 = 2
public let CLD_DUMPED: Int32 = 3
public let CLD_TRAPPED: Int32 = 4
public let CLD_STOPPED: Int32 = 5
public let CLD_CONTINUED: Int32 = 6
public let SYS_SECCOMP: Int32 = 1

// sigevent notification.
public let SIGEV_SIGNAL: Int32 = 0
public let SIGEV_NONE: Int32 = 1
public let SIGEV_THREAD: Int32 = 2
public let SIGEV_THREAD_ID: Int32 = 4

// The signal frame (arch/x86: uc_flags and the marks around the extended state).
public let UC_FP_XSTATE: UInt64 = 1
public let UC_SIGCONTEXT_SS: UInt64 = 2
public let UC_STRICT_RESTORE_SS: UInt64 = 4
public let FP_XSTATE_MAGIC1: UInt32 = 0x4650_5853
public let FP_XSTATE_MAGIC2: UInt32 = 0x4650_5845
