// The host's terminal, for the console device: raw mode that is undone whatever ends the monitor, and the signals that
// tell of a new window size. In C because signal handlers may touch only static data and async-signal-safe calls.

#ifndef CONSOLE_HOST_H
#define CONSOLE_HOST_H

#include <stdint.h>

// A new eventfd that does not block, or a negative error number.
int console_host_wake(void);

// Writes 8 bytes to `wake` (an eventfd) on SIGWINCH and SIGCONT; 0 or a negative error number.
int console_host_watch_signals(int wake);

// Puts the terminal `fd` into raw mode (no editing, no echo, no signals, no output processing) and remembers how it was.
// Only a foreground process may: -EAGAIN otherwise. Idempotent. Restored at exit and by the signals that end a process.
int console_host_raw(int fd);

// Puts the terminal back as it was. Async-signal-safe; call it before _exit.
void console_host_restore(void);

// Whether the caller's process group is the terminal's foreground group (or the terminal is not its controlling one).
int console_host_is_foreground(int fd);

// Opens another description of the file behind `fd` that does not block, without touching the flags that other
// processes share; a negative error number when the file does not allow it.
int console_host_reopen(int fd, int access_mode);

// TIOCGWINSZ as rows, columns, pixel width, pixel height; 0 or a negative error number.
int console_host_window(int fd, uint16_t window[4]);

#endif
