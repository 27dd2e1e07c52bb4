/* See asker.h. */
#define _GNU_SOURCE
#include "asker.h"

#include <sys/socket.h>

#define HIGHEST_DESCRIPTOR 1024

size_t find_askers(struct pollfd askers[ASKERS])
{
    struct sockaddr_storage peer;
    size_t count = 0;

    for (int fd = 3; fd < HIGHEST_DESCRIPTOR && count < ASKERS; fd++) {
        socklen_t size = sizeof(peer);
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
            (peer.ss_family == AF_INET || peer.ss_family == AF_INET6))
            askers[count++] = (struct pollfd){.fd = fd, .events = POLLRDHUP};
    }
    return count;
}

bool have_all_gone(struct pollfd askers[ASKERS], size_t count)
{
    size_t gone = 0;

    for (size_t i = 0; i < count; i++) {
        if (askers[i].revents != 0)
            askers[i].fd = -1; /* poll leaves it out from now on */
        gone += askers[i].fd < 0;
    }
    return count > 0 && gone == count;
}
