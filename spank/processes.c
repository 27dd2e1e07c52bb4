/* See processes.h. */
#define _GNU_SOURCE
#include "processes.h"

#include "common.h"

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void keep_orphans(void)
{
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* The words of a `children` file that fit whole: half a pid is another's. */
static bool read_children(const char *path, char *children, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd >= 0 ? read_all(fd, children, size - 1) : -1;

    if (fd >= 0)
        (void)close(fd);
    while (count > 0 && children[count - 1] != ' ')
        count--;
    if (count <= 0)
        return false;
    children[count] = '\0';
    return true;
}

/* Children belong to the thread that forked them, and Apptainer (Go) has many threads. */
static void list_children(const char *path, char *list, size_t size)
{
    char children[1024], *next = NULL;

    if (!read_children(path, children, sizeof(children)))
        return;
    for (char *word = strtok_r(children, " ", &next); word; word = strtok_r(NULL, " ", &next)) {
        pid_t pid = (pid_t)atoi(word);
        size_t used = strlen(list);
        (void)snprintf(list + used, size - used, " %d:%llu", (int)pid, start_time(pid));
        list_descendants(pid, list, size);
    }
}

void list_descendants(pid_t pid, char *list, size_t size)
{
    char path[64];
    glob_t threads;

    (void)snprintf(path, sizeof(path), "/proc/%d/task/*/children", (int)pid);
    if (glob(path, GLOB_NOSORT, NULL, &threads) != 0)
        return;
    for (size_t i = 0; i < threads.gl_pathc; i++)
        list_children(threads.gl_pathv[i], list, size);
    globfree(&threads);
}

/* A child's pid is nobody else's until it was waited for; its own children then become ours. */
void end_descendants(void)
{
    char path[64], children[1024], *next = NULL;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    while (read_children(path, children, sizeof(children))) {
        for (char *word = strtok_r(children, " ", &next); word; word = strtok_r(NULL, " ", &next))
            (void)kill((pid_t)atoi(word), SIGKILL);
        (void)waitpid(-1, NULL, 0);
    }
}
