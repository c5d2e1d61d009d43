// For programs that make random or boundless system calls: on the host they would change or exhaust it.
#ifndef SANDBOX_ONLY_H
#define SANDBOX_ONLY_H

#include <stdio.h>
#include <unistd.h>

// Ends the program before `main` unless it runs in Apus.
__attribute__((constructor)) static void sandbox_only(void) {
  if (access("/proc/apus", F_OK) == 0) return;
  fputs("this program runs in a sandbox only: its system calls would harm the host\n", stderr);
  _exit(97);
}

#endif
