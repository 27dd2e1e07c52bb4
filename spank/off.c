/* See off.h. */
#define _GNU_SOURCE
#include "off.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool is_switched_off(char *reason, size_t size)
{
    int fd = open(OFF_FILE, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ssize_t count = 0;

    /* One that is there and cannot be read switches off too. */
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return false;
    if (fd >= 0) {
        count = read_all(fd, reason, size - 1);
        (void)close(fd);
    }
    reason[count > 0 ? count : 0] = '\0';
    reason[strcspn(reason, "\n")] = '\0';
    keep_shown(reason);
    if (reason[0] == '\0')
        (void)snprintf(reason, size, "the site has switched it off");
    return true;
}
