/* See namespaces.h. Root works here, on a mount namespace that a user arranged: between entering
 * it and becoming the user, nothing is opened, read or executed. */
#define _GNU_SOURCE
#include "namespaces.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAP_SIZE 4096 /* the kernel takes at most one page, user_namespaces(7) */

/* What the anchor says when it is ready. */
enum { MAPS_WANTED = 1, MAPS_WRITTEN };

static bool is_same_file(int one, int other)
{
    struct stat a, b;

    return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

int open_mount_namespace(pid_t pid, uid_t uid)
{
    char path[64];
    int mount = -1, owner = -1, ours = -1;
    uid_t owner_uid = (uid_t)-1;
    bool trusted = false;

    (void)snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
    if ((mount = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return -1;
    owner = ioctl(mount, NS_GET_USERNS);
    ours = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
    trusted = owner >= 0 && ours >= 0 && !is_same_file(owner, ours) &&
              ioctl(owner, NS_GET_OWNER_UID, &owner_uid) == 0 && owner_uid == uid;
    if (owner >= 0)
        (void)close(owner);
    if (ours >= 0)
        (void)close(ours);
    if (!trusted) {
        (void)close(mount);
        errno = EPERM;
        return -1;
    }
    return mount;
}

static int compare_groups(const void *one, const void *other)
{
    gid_t a = *(const gid_t *)one, b = *(const gid_t *)other;

    return (a > b) - (a < b);
}

static bool write_file(pid_t pid, const char *name, const char *text)
{
    char path[64];
    bool written;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
        return false;
    written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    (void)close(fd);
    return written;
}

/* Map every group to itself: `id` and `chgrp` then work as on the host. Unprivileged engines can
 * map the primary group alone. Groups past what fits in one page stay unmapped. Who is root there
 * is so with the primary group too. */
static bool write_maps(pid_t pid, const struct user *user, bool as_root)
{
    char text[MAP_SIZE], line[64];
    size_t used = 0, count = user->group_count + 1;
    gid_t *groups = calloc(count, sizeof(*groups));
    bool written;

    if (groups == NULL)
        return false;
    memcpy(groups, user->groups, user->group_count * sizeof(*groups));
    groups[count - 1] = user->gid;
    qsort(groups, count, sizeof(*groups), compare_groups);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        bool is_root = as_root && groups[i] == user->gid;
        if ((i > 0 && groups[i] == groups[i - 1]) || (as_root && !is_root && groups[i] == 0))
            continue;
        int length = snprintf(line, sizeof(line), "%u %u 1\n", is_root ? 0 : groups[i], groups[i]);
        if (used + (size_t)length >= sizeof(text))
            break;
        memcpy(text + used, line, (size_t)length + 1);
        used += (size_t)length;
    }
    free(groups);
    (void)snprintf(line, sizeof(line), "%u %u 1\n", as_root ? 0 : user->uid, user->uid);
    /* Without setgroups nobody can shed a group that an ACL holds against them. */
    written = write_file(pid, "setgroups", "deny") && write_file(pid, "uid_map", line);
    return written && write_file(pid, "gid_map", text);
}

/* A root that FUSE serves, as that of a writable container, answers only the user namespace that it
 * was mounted in and those below: the namespace of the tasks is made there. Its parent knows the
 * primary group alone, and nobody but a process in one of the two may map it. */
static bool enter_below(int mount_namespace, const struct user *user, const struct inside *inside)
{
    struct user alone = {.uid = user->uid, .gid = user->gid};
    int owner = ioctl(mount_namespace, NS_GET_USERNS);

    return owner >= 0 && setns(owner, CLONE_NEWUSER) == 0 &&
           unshare(CLONE_NEWUSER | inside->namespaces) == 0 &&
           write_maps(getpid(), &alone, inside->as_root);
}

/* A network of one's own has nothing but a loopback, which is down. */
static void raise_loopback(const struct inside *inside)
{
    struct ifreq interface = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd;

    if (!(inside->namespaces & CLONE_NEWNET))
        return;
    if ((fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
        return;
    (void)ioctl(fd, SIOCSIFFLAGS, &interface);
    (void)close(fd);
}

/* Whether the kernel lets this process see the root directory at all. */
static bool sees_root(void)
{
    struct stat root;

    return stat("/", &root) == 0;
}

/* Once dumpable, the anchor is open to every process of the user: before that it must have let go
 * of what belongs to root, above all the pipe that the plugin believes. */
static void be_anchor(int mount_namespace, const struct user *user, const struct inside *inside,
                      int lifeline, int ready)
{
    char byte;

    if (setns(mount_namespace, CLONE_NEWNS) < 0 ||
        !become(user->uid, user->gid, user->groups, user->group_count))
        _exit(LAUNCH_FAILED);
    for (int fd = 0; fd < 1024; fd++)
        if (fd != lifeline && fd != ready && fd != mount_namespace)
            (void)close(fd);
    /* Dumpable, or it may not write its maps, nor the joiner follow its pidfd (setns(2)). A task
     * may not trace it all the same: the anchor has every capability of its user namespace, a task
     * has none. */
    if (prctl(PR_SET_DUMPABLE, 1) < 0)
        _exit(LAUNCH_FAILED);
    byte = sees_root() ? MAPS_WANTED : MAPS_WRITTEN;
    if (byte == MAPS_WANTED ? unshare(CLONE_NEWUSER | inside->namespaces) < 0
                            : !enter_below(mount_namespace, user, inside))
        _exit(LAUNCH_FAILED);
    raise_loopback(inside);
    (void)close(mount_namespace);
    if (!write_all(ready, &byte, 1))
        _exit(LAUNCH_FAILED);
    (void)close(ready);
    while (read(lifeline, &byte, 1) > 0)
        continue;
    _exit(0);
}

pid_t start_anchor(int mount_namespace, const struct user *user, const struct inside *inside,
                   int lifeline)
{
    int ready[2];
    char byte;
    pid_t pid;

    if (pipe2(ready, O_CLOEXEC) < 0)
        return -1;
    if ((pid = fork()) == 0)
        be_anchor(mount_namespace, user, inside, lifeline, ready[1]);
    (void)close(ready[1]);
    if (pid > 0 && (read_all(ready[0], &byte, 1) != 1 ||
                    (byte == MAPS_WANTED && !write_maps(pid, user, inside->as_root)))) {
        int reason = errno ? errno : EPERM;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        errno = reason;
        pid = -1;
    }
    (void)close(ready[0]);
    return pid;
}

bool join_node(void)
{
    int node = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);
    int here = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    bool joined =
        node >= 0 && here >= 0 && (is_same_file(node, here) || setns(node, CLONE_NEWNS) == 0);

    if (node >= 0)
        (void)close(node);
    if (here >= 0)
        (void)close(here);
    return joined;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), size = strlen(end);

    return length >= size && strcmp(text + length - size, end) == 0;
}

/* Slurm keeps each job's namespace alive by a bind mount: job_container/tmpfs BASE/JOBID/.ns, and
 * namespace/linux (25.11) BASE/JOBID/.ns/mnt. mountinfo names it whatever the site's base path is
 * (proc(5): field 5 is the mount point, after " - " the type). */
static bool find_job_container(unsigned long job, char *path, size_t size)
{
    char one[64], other[64], point[4096];
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    FILE *file = fopen("/proc/self/mountinfo", "re");

    if (file == NULL)
        return false;
    (void)snprintf(one, sizeof(one), "/%lu/.ns", job);
    (void)snprintf(other, sizeof(other), "/%lu/.ns/mnt", job);
    while (!found && getline(&line, &capacity, file) > 0) {
        if (strstr(line, " - nsfs ") == NULL)
            continue;
        if (sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 || strlen(point) >= size)
            continue;
        if (ends_with(point, one) || ends_with(point, other)) {
            (void)strcpy(path, point);
            found = true;
        }
    }
    free(line);
    (void)fclose(file);
    return found;
}

bool join_job_container(unsigned long job)
{
    char path[4096];
    bool joined;
    int fd;

    if (!find_job_container(job, path, sizeof(path)))
        return true;
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return false;
    joined = setns(fd, CLONE_NEWNS) == 0;
    (void)close(fd);
    return joined;
}
