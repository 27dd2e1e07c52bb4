/* What the starter is told of one step, and what of it the joiners of its tasks are told. */
#ifndef HPCIMG_LAUNCH_H
#define HPCIMG_LAUNCH_H

#include "argv.h"
#include "container.h"
#include "identity.h"
#include "job.h"
#include "programs.h"
#include "ticket.h"
#include "words.h"

#include <slurm/spank.h>
#include <stdbool.h>
#include <stddef.h>

struct launch {
    const struct site *site;
    const struct identity *user;
    const struct job *job;
    const struct entry *entry;
    const char *const *words; /* of the request, NULL where nothing was said */
    const char *node, *workdir;
    const char *script; /* a file of Slurm's that the container needs; may be NULL */
};

/* Where the step works, and the batch script that a `sbatch --container-image` wants inside:
 * Slurm's own copy of it; NULL for all other steps. */
void read_workdir(char *path, size_t size);
const char *batch_script(spank_t spank);

/* The starter's command line; false, and why, where it cannot be made. */
bool write_launch(const struct launch *launch, struct argv *argv, const char **why);

/* Put what the joiner is told, and what the node sets, around what the image sets. */
bool complete_environment(const struct launch *launch, struct container *container);

#endif
