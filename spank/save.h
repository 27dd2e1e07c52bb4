/* The file that a step's container is saved to, and who waits for the step's last task to do it. */
#ifndef HPCIMG_SAVE_H
#define HPCIMG_SAVE_H

#include "container.h"
#include "job.h"
#include "programs.h"

#include <limits.h>
#include <slurm/spank.h>
#include <stdatomic.h>
#include <stdbool.h>

#define SAVE_FORM "image file to save a container to"
#define SAVE_HINT "write a path that ends in .sqsh, .squashfs or .sif; %N in it is the node's name"

struct save {
    char path[PATH_MAX]; /* empty: nothing is saved */
    int count;           /* memory that the savers share */
    atomic_uint *left;   /* the tasks in it that have not ended */
};

/* The path where it is wrong, or NULL. */
const char *find_wrong_save(const char *value);

/* Have memory for the count, in a process whose descriptors the tasks inherit: with contain_spank
 * user_init runs in another. */
void open_save(struct save *save);

/* Fill in the node's name. False with what is wrong and what to do. */
bool prepare_save(struct save *save, const char *value, const char *node, const struct job *job,
                  unsigned tasks, const char **what, const char **hint);

/* In a task's process, when the joiner stands before its command: put a saver before both. */
bool put_saver(spank_t spank, const struct save *save, const struct container *container,
               const struct site *site, const char *node);

/* Root, when the last task has ended: whether a saver has begun to save, or said why it does not.
 */
bool was_begun(const struct save *save);

#endif
