/* See memory.h. Root makes them, since what a user mounts in a user namespace knows fewer groups
 * than the tasks have. */
#define _GNU_SOURCE
#include "memory.h"

#include "limit.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYER MEMORY "/layer"

static bool wants_memory(const struct request *request)
{
    bool wants = request->is_writable && request->overlay == NULL;

    for (size_t i = 0; i < request->bind_count && !wants; i++)
        wants = request->binds[i].kind == BIND_TMPFS;
    return wants;
}

/* The step's memory is for its tasks too. Without an end to the files the kernel would kill one
 * process after the other, those that serve the image first, and free nothing by it. */
static bool mount_memory(void)
{
    unsigned long long limit = memory_limit();
    char options[64] = "mode=0755";

    if (limit != 0)
        (void)snprintf(options, sizeof(options), "mode=0755,size=%llu", limit / 4 * 3);
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0 &&
           (mkdir("/run/hpcimg", 0755) == 0 || errno == EEXIST) &&
           (mkdir(MEMORY, 0755) == 0 || errno == EEXIST) &&
           mount("hpcimg", MEMORY, "tmpfs", MS_NOSUID | MS_NODEV, options) == 0;
}

static bool make_directory(const struct user *user, const char *path, mode_t mode)
{
    return mkdir(path, mode) == 0 && chown(path, user->uid, user->gid) == 0;
}

/* As Apptainer wants a layer. */
static bool make_layer(struct request *request)
{
    request->overlay = LAYER;
    return make_directory(&request->user, LAYER, 0700) &&
           make_directory(&request->user, LAYER "/upper", 0755) &&
           make_directory(&request->user, LAYER "/work", 0700);
}

bool make_memory(struct request *request)
{
    char path[64];

    if (!wants_memory(request))
        return true;
    if (!mount_memory())
        return false;
    for (size_t i = 0; i < request->bind_count; i++) {
        (void)snprintf(path, sizeof(path), MEMORY "/%zu", i);
        if (request->binds[i].kind == BIND_TMPFS && !make_directory(&request->user, path, 0700))
            return false;
    }
    return !request->is_writable || request->overlay != NULL || make_layer(request);
}
