/* Runs a program that does not see some devices: hider PATH... -- PROGRAM [ARGUMENT...]
 *
 * For `hpcimg run`, which has no rights but the user's: it takes a user namespace to have mounts of
 * its own. The starter does the same as root. */
#define _GNU_SOURCE
#include "common.h"
#include "devices.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write_all(fd, text, strlen(text));

    if (fd >= 0)
        (void)close(fd);
    return done;
}

/* Everybody keeps the ids they have. */
static bool take_user_namespace(void)
{
    char users[64], groups[64];

    (void)snprintf(users, sizeof(users), "%u %u 1", geteuid(), geteuid());
    (void)snprintf(groups, sizeof(groups), "%u %u 1", getegid(), getegid());
    return unshare(CLONE_NEWUSER) == 0 && write_file("/proc/self/setgroups", "deny") &&
           write_file("/proc/self/uid_map", users) && write_file("/proc/self/gid_map", groups);
}

int main(int argc, char **argv)
{
    int count = 0;

    while (count + 1 < argc && strcmp(argv[count + 1], "--") != 0)
        count++;
    if (count + 2 >= argc) {
        (void)fprintf(stderr, "hpcimg: hider: wrong arguments\n");
        return LAUNCH_FAILED;
    }
    if ((geteuid() != 0 && !take_user_namespace()) || !leave_mounts() ||
        !hide_devices((const char *const *)argv + 1, (size_t)count)) {
        (void)fprintf(stderr, "hpcimg: could not hide the GPUs of others: %s\n", strerror(errno));
        (void)fprintf(stderr, "hpcimg: hint: are unprivileged user namespaces on here? "
                              "gpu_scope: node in the settings leaves all GPUs visible\n");
        return LAUNCH_FAILED;
    }
    (void)execvp(argv[count + 2], argv + count + 2);
    (void)fprintf(stderr, "hpcimg: could not run \"%s\": %s\n", argv[count + 2], strerror(errno));
    return LAUNCH_FAILED;
}
