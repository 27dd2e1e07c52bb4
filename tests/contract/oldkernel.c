/* Runs a program as on an older kernel: system calls that came later fail as they do there.
 *
 *     oldkernel 4.18 COMMAND...    none of those that Linux 5.1 and later brought
 *     oldkernel 5.3  COMMAND...    pidfds, but setns(2) does not follow one */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_LATER 424 /* pidfd_send_signal; all later calls have higher numbers */

#define LOAD(field)                                                                                \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define UNLESS(test, value, skipped) BPF_JUMP(BPF_JMP | (test) | BPF_K, (value), 0, (skipped))
#define FAIL(reason)                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (reason))

int main(int argc, char **argv)
{
    struct sock_filter old[] = {
        LOAD(nr),
        UNLESS(BPF_JGE, argc > 1 && strcmp(argv[1], "5.3") == 0 ? 0xffff : FIRST_LATER, 1),
        FAIL(ENOSYS),
        UNLESS(BPF_JEQ, SYS_ioctl, 3),
        LOAD(args[1]),
        UNLESS(BPF_JEQ, LOOP_CONFIGURE, 6),
        FAIL(EINVAL),
        UNLESS(BPF_JEQ, SYS_setns, 4),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLONE_NEWUSER | CLONE_NEWNS, 1, 0),
        UNLESS(BPF_JEQ, CLONE_NEWUTS, 1),
        FAIL(EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(old) / sizeof(*old), old};

    if (argc < 3)
        return 2;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        perror("oldkernel");
    else
        execvp(argv[2], argv + 2);
    return 1;
}
