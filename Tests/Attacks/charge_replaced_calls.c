// System calls in the code of files are replaced by jumps in copies of the pages, which programs share. A program can jump to any
// byte and make a call there, also in the middle of another instruction. That must not change what this instruction is: neither in
// a program of another user nor in one of the same user. Each attacker calls the bytes 0f 05 of `mov $0x50f11,%eax` often enough
// for a replacement; then fresh programs execute the instruction.
//
// run: --user 0 -- @
// expect: ok the instruction is what it was for user 0 .*
// expect: ok the instruction is what it was for user 1000 .*
// expect: ok control: calls of the page .*
// run: --user 0 --cpus 2 -- @ threads
// expect: ok the instruction is what it was for user 0 .*
#include "attack.h"

// A page with the secret, and room for replacements; `calls` makes two calls of its own.
__asm__(".text\n.balign 4096\n.globl secret, calls\n"
        ".rept 256\n clc\n .endr\n"
        "secret: mov $0x00050f11,%eax\n ret\n .balign 16,0x90\n"
        "calls: mov $39,%eax\n syscall\n mov %rax,%rdx\n mov $39,%eax\n syscall\n ret\n .balign 16,0x90\n"
        ".rept 16\n ret\n .balign 16,0x90\n .endr\n"
        ".balign 4096,0x90\n");
extern int secret(void), calls(void);

static void attack(void) {
  for (int i = 0; i < 20000; i++)
    __asm__ volatile("sub $128,%%rsp; mov $39,%%eax; lea secret+2(%%rip),%%rbx; call *%%rbx; add $128,%%rsp" ::
                         : "rax", "rbx", "rcx", "rdx", "r11", "memory", "cc");
}
static void *attack_in_thread(void *unused) {
  attack();
  return unused;
}

static void attack_as(uid_t user, bool threads) {
  pid_t child = MUST(fork());
  if (child == 0) {
    if (user) become_user(user);
    pthread_t other;
    if (threads) MUST(-pthread_create(&other, NULL, attack_in_thread, NULL));
    attack();
    if (threads) pthread_join(other, NULL);
    _exit(7);
  }
  check(outcome(child) == 7, "user %d attacks", user);
}

// What a fresh program of the user finds: 0 the instruction, 1 something else.
static int victim(uid_t user) {
  pid_t child = MUST(fork());
  if (child == 0) {
    if (user) become_user(user);
    execl("/proc/self/exe", "victim", "victim", NULL);
    _exit(97);
  }
  return outcome(child);
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "victim")) {
    // It wants copies of the page itself.
    for (int i = 0; i < 2000; i++)
      if (calls() != getpid()) return 2;
    return secret() == 0x50f11 ? 0 : 1;
  }
  bool threads = argc > 1 && !strcmp(argv[1], "threads");
  check(victim(0) == 0 && victim(1000) == 0, "control: calls of the page and the instruction work before");
  for (int round = 0; round < 3; round++) {
    attack_as(1000, threads);
    attack_as(0, threads);
  }
  for (uid_t user = 0; user <= 1000; user += 1000)
    check(victim(user) == 0, "the instruction is what it was for user %d after attacks by users 1000 and 0", user);
  check(secret() == 0x50f11, "and for the attacker");
  return attack_end();
}
