/* See processes.h. */
#define _GNU_SOURCE
#include "processes.h"

#include "common.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Children belong to the thread that forked them, and Apptainer (Go) has many threads. */
static void list_children(const char *path, char *list, size_t size)
{
    char children[1024], *next = NULL;
    ssize_t count;
    int fd;

    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return;
    count = read_all(fd, children, sizeof(children) - 1);
    (void)close(fd);
    if (count <= 0)
        return;
    children[count] = '\0';
    for (char *word = strtok_r(children, " ", &next); word; word = strtok_r(NULL, " ", &next))
        list_processes((pid_t)atoi(word), list, size);
}

void list_processes(pid_t pid, char *list, size_t size)
{
    char path[64];
    size_t used = strlen(list);
    glob_t threads;

    (void)snprintf(list + used, size - used, " %d:%llu", (int)pid, start_time(pid));
    (void)snprintf(path, sizeof(path), "/proc/%d/task/*/children", (int)pid);
    if (glob(path, GLOB_NOSORT, NULL, &threads) != 0)
        return;
    for (size_t i = 0; i < threads.gl_pathc; i++)
        list_children(threads.gl_pathv[i], list, size);
    globfree(&threads);
}
