/* See copies.h. */
#define _GNU_SOURCE
#include "copies.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#define TREE_CLONE 1U
#define FROM_EMPTY 4U
#define IDMAP      0x100000U
#define EMPTY_PATH 0x1000U

/* mount_setattr(2); the headers of older systems lack it. */
struct attributes {
    uint64_t set, clear, propagation, namespace;
};

static bool write_map(pid_t pid, const char *name, unsigned int id)
{
    char path[64], text[64];
    int fd, length = snprintf(text, sizeof(text), "0 %u 1\n", id);
    bool written;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
        return false;
    written = write(fd, text, (size_t)length) == length;
    (void)close(fd);
    return written;
}

static void be_mapped(int ready, int end)
{
    char byte = 1;

    if (unshare(CLONE_NEWUSER) < 0 || !write_all(ready, &byte, 1))
        _exit(LAUNCH_FAILED);
    (void)close(ready);
    (void)read_all(end, &byte, 1);
    _exit(0);
}

/* A user namespace whose root is that user: only a process can make one. */
static int open_map(uid_t uid, gid_t gid)
{
    int ready[2], end[2], fd = -1, reason;
    char path[64], byte;
    pid_t pid;

    if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(end, O_CLOEXEC) < 0)
        return -1;
    if ((pid = fork()) == 0) {
        (void)close(end[1]);
        be_mapped(ready[1], end[0]);
    }
    (void)close(ready[1]);
    (void)close(end[0]);
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    errno = EPERM;
    if (pid > 0 && read_all(ready[0], &byte, 1) == 1 && write_map(pid, "uid_map", uid) &&
        write_map(pid, "gid_map", gid))
        fd = open(path, O_RDONLY | O_CLOEXEC);
    reason = errno;
    (void)close(ready[0]);
    (void)close(end[1]);
    if (pid > 0)
        (void)waitpid(pid, NULL, 0);
    errno = reason;
    return fd;
}

int copy_mount(const char *place, uid_t uid, gid_t gid)
{
    struct attributes attributes = {.set = IDMAP};
    int map = open_map(uid, gid), copy = -1, reason;
    bool done = false;

    if (map < 0)
        return -1;
    attributes.namespace = (uint64_t)map;
    copy = (int)syscall(SYS_open_tree, AT_FDCWD, place, TREE_CLONE | O_CLOEXEC);
    if (copy >= 0)
        done =
            syscall(SYS_mount_setattr, copy, "", EMPTY_PATH, &attributes, sizeof(attributes)) == 0;
    reason = errno;
    (void)close(map);
    if (copy >= 0 && !done) {
        (void)close(copy);
        copy = -1;
    }
    errno = reason;
    return copy;
}

bool hang_copy(int copy, const char *place)
{
    /* A slave: what the node mounts later is seen here, and nothing goes the other way. */
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) == 0 &&
           syscall(SYS_move_mount, copy, "", AT_FDCWD, place, FROM_EMPTY) == 0;
}
