/* See limit.h. Version 1 has a hierarchy for memory, version 2 one for all (cgroups(7)); both are
 * where systemd mounts them. */
#define _GNU_SOURCE
#include "limit.h"

#include "common.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALL    "/sys/fs/cgroup"
#define MEMORY "/sys/fs/cgroup/memory"
#define NONE   (1ULL << 60) /* version 1 writes a limit that is none as a number */

/* "max" is no number, and so no limit. */
static unsigned long long read_limit(const char *group, const char *file)
{
    char path[PATH_MAX], text[32];
    unsigned long long limit;
    ssize_t size = -1;
    int fd;

    (void)snprintf(path, sizeof(path), "%.4000s/%s", group, file);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return 0;
    size = read_all(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[size > 0 ? size : 0] = '\0';
    limit = strtoull(text, NULL, 10);
    return limit < NONE ? limit : 0;
}

static unsigned long long least(const char *top, const char *group, const char *file)
{
    char path[PATH_MAX];
    unsigned long long limit = 0, here;

    (void)snprintf(path, sizeof(path), "%s%.4000s", top, group);
    for (char *end = path + strlen(path); end > path + strlen(top); end = strrchr(path, '/')) {
        *end = '\0';
        here = read_limit(path, file);
        if (here != 0 && (limit == 0 || here < limit))
            limit = here;
    }
    return limit;
}

unsigned long long memory_limit(void)
{
    char *line = NULL, *group;
    unsigned long long limit = 0;
    size_t capacity = 0;
    FILE *groups = fopen("/proc/self/cgroup", "re");

    while (limit == 0 && groups != NULL && getline(&line, &capacity, groups) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::", 3) == 0)
            limit = least(ALL, line + 3, "memory.max");
        else if ((group = strstr(line, ":memory:")) != NULL)
            limit = least(MEMORY, group + strlen(":memory:"), "memory.limit_in_bytes");
    }
    free(line);
    if (groups != NULL)
        (void)fclose(groups);
    return limit;
}
