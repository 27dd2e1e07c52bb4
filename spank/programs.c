/* See programs.h. */
#define _GNU_SOURCE
#include "programs.h"

#include <stdio.h>
#include <unistd.h>

bool have_programs(const struct site *site, char *path, size_t size)
{
    static const char *const ours[] = {"starter", "holder", "joiner"};
    const char *const others[] = {site->python, site->apptainer};

    for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
        (void)snprintf(path, size, "%.4000s/%s", site->libexec, ours[i]);
        if (access(path, X_OK) != 0)
            return false;
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        (void)snprintf(path, size, "%s", others[i]);
        if (access(path, X_OK) != 0)
            return false;
    }
    return true;
}
