/* What slurmstepd knows of a step's job that decides what it runs. The environment is the user's:
 * what is read from there can spoil nothing but that user's own job. */
#ifndef HPCIMG_JOB_H
#define HPCIMG_JOB_H

#include "request.h"

#include <slurm/spank.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct job {
    uint32_t id;
    uid_t user;
    char gpus[256];         /* of the step on this node, as Slurm numbers them, or "none" */
    char match[MATCH_SIZE]; /* empty: the site's */
    char nodes[1 << 16];    /* all of the job's, as Slurm writes them; empty when not known */
    char cluster[64], started[24];
    unsigned node_count; /* 0 when not known */
};

/* Fill in all but the user and the match; false when Slurm does not tell the job. */
bool read_job(spank_t spank, bool is_batch, struct job *job);

#endif
