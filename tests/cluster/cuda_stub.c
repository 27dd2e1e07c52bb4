// A GPU node's libcuda.so.1 without a GPU: counts the device files that can be opened, of those
// the ones that CUDA_VISIBLE_DEVICES names, as NVIDIA's does, and tells the driver's version.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CUDA_SUCCESS = 0, CUDA_ERROR_NOT_INITIALIZED = 3, CUDA_ERROR_NO_DEVICE = 100, MOST = 16 };

static int numbers[MOST], count = -1;

static int can_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

int cuInit(unsigned flags)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    int found[MOST], there = 0;
    char path[32];

    (void)flags;
    count = 0;
    if (!can_open("/dev/nvidiactl"))
        return CUDA_ERROR_NO_DEVICE;
    for (int number = 0; number < MOST; number++) {
        snprintf(path, sizeof path, "/dev/nvidia%d", number);
        if (can_open(path))
            found[there++] = number;
    }
    for (int at = 0; visible == NULL && at < there; at++)
        numbers[count++] = found[at];
    /* A number of none ends the list. */
    while (visible != NULL && *visible != '\0') {
        char *end;
        long at = strtol(visible, &end, 10);
        if (end == visible || at < 0 || at >= there || count == MOST)
            break;
        numbers[count++] = found[at];
        visible = *end == ',' ? end + 1 : end;
    }
    return count > 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

int cuDriverGetVersion(int *version)
{
    *version = 9020;
    return CUDA_SUCCESS;
}

int cuDeviceGetCount(int *devices)
{
    *devices = count;
    return count < 0 ? CUDA_ERROR_NOT_INITIALIZED : CUDA_SUCCESS;
}

/* Not one of NVIDIA's: the number of the device file that a device stands for. */
int stubDeviceFile(int device)
{
    return device >= 0 && device < count ? numbers[device] : -1;
}
