/* See container.h. */
#define _GNU_SOURCE
#include "container.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

#define END_MILLISECONDS                                                                           \
    1000 /* a killed process is gone far sooner, unless it hangs in the kernel */

static void parse_keepers(char *text, struct container *container)
{
    char *next = NULL;

    for (char *word = strtok_r(text, " ", &next); word; word = strtok_r(NULL, " ", &next)) {
        struct process *keeper = &container->keepers[container->keeper_count];
        int pid = 0;
        if (container->keeper_count == KEEPERS ||
            sscanf(word, "%d:%llu", &pid, &keeper->start) != 2 || pid <= 1)
            return;
        keeper->pid = (pid_t)pid;
        container->keeper_count++;
    }
}

bool parse_container(char *result, size_t size, struct container *container)
{
    char *environment = strstr(result, "\nenvironment ");
    char *processes = strstr(result, "\nprocesses ");
    int anchor = 0;

    if (sscanf(result, "anchor %d %llu\n", &anchor, &container->anchor_start) != 2 || anchor <= 1 ||
        processes == NULL || environment == NULL || processes > environment ||
        sscanf(environment, "\nenvironment %zu\n", &container->environment_size) != 1)
        return false;
    *environment = '\0';
    parse_keepers(processes + strlen("\nprocesses "), container);
    environment = strchr(environment + 1, '\n') + 1;
    if (container->environment_size != size - (size_t)(environment - result))
        return false;
    container->environment = environment;
    container->anchor = (pid_t)anchor;
    return true;
}

void adopt_container(const struct container *container, pid_t task)
{
    join_groups_of(task, container->keepers, container->keeper_count);
}

void end_container(const struct container *container, uid_t uid)
{
    struct pollfd ends[KEEPERS];

    for (size_t i = 0; i < container->keeper_count; i++) {
        const struct process *keeper = &container->keepers[i];
        ends[i] = (struct pollfd){.events = POLLIN};
        ends[i].fd = (int)syscall(SYS_pidfd_open, keeper->pid, 0);
        /* Checked once the pidfd holds the process: a pid that was used again is left alone. */
        /* Kernels without pidfds (before 5.3) end them a moment later, with the lifeline. */
        if (ends[i].fd >= 0 && start_time(keeper->pid) == keeper->start)
            (void)syscall(SYS_pidfd_send_signal, ends[i].fd, SIGKILL, NULL, 0);
        else
            ends[i].events = 0;
    }
    for (size_t i = 0; i < container->keeper_count; i++) {
        if (ends[i].fd < 0)
            continue;
        if (ends[i].events != 0)
            (void)poll(&ends[i], 1, END_MILLISECONDS);
        (void)close(ends[i].fd);
    }
    end_beside(uid);
}

static int open_environment(const struct container *container)
{
    int fd = memfd_create("hpcimg-environment", 0);

    if (fd >= 0 && !write_all(fd, container->environment, container->environment_size)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* setns(2) follows a pidfd since Linux 5.8, and has another errno than EINVAL where it does. To
 * enter the host name's namespace that one is in already changes nothing. */
static bool can_follow(void)
{
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    bool can = self >= 0 && (setns(self, CLONE_NEWUTS) == 0 || errno != EINVAL);

    if (self >= 0)
        (void)close(self);
    return can;
}

/* What the joiner enters: the anchor, or on older kernels its mount namespace. */
static int open_namespaces(pid_t anchor)
{
    char path[64];

    if (can_follow())
        return (int)syscall(SYS_pidfd_open, anchor, 0);
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)anchor);
    return open(path, O_RDONLY | O_CLOEXEC);
}

bool open_container(const struct container *container, int descriptors[3])
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/root", (int)container->anchor);
    descriptors[0] = open_namespaces(container->anchor);
    /* The descriptor holds the process, or its namespace: if it is still the one that was started,
     * it stays that one. */
    if (descriptors[0] < 0 || start_time(container->anchor) != container->anchor_start) {
        errno = ESRCH;
        return false;
    }
    /* A path and no more: root opens nothing in file systems that a user may have made. */
    descriptors[1] = open(path, O_PATH | O_DIRECTORY);
    descriptors[2] = open_environment(container);
    /* Opened with close-on-exec; the joiner must inherit all three. */
    return descriptors[1] >= 0 && descriptors[2] >= 0 && fcntl(descriptors[0], F_SETFD, 0) == 0;
}
