// Pseudo-terminals and job control: line editing, flushing, the controlling terminal, background groups, hang-up.
#include "../conformance.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, terminal;
static char name[64];

static void open_pair(void) {
  master = MUST(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  MUST(grantpt(master)), MUST(unlockpt(master));
  MUST(ptsname_r(master, name, sizeof name));
  terminal = MUST(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
}

static void close_pair(void) { close(master), close(terminal); }

// What can be read, control characters spelled out: until it is what was expected and nothing more comes for a moment.
static const char *heard(int fd, const char *expected) {
  static char text[1024];
  char bytes[200];
  size_t used = 0;
  struct pollfd p = {fd, POLLIN, 0};
  text[0] = 0;
  while (used < 900 && poll(&p, 1, strcmp(text, expected) ? 60000 : 60) > 0) {
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n == 0) return strcat(text, "<end>");
    if (n < 0) return strcat(strcat(strcat(text, "<"), strerrorname_np(errno)), ">");
    for (ssize_t i = 0; i < n; i++)
      used += sprintf(text + used, bytes[i] < 32 || bytes[i] > 126 ? "<%d>" : "%c", bytes[i]);
  }
  return text;
}

// Waits until so many bytes can be read: a line discipline may hand them over a little later.
static int readable(int fd) {
  int count = 0;
  ioctl(fd, FIONREAD, &count);
  return count;
}
#define AWAIT(fd, count) UNTIL(readable(fd) >= (count))

static void say(const char *text) { MUST(write(master, text, strlen(text))); }
// What a check found while a child was printing is told later, so that the lines have one order.
static struct { bool ok; char what[100], text[300]; } found[20];
static int found_count;
static void tell(void) {
  for (int i = 0; i < found_count; i++)
    if (!check_true(found[i].ok, found[i].what, __LINE__)) line("  '%s'", found[i].text);
  found_count = 0;
}
static void listen_for(int fd, const char *what, const char *expected) {
  const char *text = heard(fd, expected);
  found[found_count].ok = !strcmp(text, expected);
  snprintf(found[found_count].what, sizeof found->what, "%s says '%s'", what, expected);
  snprintf(found[found_count++].text, sizeof found->text, "%s", text);
}
#define LISTEN(fd, expected) listen_for(fd, #fd, expected)
#define HEARD(fd, expected) (LISTEN(fd, expected), tell())

static void editing(void) {
  section("lines");
  open_pair();
  CHECK(isatty(master) && isatty(terminal));
  say("one\n");
  HEARD(terminal, "one<10>");
  HEARD(master, "one<13><10>");
  say("abx\177c\n");
  HEARD(terminal, "abc<10>");
  HEARD(master, "abx<8> <8>c<13><10>");
  say("two words\027gone\025all\n");
  HEARD(terminal, "all<10>");
  tcflush(master, TCIFLUSH);
  say("part");
  HEARD(terminal, "");
  say("\004");
  HEARD(terminal, "part");
  say("\004");
  char c;
  EQUAL(read(terminal, &c, 1), 0);
  HEARD(master, "part");
  MUST(write(terminal, "a\nb", 3));
  HEARD(master, "a<13><10>b");
  int n;
  say("12345\n");
  AWAIT(terminal, 6);
  OK(ioctl(terminal, FIONREAD, &n));
  EQUAL(n, 6);
  HEARD(terminal, "12345<10>");
  HEARD(master, "12345<13><10>");

  section("settings");
  struct termios t, u;
  OK(tcgetattr(terminal, &t));
  CHECK(t.c_lflag & ICANON && t.c_lflag & ECHO && t.c_lflag & ISIG && t.c_oflag & OPOST && t.c_iflag & ICRNL);
  u = t;
  cfmakeraw(&u);
  u.c_cc[VMIN] = 3, u.c_cc[VTIME] = 0;
  // Draining does not wait for a master that reads nothing.
  MUST(write(terminal, "unread", 6));
  OK(tcdrain(terminal));
  OK(tcsetattr(terminal, TCSADRAIN, &u));
  say("ab");
  struct pollfd p = {terminal, POLLIN, 0};
  EQUAL(poll(&p, 1, 50), 0);
  say("\003\n");
  HEARD(terminal, "ab<3><10>");
  HEARD(master, "unread");
  u.c_cc[VMIN] = 0, u.c_cc[VTIME] = 1;
  OK(tcsetattr(terminal, TCSANOW, &u));
  EQUAL(read(terminal, &c, 1), 0);
  OK(tcsetattr(terminal, TCSAFLUSH, &t));
  struct winsize w = {.ws_row = 33, .ws_col = 77}, x;
  OK(ioctl(master, TIOCSWINSZ, &w));
  OK(ioctl(terminal, TIOCGWINSZ, &x));
  CHECK(x.ws_row == 33 && x.ws_col == 77);

  section("flushing");
  MUST(write(terminal, "out", 3));
  AWAIT(master, 3);
  OK(tcflush(terminal, TCOFLUSH));
  HEARD(master, "out");
  MUST(write(terminal, "out", 3));
  AWAIT(master, 3);
  say("\003");
  HEARD(master, "out^C");
  say("lost\n");
  AWAIT(terminal, 5);
  OK(tcflush(terminal, TCIFLUSH));
  HEARD(terminal, "");
  HEARD(master, "lost<13><10>");
  say("kept\n");
  AWAIT(terminal, 5);
  OK(tcflush(master, TCOFLUSH));
  HEARD(terminal, "kept<10>");
  HEARD(master, "kept<13><10>");
  MUST(write(terminal, "out", 3));
  AWAIT(master, 3);
  OK(tcflush(master, TCIFLUSH));
  HEARD(master, "");
  OK(tcflow(terminal, TCOOFF));
  fcntl(terminal, F_SETFL, O_RDWR | O_NONBLOCK);
  FAILS(write(terminal, "stopped", 7), EAGAIN);
  HEARD(master, "");
  OK(tcflow(terminal, TCOON));
  EQUAL(write(terminal, "goes", 4), 4);
  HEARD(master, "goes");
  close_pair();
}

static volatile sig_atomic_t got;
static void note(int signal) { got = signal; }

static void gone(void);
static int p_null(void) { return MUST(open("/dev/null", O_RDWR)); }

static void jobs(void) {
  section("the controlling terminal");
  open_pair();
  FAILS(tcgetpgrp(terminal), ENOTTY);
  pid_t leader = CHILD({
    close(master);
    CHECK(setsid() > 0);
    FAILS(open("/dev/tty", O_RDWR), ENXIO);
    OK(ioctl(terminal, TIOCSCTTY, 0));
    int tty = MUST(open("/dev/tty", O_RDWR));
    CHECK(tcgetpgrp(tty) == getpid() && tcgetsid(tty) == getpid());
    FAILS(tcsetpgrp(tty, 1 << 29), ESRCH);
    FAILS(tcsetpgrp(tty, getppid()), EPERM);
    // Window changes and interrupts come to the foreground group.
    signal(SIGWINCH, note), signal(SIGINT, note);
    write(tty, "ready", 5);
    while (got != SIGWINCH) sleep_ms(1);
    write(tty, "winch", 5);
    while (got != SIGINT) sleep_ms(1);
    // A background group that reads is stopped; one whose SIGTTIN is ignored gets EIO.
    pid_t job = CHILD({
      setpgid(0, 0);
      signal(SIGINT, SIG_DFL);
      char c;
      _exit(read(tty, &c, 1) == 1 ? c : 1);
    });
    setpgid(job, job);
    int status;
    CHECK(waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
    OK(tcsetpgrp(tty, job));
    kill(job, SIGCONT);
    write(tty, "job", 3);
    CHECK(waitpid(job, &status, 0) == job && WEXITSTATUS(status) == 'j');
    // Now this process is in the background: its own tcsetpgrp would stop it, unless SIGTTOU is blocked or ignored.
    signal(SIGTTOU, SIG_IGN);
    OK(tcsetpgrp(tty, getpid()));
    signal(SIGTTOU, SIG_DFL);
    job = CHILD({
      setpgid(0, 0);
      signal(SIGTTIN, SIG_IGN);
      char c;
      FAILS(read(tty, &c, 1), EIO);
      OK(write(tty, "", 0));
      struct termios t;
      tcgetattr(tty, &t);
      t.c_lflag |= TOSTOP;
      tcsetattr(tty, TCSANOW, &t);
      _exit(9);
    });
    setpgid(job, job);
    CHECK(waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
    kill(job, SIGKILL);
    EQUAL(outcome(job), SIGNALLED(SIGKILL));
    // ^Z stops the foreground job.
    job = CHILD({
      setpgid(0, 0);
      for (;;) pause();
    });
    setpgid(job, job);
    OK(tcsetpgrp(tty, job));
    write(tty, "stop", 4);
    CHECK(waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
    // The end of the leader hangs up the foreground group, and continues the stopped orphans.
    _exit(checks_failed);
  });
  close(terminal);
  LISTEN(master, "ready");
  struct winsize w = {.ws_row = 5, .ws_col = 6};
  MUST(ioctl(master, TIOCSWINSZ, &w));
  LISTEN(master, "winch");
  say("\003");
  LISTEN(master, "^Cjob");
  say("j\n");
  LISTEN(master, "j<13><10>stop");
  say("\032");
  EQUAL(outcome(leader), 0);
  LISTEN(master, "^Z<EIO>");
  tell();
  close(master);

  section("hang-up");
  open_pair();
  int p[2];
  MUST(pipe(p));
  leader = CHILD({
    close(master);
    setsid();
    ioctl(terminal, TIOCSCTTY, 0);
    signal(SIGHUP, note);
    write(p[1], "r", 1);
    while (got != SIGHUP) sleep_ms(1);
    char c;
    EQUAL(read(terminal, &c, 1), 0);
    FAILS(write(terminal, "x", 1), EIO);
    struct termios t;
    FAILS(tcgetattr(terminal, &t), EIO);
    _exit(checks_failed);
  });
  char c;
  read(p[0], &c, 1);
  close(terminal);
  close(master);
  EQUAL(outcome(leader), 0);
  open_pair();
  close(terminal);
  HEARD(master, "<EIO>");
  terminal = open(name, O_RDWR | O_NOCTTY);
  say("again\n");
  HEARD(terminal, "again<10>");
  close_pair();

  open_pair();
  close(master);
  gone();
  close(terminal);
}

// A terminal that was hung up.
static void gone(void) {
  struct winsize w = {0};
  struct termios t;
  int n = 0;
  char c;
  struct pollfd f = {terminal, POLLIN | POLLOUT, 0};
  FAILS(ioctl(terminal, TIOCGWINSZ, &w), EIO);
  FAILS(ioctl(terminal, TIOCSWINSZ, &w), EIO);
  FAILS(ioctl(terminal, TCGETS, &t), EIO);
  FAILS(ioctl(terminal, TCSETS, &t), EIO);
  FAILS(ioctl(terminal, TIOCGPGRP, &n), EIO);
  FAILS(ioctl(terminal, TIOCSPGRP, &n), ENOTTY);
  FAILS(ioctl(terminal, TIOCGSID, &n), EIO);
  FAILS(ioctl(terminal, TIOCSCTTY, 0), EIO);
  FAILS(ioctl(terminal, TIOCNOTTY, 0), EIO);
  FAILS(ioctl(terminal, FIONREAD, &n), EIO);
  FAILS(ioctl(terminal, TCFLSH, 2), EIO);
  FAILS(ioctl(terminal, TIOCEXCL, 0), EIO);
  FAILS(ioctl(terminal, 0x9999, 0), EIO);
  OK(ioctl(terminal, FIONBIO, &n));
  EQUAL(read(terminal, &c, 1), 0);
  FAILS(write(terminal, "x", 1), EIO);
  EQUAL(poll(&f, 1, 0), 1);
  EQUAL(f.revents, POLLIN | POLLOUT | POLLERR | POLLHUP);
}

static void peers(void) {
  section("the other side");
  open_pair();
  int peer = MUST(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  EQUAL(fcntl(peer, F_GETFD), FD_CLOEXEC);
  EQUAL(fcntl(peer, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
  char link[PATH_MAX] = {0}, path[40];
  sprintf(path, "/proc/self/fd/%d", peer);
  CHECK(readlink(path, link, sizeof link) > 0 && !strcmp(link, name));
  struct stat one, two;
  OK(fstat(peer, &one));
  OK(fstat(terminal, &two));
  CHECK(one.st_rdev == two.st_rdev && one.st_ino == two.st_ino && one.st_dev == two.st_dev);
  say("peer\n");
  HEARD(peer, "peer<10>");
  close(terminal);
  EQUAL(write(peer, "!", 1), 1);
  FAILS(ioctl(peer, TIOCGPTPEER, O_RDWR), EIO);
  FAILS(ioctl(p_null(), TIOCGPTPEER, O_RDWR), ENOTTY);
  close(peer);
  HEARD(master, "peer<13><10>!<EIO>");
  int locked = 1;
  OK(ioctl(master, TIOCSPTLCK, &locked));
  FAILS(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY), EIO);
  EQUAL(ioctl(master, TIOCOUTQ, &locked), 0);
  FAILS(ioctl(master, TIOCNOTTY, 0), ENOTTY);
  close(master);
}

int main(void) {
  alarm(150);
  editing();
  jobs();
  peers();
  return conformance_end();
}
