/* See save.h. */
#define _GNU_SOURCE
#include "save.h"

#include "common.h"
#include "forms.h"

#include <fcntl.h>
#include <slurm/slurm.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NODE_MARK "%N"

const char *find_wrong_save(const char *value)
{
    static const char *const suffixes[] = {".sqsh", ".squashfs", ".sif"};
    const char *name = strrchr(value, '/'), *suffix;

    name = name != NULL ? name + 1 : value;
    suffix = strrchr(name, '.');
    for (size_t i = 0; suffix != NULL && suffix != name && i < 3; i++)
        if (strcmp(suffix, suffixes[i]) == 0)
            return is_good_path(value) && strlen(value) < PATH_MAX ? NULL : value;
    return value;
}

static bool fill_in(const char *value, const char *node, char path[PATH_MAX])
{
    size_t used = 0;

    while (*value != '\0') {
        bool is_mark = strncmp(value, NODE_MARK, strlen(NODE_MARK)) == 0;
        const char *piece = is_mark ? node : value;
        size_t length = is_mark ? strlen(node) : 1;
        if (used + length >= PATH_MAX)
            return false;
        memcpy(path + used, piece, length);
        used += length;
        value += is_mark ? strlen(NODE_MARK) : 1;
    }
    path[used] = '\0';
    return true;
}

void open_save(struct save *save)
{
    save->count = memfd_create("hpcimg-save", MFD_CLOEXEC);
}

static bool share_count(struct save *save, unsigned tasks)
{
    void *memory;

    if (save->count < 0 || ftruncate(save->count, sizeof(atomic_uint)) < 0)
        return false;
    memory = mmap(NULL, sizeof(atomic_uint), PROT_READ | PROT_WRITE, MAP_SHARED, save->count, 0);
    if (memory == MAP_FAILED)
        return false;
    save->left = memory;
    atomic_init(save->left, tasks);
    return true;
}

bool prepare_save(struct save *save, const char *value, const char *node, const struct job *job,
                  unsigned tasks, const char **what, const char **hint)
{
    *hint = SAVE_HINT;
    *what = "the path to save the container to is too long, or does not begin with /";
    if (value[0] != '/' || !fill_in(value, node, save->path))
        return false;
    *what = "each node of the step would save its container to the same file";
    if (job->places > 1 && strstr(value, NODE_MARK) == NULL)
        return false;
    *what = "this release of Slurm cannot save a container";
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 11, 0)
    return false;
#endif
    *what = "the container cannot be saved: no memory for the count of its tasks";
    return share_count(save, tasks);
}

bool put_saver(spank_t spank, const struct save *save, const struct container *container,
               const struct site *site, const char *node)
{
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
    char saver[PATH_MAX], count[16], anchor[16], start[32];
    const char *words[] = {saver, count, anchor, start, node, site->python, save->path, "--"};

    if (save->left == NULL)
        return true;
    (void)snprintf(saver, sizeof(saver), "%.4000s/saver", site->libexec);
    (void)snprintf(count, sizeof(count), "%d", save->count);
    (void)snprintf(anchor, sizeof(anchor), "%d", (int)container->anchor);
    (void)snprintf(start, sizeof(start), "%llu", container->anchor_start);
    return access(saver, X_OK) == 0 && fcntl(save->count, F_SETFD, 0) == 0 &&
           spank_prepend_task_argv(spank, sizeof(words) / sizeof(*words), words) == ESPANK_SUCCESS;
#else
    (void)spank, (void)container, (void)site, (void)node;
    return save->left == NULL;
#endif
}

bool was_begun(const struct save *save)
{
    return save->left == NULL || atomic_load(save->left) == 0 ||
           atomic_load(save->left) >= SAVE_REFUSED;
}
