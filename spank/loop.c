/* See loop.h. */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ATTEMPTS  64 /* others may take the device that was free */
#define CONFIGURE 0x4C0A

/* LOOP_CONFIGURE's argument (Linux 5.8); the headers of older systems lack both. */
struct configuration {
    unsigned int fd, block_size;
    struct loop_info64 info;
    unsigned long long reserved[8];
};

/* The descriptor is what is given, and no path: what was checked is what the kernel reads. */
static int attach(int control, int file, const struct squashfs *part, char *device, size_t size)
{
    struct configuration config = {
        .fd = (unsigned int)file,
        .info = {.lo_offset = part->offset,
                 .lo_sizelimit = part->size,
                 .lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR},
    };
    int number = ioctl(control, LOOP_CTL_GET_FREE), fd;

    if (number < 0)
        return -1;
    (void)snprintf(device, size, "/dev/loop%d", number);
    (void)snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "hpcimg");
    if ((fd = open(device, O_RDONLY | O_CLOEXEC)) < 0)
        return -1;
    if (ioctl(fd, CONFIGURE, &config) == 0)
        return fd;
    int reason = errno;
    (void)close(fd);
    errno = reason;
    return -1;
}

int attach_loop(int file, const struct squashfs *part, char *device, size_t size)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd = -1, reason;

    if (control < 0)
        return -1;
    for (int i = 0; i < ATTEMPTS; i++)
        if ((fd = attach(control, file, part, device, size)) >= 0 || errno != EBUSY)
            break;
    reason = errno;
    (void)close(control);
    errno = reason;
    return fd;
}
