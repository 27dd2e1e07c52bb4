/* The holder keeps one container alive: it reports itself, then sleeps until its standard input
 * ends. Only the launcher (slurmstepd) holds the other end, so the container cannot outlive it.
 * It runs inside the image, so it is static and needs nothing there. */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

extern char **environ;

static bool report(void)
{
    char head[128];
    size_t size = 0;
    int length;

    for (char **entry = environ; *entry != NULL; entry++)
        size += strlen(*entry) + 1;
    /* On a line of its own, also when the image's scripts left one unfinished. */
    length = snprintf(head, sizeof(head), "\n" READY " %d %zu\n", (int)getpid(), size);
    if (!write_all(STDOUT_FILENO, head, (size_t)length))
        return false;
    for (char **entry = environ; *entry != NULL; entry++)
        if (!write_all(STDOUT_FILENO, *entry, strlen(*entry) + 1))
            return false;
    return true;
}

/* A directory that the tasks are to start in is looked for once, and not by each of them. */
static bool can_start_in(const char *directory)
{
    if (directory == NULL || chdir(directory) == 0)
        return true;
    (void)dprintf(STDERR_FILENO, "the container has no directory \"%s\": %s\n", directory,
                  strerror(errno));
    return false;
}

int main(int argc, char **argv)
{
    char byte;

    if (!can_start_in(argc > 1 ? argv[1] : NULL))
        return LAUNCH_FAILED;
    /* A task of the same user must not trace the process that its container hangs on. */
    if (prctl(PR_SET_DUMPABLE, 0) < 0 || !report())
        return LAUNCH_FAILED;
    (void)close(STDOUT_FILENO);
    (void)close(STDERR_FILENO);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    return 0;
}
