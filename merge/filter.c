/* Programs of classic BPF. What is refused gets an error, so that a harmless library call that
   nobody has thought of does no harm; another machine's calls end the process. */
#define _GNU_SOURCE
#include "filter.h"

#include <asm/sockios.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define MACHINE AUDIT_ARCH_PPC64LE
#endif
#if defined(MACHINE)

#define ROOM          500
#define SECOND_ABI    0x40000000U /* x32 on x86-64: the same calls under other numbers */
#define ANSWER(error) (SECCOMP_RET_ERRNO | ((error)&SECCOMP_RET_DATA))
#define FIELD(name)   ((uint32_t)offsetof(struct seccomp_data, name))
#define LOW(number)   (FIELD(args) + 8 * (number)) /* little endian, as all machines above */

struct filter {
    struct sock_filter steps[ROOM];
    unsigned short count;
};

static const int refused[] = {
    /* The network, and what is shared by name. */
    SYS_socket,
    SYS_socketpair,
    SYS_connect,
    SYS_bind,
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    SYS_memfd_create,
    SYS_shmget,
    SYS_shmat,
    SYS_semget,
    SYS_msgget,
    SYS_mq_open,
    SYS_mq_unlink,
    /* Other processes. */
    SYS_kill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_ptrace,
    SYS_kcmp,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_setpriority,
    SYS_ioprio_set,
    SYS_sched_setaffinity,
    SYS_sched_setscheduler,
    SYS_sched_setparam,
    SYS_sched_setattr,
    SYS_migrate_pages,
    SYS_move_pages,
    /* Its own bonds: the signal at its parent's end is set by prctl. */
    SYS_prctl,
    SYS_unshare,
    SYS_setns,
    SYS_setsid,
    SYS_setpgid,
    SYS_personality,
    /* The file system's names; Landlock does not see changes of mode, owner and attributes. */
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchown,
    SYS_fchownat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_fremovexattr,
    SYS_utimensat,
    SYS_truncate,
    SYS_renameat2,
    SYS_linkat,
    SYS_symlinkat,
    SYS_mkdirat,
    SYS_mknodat,
    SYS_unlinkat,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_quotactl,
    SYS_acct,
    SYS_swapon,
    SYS_swapoff,
    SYS_fanotify_init,
    /* Large parts of the kernel that no converter needs. */
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_reboot,
    SYS_syslog,
#if defined(SYS_fork)
    SYS_fork,
    SYS_vfork,
#endif
#if defined(SYS_chmod)
    SYS_chmod,
    SYS_chown,
    SYS_lchown,
    SYS_utime,
    SYS_utimes,
    SYS_futimesat,
    SYS_rename,
    SYS_link,
    SYS_symlink,
    SYS_mkdir,
    SYS_mknod,
    SYS_unlink,
    SYS_rmdir,
#endif
#if defined(SYS_renameat)
    SYS_renameat,
#endif
#if defined(SYS_kexec_file_load)
    SYS_kexec_file_load,
#endif
#if defined(SYS_userfaultfd)
    SYS_userfaultfd,
#endif
#if defined(SYS_modify_ldt)
    SYS_modify_ldt,
    SYS_iopl,
    SYS_ioperm,
#endif
};

/* The same numbers on all machines; headers may be older than the kernel. */
static const int newer[] = {424 /* pidfd_send_signal */,
                            425 /* io_uring_setup */,
                            426 /* io_uring_enter */,
                            427 /* io_uring_register */,
                            428 /* open_tree */,
                            429 /* move_mount */,
                            430 /* fsopen */,
                            431 /* fsconfig */,
                            432 /* fsmount */,
                            433 /* fspick */,
                            434 /* pidfd_open */,
                            438 /* pidfd_getfd */,
                            440 /* process_madvise */,
                            442 /* mount_setattr */,
                            443 /* quotactl_fd */,
                            448 /* process_mrelease */,
                            452 /* fchmodat2 */,
                            463 /* setxattrat */,
                            466 /* removexattrat */,
                            467 /* open_tree_attr */};

/* What signals another process all the same, by an event of a descriptor, or types for it. */
static const uint32_t commands[] = {F_SETOWN, F_SETOWN_EX, F_SETSIG};
static const uint32_t controls[] = {FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCSCTTY, TIOCLINUX};

#define CLONE3 435 /* its flags lie in memory, where a filter cannot see them */

static const int few[] = {
    SYS_read,
    SYS_pread64,
    SYS_readv,
    SYS_write,
    SYS_writev,
    SYS_close,
    SYS_fstat,
    SYS_lseek,
    SYS_fcntl,
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    SYS_futex,
    SYS_set_robust_list,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_restart_syscall,
    SYS_exit,
    SYS_exit_group,
    SYS_getpid,
    SYS_gettid,
    SYS_getrandom,
    SYS_clock_gettime,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_sysinfo,
#if defined(SYS_rseq)
    SYS_rseq,
#endif
#if defined(SYS_newfstatat)
    SYS_newfstatat, /* with an empty path: glibc's fstat */
#endif
};

static void add(struct filter *filter, unsigned int code, uint32_t value, uint8_t yes, uint8_t no)
{
    if (filter->count < ROOM)
        filter->steps[filter->count] = (struct sock_filter){(uint16_t)code, yes, no, value};
    filter->count++;
}

static void load(struct filter *filter, uint32_t at)
{
    add(filter, BPF_LD | BPF_W | BPF_ABS, at, 0, 0);
}

static void answer(struct filter *filter, uint32_t result)
{
    add(filter, BPF_RET | BPF_K, result, 0, 0);
}

static void answer_call(struct filter *filter, int call, uint32_t result)
{
    add(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1);
    answer(filter, result);
}

/* For one call: `first` where its argument has one of the bits (is the value), else `second`. */
static void judge(struct filter *filter, int call, unsigned int argument, unsigned int test,
                  uint32_t value, const uint32_t results[2])
{
    add(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4);
    load(filter, LOW(argument));
    add(filter, BPF_JMP | test | BPF_K, value, 0, 1);
    answer(filter, results[0]);
    answer(filter, results[1]);
}

/* For one call: refused where an argument is one of a few. */
static void refuse_values(struct filter *filter, int call, unsigned int argument,
                          const uint32_t *values, uint8_t count)
{
    add(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, (uint8_t)(2 * count + 2));
    load(filter, LOW(argument));
    for (uint8_t i = 0; i < count; i++)
        answer_call(filter, (int)values[i], ANSWER(EPERM));
    load(filter, FIELD(nr));
}

/* Shared memory counts for no limit of a process. */
static void refuse_shared(struct filter *filter)
{
    add(filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 5);
    load(filter, LOW(3));
    add(filter, BPF_ALU | BPF_AND | BPF_K, MAP_SHARED | MAP_ANONYMOUS, 0, 0);
    answer_call(filter, MAP_SHARED | MAP_ANONYMOUS, ANSWER(EPERM));
    load(filter, FIELD(nr));
}

static void begin(struct filter *filter)
{
    static const uint32_t if_set[] = {SECCOMP_RET_ALLOW, ANSWER(EPERM)};

    load(filter, FIELD(arch));
    add(filter, BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0);
    answer(filter, SECCOMP_RET_KILL_PROCESS);
    load(filter, FIELD(nr));
#if defined(__x86_64__)
    add(filter, BPF_JMP | BPF_JGE | BPF_K, SECOND_ABI, 0, 1);
    answer(filter, SECCOMP_RET_KILL_PROCESS);
#endif
    /* Threads and nothing else: a process of its own would not end with our parent. The C library
       falls back to clone, whose flags can be seen. */
    answer_call(filter, CLONE3, ANSWER(ENOSYS));
    judge(filter, SYS_clone, 0, BPF_JSET, CLONE_THREAD, if_set);
    judge(filter, SYS_tgkill, 0, BPF_JEQ, (uint32_t)getpid(), if_set);
    judge(filter, SYS_prlimit64, 0, BPF_JEQ, 0, if_set);
    refuse_values(filter, SYS_fcntl, 1, commands, sizeof(commands) / sizeof(*commands));
    refuse_values(filter, SYS_ioctl, 1, controls, sizeof(controls) / sizeof(*controls));
    refuse_shared(filter);
}

static bool install(const struct filter *filter)
{
    struct sock_fprog program = {filter->count, (struct sock_filter *)filter->steps};

    return filter->count <= ROOM &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

bool filter_refuse(void)
{
    struct filter filter = {.count = 0};

    begin(&filter);
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
        answer_call(&filter, refused[i], ANSWER(EPERM));
    for (size_t i = 0; i < sizeof(newer) / sizeof(*newer); i++)
        answer_call(&filter, newer[i], ANSWER(EPERM));
    answer(&filter, SECCOMP_RET_ALLOW);
    return install(&filter);
}

bool filter_allow_few(void)
{
    static const uint32_t unless_set[] = {ANSWER(EPERM), SECCOMP_RET_ALLOW};
    struct filter filter = {.count = 0};

    begin(&filter);
    /* All code is loaded by now. */
    judge(&filter, SYS_mmap, 2, BPF_JSET, PROT_EXEC, unless_set);
    judge(&filter, SYS_mprotect, 2, BPF_JSET, PROT_EXEC, unless_set);
    for (size_t i = 0; i < sizeof(few) / sizeof(*few); i++)
        answer_call(&filter, few[i], SECCOMP_RET_ALLOW);
    answer(&filter, ANSWER(EPERM));
    return install(&filter);
}

#else

bool filter_refuse(void)
{
    return false;
}

bool filter_allow_few(void)
{
    return false;
}

#endif
