/* See groups.h. Version 1 has a hierarchy for each controller, version 2 one for all. */
#define _GNU_SOURCE
#include "groups.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#define ROUNDS 100

static void write_pids(const char *directory, const struct process *processes, size_t count)
{
    char path[PATH_MAX], word[16];
    int fd;

    (void)snprintf(path, sizeof(path), "%.4000s/cgroup.procs", directory);
    if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
        return;
    /* One pid a write, cgroups(7). One that has ended is no loss, but its number may be another's
     * by now, who would then die with this step. */
    for (size_t i = 0; i < count; i++) {
        const struct process *process = &processes[i];
        int length = snprintf(word, sizeof(word), "%d", (int)process->pid);
        if (start_time(process->pid) == process->start && write(fd, word, (size_t)length) < 0 &&
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
static void join_under_mount(const char *mount, const char *controllers, const char *path,
                             const struct process *processes, size_t count)
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
    write_pids(target, processes, count);
}

static void join_in_hierarchy(const char *controllers, const char *path,
                              const struct process *processes, size_t count)
{
    char *line = NULL;
    size_t capacity = 0;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");

    while (mounts != NULL && getline(&line, &capacity, mounts) > 0)
        join_under_mount(line, controllers, path, processes, count);
    free(line);
    if (mounts != NULL)
        (void)fclose(mounts);
}

/* Only Slurm's own groups: a task's are below its step's; whoever is in the job's may name a step.
 */
static bool name_step(const char *group, const char *step, char path[PATH_MAX])
{
    bool is_of_step = strstr(group, "/step_") != NULL;

    if (is_of_step != (step == NULL) || (step != NULL && strstr(group, "/job_") == NULL))
        return false;
    if (step == NULL)
        return snprintf(path, PATH_MAX, "%s", group) < PATH_MAX;
    return snprintf(path, PATH_MAX, "%s/step_%s", group, step) < PATH_MAX;
}

static void join_groups(pid_t like, const char *step, const struct process *processes, size_t count)
{
    char name[64], path[PATH_MAX], *line = NULL;
    size_t capacity = 0;
    FILE *groups;

    (void)snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)like);
    groups = fopen(name, "re");
    while (groups != NULL && getline(&line, &capacity, groups) > 0) {
        char *controllers = strchr(line, ':'), *group;
        if (controllers == NULL || (group = strchr(++controllers, ':')) == NULL)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (name_step(group, step, path))
            join_in_hierarchy(controllers, path, processes, count);
    }
    free(line);
    if (groups != NULL)
        (void)fclose(groups);
}

void join_groups_of(pid_t task, const struct process *processes, size_t count)
{
    join_groups(task, NULL, processes, count);
}

void join_step(const char *step)
{
    const struct process self = {.pid = getpid(), .start = start_time(getpid())};

    join_groups(getpid(), step, &self, 1);
}

/* Of "36 25 0:30 / POINT … - cgroup2 cgroup2 rw" the point. */
static bool find_version_2(char point[PATH_MAX])
{
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");

    while (!found && mounts != NULL && getline(&line, &capacity, mounts) > 0)
        found =
            strstr(line, " - cgroup2 ") != NULL && sscanf(line, "%*s %*s %*s / %4095s", point) == 1;
    free(line);
    if (mounts != NULL)
        (void)fclose(mounts);
    return found;
}

/* Only a leaf of slurmstepd's own: no task is in it. */
static bool read_own_group(pid_t pid, char group[PATH_MAX])
{
    static const char leaf[] = "/slurm";
    char path[64], *line = NULL;
    size_t capacity = 0, length;
    bool found = false;
    FILE *groups;

    (void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    groups = fopen(path, "re");
    while (!found && groups != NULL && getline(&line, &capacity, groups) > 0)
        found = sscanf(line, "0::%4095s", group) == 1;
    free(line);
    if (groups != NULL)
        (void)fclose(groups);
    length = found ? strlen(group) : 0;
    return length > strlen(leaf) && strcmp(group + length - strlen(leaf), leaf) == 0 &&
           strstr(group, "/step_") != NULL;
}

/* Looked at once its pidfd holds it: a pid that was used again is left alone. */
static bool end_if_users(pid_t pid, uid_t uid, const char *group)
{
    char path[64], its[PATH_MAX];
    struct stat status;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    bool ended = false;

    (void)snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    if (fd >= 0 && stat(path, &status) == 0 && status.st_uid == uid && read_own_group(pid, its) &&
        strcmp(its, group) == 0)
        ended = syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0;
    if (fd >= 0)
        (void)close(fd);
    return ended;
}

static size_t end_listed(const char *list, uid_t uid, const char *group)
{
    FILE *file = fopen(list, "re");
    size_t ended = 0;
    int pid;

    while (file != NULL && fscanf(file, "%d", &pid) == 1)
        ended += end_if_users((pid_t)pid, uid, group);
    if (file != NULL)
        (void)fclose(file);
    return ended;
}

void end_beside(uid_t uid)
{
    char point[PATH_MAX], group[PATH_MAX], list[2 * PATH_MAX + 32];

    if (uid == 0 || !read_own_group(getpid(), group) || !find_version_2(point))
        return;
    (void)snprintf(list, sizeof(list), "%s%s/cgroup.procs", point, group);
    /* Those that were ended may have started others meanwhile. */
    for (int left = ROUNDS; left > 0 && end_listed(list, uid, group) > 0; left--)
        continue;
}
