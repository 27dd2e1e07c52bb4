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

#include <stdbool.h>

struct launch {
    const struct site *site;
    const struct identity *user;
    const struct job *job;
    const struct entry *entry;
    const char *const *words; /* of the request, NULL where nothing was said */
    const char *node, *workdir;
    const char *script; /* a file of Slurm's that the container needs; may be NULL */
};

/* The starter's command line; false, and why, where it cannot be made. */
bool write_launch(const struct launch *launch, struct argv *argv, const char **why);

/* Put what the joiner is told, and what the node sets, around what the image sets. */
bool complete_environment(const struct launch *launch, struct container *container);

#endif
