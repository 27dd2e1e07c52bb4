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
        struct keeper *keeper = &container->keepers[container->keeper_count];
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

static void write_pids(const char *directory, const struct container *container)
{
    char path[PATH_MAX], word[16];
    int fd;

    (void)snprintf(path, sizeof(path), "%.4000s/cgroup.procs", directory);
    if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
        return;
    /* One pid a write, cgroups(7). One that has ended is no loss, but its number may be another's
     * by now, who would then die with this step. */
    for (size_t i = 0; i < container->keeper_count; i++) {
        const struct keeper *keeper = &container->keepers[i];
        int length = snprintf(word, sizeof(word), "%d", (int)keeper->pid);
        if (start_time(keeper->pid) == keeper->start && write(fd, word, (size_t)length) < 0 &&
            errno != ESRCH)
            break;
    }
    (void)close(fd);
}

/* A task's group to its step's. In version 2 only leaves hold processes: Slurm keeps one for
 * those that are no task. */
static void step_group(char *path)
{
    char *task = strstr(path, "/task_");
    char leaf[PATH_MAX];

    if (task == NULL)
        return;
    *task = '\0';
    (void)snprintf(leaf, sizeof(leaf), "%.4000s/task_special", path);
    if (access(leaf, F_OK) == 0)
        (void)strcat(path, "/task_special");
}

/* Where a controller's hierarchy is mounted: of "36 25 0:30 ROOT POINT … - cgroup cgroup rw,cpu"
 * the path under POINT is the process's path without ROOT (proc(5), cgroups(7)). */
static void adopt_under_mount(const char *mount, const char *controllers, const char *path,
                              const struct container *container)
{
    char root[1024], point[1024], options[1024], target[PATH_MAX];
    const char *type = strstr(mount, " - cgroup");
    bool unified = controllers[0] == '\0';

    if (type == NULL || sscanf(mount, "%*s %*s %*s %1023s %1023s", root, point) != 2 ||
        sscanf(type, " - %*s %*s %1023s", options) != 1)
        return;
    if (unified != (strncmp(type, " - cgroup2", 10) == 0))
        return;
    if (!unified && strstr(options, controllers) == NULL)
        return;
    if (strcmp(root, "/") != 0) {
        if (strncmp(path, root, strlen(root)) != 0)
            return;
        path += strlen(root);
    }
    (void)snprintf(target, sizeof(target), "%s%.2000s", point, path);
    step_group(target);
    write_pids(target, container);
}

static void adopt_in_hierarchy(const char *controllers, const char *path,
                               const struct container *container)
{
    char *line = NULL;
    size_t capacity = 0;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");

    while (mounts != NULL && getline(&line, &capacity, mounts) > 0)
        adopt_under_mount(line, controllers, path, container);
    free(line);
    if (mounts != NULL)
        (void)fclose(mounts);
}

void adopt_container(const struct container *container, pid_t task)
{
    char name[64], *line = NULL;
    size_t capacity = 0;
    FILE *groups;

    (void)snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)task);
    groups = fopen(name, "re");
    while (groups != NULL && getline(&line, &capacity, groups) > 0) {
        char *controllers = strchr(line, ':'), *path;
        if (controllers == NULL || (path = strchr(++controllers, ':')) == NULL)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        if (strstr(path, "/step_") != NULL) /* only Slurm's own groups */
            adopt_in_hierarchy(controllers, path, container);
    }
    free(line);
    if (groups != NULL)
        (void)fclose(groups);
}

void end_container(const struct container *container)
{
    struct pollfd ends[KEEPERS];

    for (size_t i = 0; i < container->keeper_count; i++) {
        const struct keeper *keeper = &container->keepers[i];
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
