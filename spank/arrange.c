/* See arrange.h. The user owns the container's namespaces and has every right in them, and none
 * besides: nothing here is done as root. */
#define _GNU_SOURCE
#include "arrange.h"

#include "common.h"
#include "devices.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#define RECURSIVE 0x8000 /* AT_RECURSIVE */

/* The kernel's struct mount_attr, which older headers lack, and its flags. */
struct attributes {
    uint64_t set, clear, propagation, user_namespace;
};
enum { ATTR_READ_ONLY = 1, ATTR_NOSUID = 2, ATTR_NODEV = 4, ATTR_NOEXEC = 8 };

static bool is_device(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode));
}

bool wants_arranging(const struct request *request)
{
    return request->hidden.count > 0 || request->bind_count > 0;
}

/* Before Linux 5.12 one mount at a time, and not those below it. */
static bool change_one(const char *path, const struct attributes *attributes)
{
    static const struct {
        uint64_t attribute;
        unsigned long has, flag;
    } known[] = {{ATTR_READ_ONLY, ST_RDONLY, MS_RDONLY},
                 {ATTR_NOSUID, ST_NOSUID, MS_NOSUID},
                 {ATTR_NODEV, ST_NODEV, MS_NODEV},
                 {ATTR_NOEXEC, ST_NOEXEC, MS_NOEXEC}};
    unsigned long flags = MS_REMOUNT | MS_BIND;
    struct statvfs status;

    if (statvfs(path, &status) < 0)
        return false;
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        bool has = (status.f_flag & known[i].has) != 0;
        if ((has && !(attributes->clear & known[i].attribute)) ||
            (attributes->set & known[i].attribute))
            flags |= known[i].flag;
    }
    return mount(NULL, path, NULL, flags, NULL) == 0;
}

static bool change(const char *path, uint64_t set, uint64_t clear)
{
    const struct attributes attributes = {.set = set, .clear = clear};

    if (set == 0 && clear == 0)
        return true;
    if (syscall(SYS_mount_setattr, AT_FDCWD, path, RECURSIVE, &attributes, sizeof(attributes)) == 0)
        return true;
    return errno == ENOSYS && change_one(path, &attributes);
}

static bool is_below(const char *path, const char *above)
{
    size_t length = strlen(above);

    return strncmp(path, above, length) == 0 && path[length] == '/';
}

/* What an earlier mount around this one has set for all below it. */
static bool was_closed(const struct request *request, size_t number)
{
    for (size_t i = 0; i < number; i++)
        if (request->binds[i].is_read_only &&
            is_below(request->binds[number].target, request->binds[i].target))
            return true;
    return false;
}

static bool arrange_one(const struct request *request, size_t number)
{
    const struct bind *bind = &request->binds[number];
    const char *path = bind->target;
    uint64_t set =
        (bind->is_read_only ? ATTR_READ_ONLY : 0) | (bind->flags & MS_NOSUID ? ATTR_NOSUID : 0) |
        (bind->flags & MS_NODEV ? ATTR_NODEV : 0) | (bind->flags & MS_NOEXEC ? ATTR_NOEXEC : 0);

    if (bind->kind == BIND_UMOUNT)
        return umount2(path, MNT_DETACH) == 0;
    if (bind->is_optional && access(path, F_OK) < 0)
        return true;
    /* Where the host itself has it closed, it stays so. */
    if (!bind->is_read_only && was_closed(request, number))
        (void)change(path, 0, ATTR_READ_ONLY);
    /* Apptainer mounts everything without devices. */
    if (is_device(path) && !(bind->flags & MS_NODEV))
        (void)change(path, 0, ATTR_NODEV);
    return change(path, set, 0) &&
           (bind->propagation == 0 || mount(NULL, path, NULL, bind->propagation, NULL) == 0);
}

static void be_owner(const struct request *request, int mount_namespace, int messages)
{
    int owner = ioctl(mount_namespace, NS_GET_USERNS);
    const char *path = "/";
    bool is_done;

    umask(022);
    is_done = owner >= 0 &&
              become(request->user.uid, request->user.gid, request->user.groups,
                     request->user.group_count) &&
              setns(owner, CLONE_NEWUSER) == 0 && setns(mount_namespace, CLONE_NEWNS) == 0;
    for (size_t i = 0; i < request->bind_count && is_done; i++) {
        path = request->binds[i].target;
        is_done = arrange_one(request, i);
    }
    if (is_done && request->hidden.count > 0) {
        path = "/dev";
        is_done = hide_devices((const char *const *)request->hidden.words, request->hidden.count);
    }
    if (!is_done)
        (void)dprintf(messages, "what is wanted of \"%s\" in the container cannot be done: %s\n",
                      path, strerror(errno));
    _exit(is_done ? 0 : LAUNCH_FAILED);
}

bool arrange(const struct request *request, int mount_namespace, int messages)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        be_owner(request, mount_namespace, messages);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
