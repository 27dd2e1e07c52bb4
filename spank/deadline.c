/* See deadline.h. */
#define _GNU_SOURCE
#include "deadline.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

time_t seconds_from_now(unsigned long seconds)
{
    struct timespec now = {.tv_sec = 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + (time_t)seconds;
}

static bool can_read(int fd, time_t end)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    int found;

    do {
        time_t left = end - seconds_from_now(0);
        found = left > 0 ? poll(&polled, 1, (int)left * 1000) : 0;
    } while (found < 0 && errno == EINTR);
    if (found == 0)
        errno = ETIMEDOUT;
    return found > 0;
}

bool read_in_time(int fd, char *bytes, size_t size, time_t end)
{
    for (size_t used = 0; used < size;) {
        ssize_t count = can_read(fd, end) ? read(fd, bytes + used, size - used) : 0;
        if (count <= 0)
            return false;
        used += (size_t)count;
    }
    return true;
}
