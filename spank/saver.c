/* The saver runs a task of a step whose container is to be saved, and saves it after the last one.
 *
 *     saver COUNTFD ANCHOR STARTTIME NODE PYTHON PATH -- COMMAND [ARGUMENT...]
 *
 * It stays outside the container, as the user whose task it is, waits for COMMAND and ends as that
 * did. COUNTFD is memory that the step's savers on this node share: the number of tasks that have
 * not ended, or SAVE_REFUSED. Whose task is the last one copies the container's root directory,
 * without what is mounted in it, and starts `hpcimg save` there; where that fails the task fails.
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#define TREE_CLONE 1U
#define WORDS      7

struct request {
    atomic_uint *left;
    pid_t anchor;
    unsigned long long start;
    const char *node, *python, *path;
    char **command;
};

static int fail(const struct request *request, const char *what)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%.4000s", request->path);
    keep_shown(path);
    (void)fprintf(stderr, "hpcimg: %s: could not save the container to \"%s\": %s: %s\n",
                  request->node, path, what, strerror(errno));
    return LAUNCH_FAILED;
}

static bool parse_request(int argc, char **argv, struct request *request)
{
    unsigned long fd, anchor, start;
    void *memory;

    if (argc < WORDS + 2 || strcmp(argv[WORDS], "--") != 0 ||
        !parse_number(argv[1], INT_MAX, &fd) || !parse_number(argv[2], INT_MAX, &anchor) ||
        !parse_number(argv[3], ULONG_MAX, &start))
        return false;
    memory = mmap(NULL, sizeof(atomic_uint), PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
    (void)close((int)fd);
    *request = (struct request){
        .left = memory,
        .anchor = (pid_t)anchor,
        .start = start,
        .node = argv[4],
        .python = argv[5],
        .path = argv[6],
        .command = argv + WORDS + 1,
    };
    return memory != MAP_FAILED;
}

/* Before the first task begins: what cannot be written in the end had better be known now. */
static bool check_place(const struct request *request)
{
    char folder[PATH_MAX], *end;

    if (request->path[0] != '/' ||
        snprintf(folder, sizeof(folder), "%s", request->path) >= (int)sizeof(folder)) {
        errno = EINVAL;
        return false;
    }
    end = strrchr(folder, '/');
    *(end == folder ? end + 1 : end) = '\0';
    return access(folder, W_OK | X_OK) == 0;
}

/* In a child that shares this process's descriptors: enter the container and copy its root mount,
 * which leaves behind what is mounted on top. As the owner of its user namespace, and no more. */
static void be_copier(int mounts, int owner, int slot)
{
    int tree;

    if (setns(owner, CLONE_NEWUSER) < 0 || setns(mounts, CLONE_NEWNS) < 0)
        _exit(errno);
    /* Apptainer has made it unbindable. All tasks have ended, so nobody sees the change. */
    (void)mount(NULL, "/", NULL, MS_PRIVATE, NULL);
    tree = (int)syscall(SYS_open_tree, AT_FDCWD, "/", TREE_CLONE | O_CLOEXEC);
    if (tree < 0 || dup3(tree, slot, O_CLOEXEC) < 0)
        _exit(errno);
    (void)close(tree);
    _exit(0);
}

/* An own process to change namespaces in, since there is no way back from one. */
static int copy_root(int mounts, int owner)
{
    int slot = open("/", O_PATH | O_CLOEXEC), status = 0;
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);

    if (pid == 0)
        be_copier(mounts, owner, slot);
    if (pid < 0 || slot < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
        if (pid > 0 && WIFEXITED(status))
            errno = WEXITSTATUS(status);
        return -1;
    }
    return slot;
}

/* The namespaces of the anchor, while it is still the process that was started. */
static int open_namespaces(const struct request *request, int *owner)
{
    char path[64];
    int mounts;

    (void)snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)request->anchor);
    mounts = open(path, O_RDONLY | O_CLOEXEC);
    *owner = mounts >= 0 ? ioctl(mounts, NS_GET_USERNS) : -1;
    if (*owner >= 0 && start_time(request->anchor) == request->start)
        return mounts;
    errno = errno ? errno : ESRCH;
    return -1;
}

/* FUSE shows the files to the container's own user namespace alone. */
static void be_packer(const struct request *request, int owner, int tree)
{
    char *const argv[] = {
        (char *)request->python,
        "-I",
        "-m",
        "hpcimg",
        "save",
        "--node",
        (char *)request->node,
        "--",
        (char *)request->path,
        NULL,
    };
    char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
        NULL};

    reset_signals();
    if (setns(owner, CLONE_NEWUSER) < 0 || fchdir(tree) < 0)
        _exit(fail(request, "its files cannot be reached"));
    execve(request->python, argv, environment);
    _exit(fail(request, request->python));
}

static bool has_gone_well(pid_t pid)
{
    int status = 0;

    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int save(const struct request *request)
{
    int owner = -1, mounts, tree;
    pid_t pid;

    errno = 0;
    if ((mounts = open_namespaces(request, &owner)) < 0)
        return fail(request, "it has ended");
    if ((tree = copy_root(mounts, owner)) < 0)
        return fail(request, "its files cannot be reached");
    if ((pid = fork()) == 0)
        be_packer(request, owner, tree);
    return has_gone_well(pid) ? 0 : LAUNCH_FAILED;
}

/* What is sent to the task reaches its first process, which is this one: it goes on to the command.
 * What a terminal sends reaches both. */
static int await(pid_t command)
{
    siginfo_t info;
    sigset_t all;
    int status = 0;

    (void)sigfillset(&all);
    for (;;) {
        int number = sigwaitinfo(&all, &info);
        if (number == SIGCHLD && waitpid(command, &status, WNOHANG) == command)
            return status;
        if (number > 0 && number != SIGCHLD && info.si_code <= 0)
            (void)kill(command, number);
    }
}

static pid_t start(char **command)
{
    sigset_t all, before;
    pid_t pid;

    (void)sigfillset(&all);
    (void)sigprocmask(SIG_BLOCK, &all, &before);
    if ((pid = fork()) == 0) {
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        execvp(command[0], command);
        _exit(LAUNCH_FAILED);
    }
    return pid;
}

/* End as the task did; of a core of ours nobody has anything. */
static int end_as(int status)
{
    const struct rlimit none = {0, 0};
    sigset_t set;

    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(WTERMSIG(status), SIG_DFL);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, WTERMSIG(status));
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    (void)raise(WTERMSIG(status));
    return 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    struct request request;
    int status, code;
    pid_t pid;

    if (!parse_request(argc, argv, &request)) {
        (void)fprintf(stderr,
                      "usage: saver COUNTFD ANCHOR STARTTIME NODE PYTHON PATH -- COMMAND\n");
        return LAUNCH_FAILED;
    }
    if (!check_place(&request)) {
        int reason = errno;
        /* The savers of a node's other tasks find the same. */
        if (atomic_exchange(request.left, SAVE_REFUSED) == SAVE_REFUSED)
            return LAUNCH_FAILED;
        errno = reason;
        return fail(&request, "its directory");
    }
    if ((pid = start(request.command)) < 0)
        return fail(&request, "a process");
    status = await(pid);
    close_on_exec_from(3);
    if (atomic_load(request.left) != SAVE_REFUSED && atomic_fetch_sub(request.left, 1) == 1 &&
        (code = save(&request)) != 0)
        return code;
    return end_as(status);
}
