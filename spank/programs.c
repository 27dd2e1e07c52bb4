/* See programs.h. */
#define _GNU_SOURCE
#include "programs.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool can_start(const char *path, char *what, size_t size)
{
    if (access(path, X_OK) == 0)
        return true;
    (void)snprintf(what, size, "\"%s\" cannot be started: %s", path, strerror(errno));
    return false;
}

/* `make install` writes the number beside the programs, before them and before the plugin. */
static bool are_of_this_release(const struct site *site, char *what, size_t size)
{
    char path[PATH_MAX], text[16] = "";
    int fd, contract;

    (void)snprintf(path, sizeof(path), "%.4000s/contract", site->libexec);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
        (void)read_all(fd, text, sizeof(text) - 1);
        (void)close(fd);
    }
    if ((contract = atoi(text)) == CONTRACT)
        return true;
    (void)snprintf(
        what, size,
        "the programs in \"%.1000s\" are of another hpcimg than the plugin: contract %d, "
        "not %d",
        site->libexec, contract, CONTRACT);
    return false;
}

bool have_programs(const struct site *site, char *what, size_t size)
{
    static const char *const ours[] = {"starter", "holder", "joiner"};
    const char *const others[] = {site->python, site->apptainer};
    char path[PATH_MAX];

    for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
        (void)snprintf(path, sizeof(path), "%.4000s/%s", site->libexec, ours[i]);
        if (!can_start(path, what, size))
            return false;
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        if (!can_start(others[i], what, size))
            return false;
    return are_of_this_release(site, what, size);
}
