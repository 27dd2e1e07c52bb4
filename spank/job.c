/* See job.h. */
#define _GNU_SOURCE
#include "job.h"

#include <slurm/slurm.h>
#include <stdio.h>
#include <string.h>

/* A variable of the job, or nothing when it is too long, could pass for an option, or holds other
 * characters than `allowed` (NULL: any). */
static void read_variable(spank_t spank, const char *name, const char *allowed, char *text,
                          size_t size)
{
    if (spank_getenv(spank, name, text, (int)size) != ESPANK_SUCCESS || text[0] == '-' ||
        (allowed != NULL && strspn(text, allowed) != strlen(text)))
        text[0] = '\0';
}

/* A step inherits the variable of the job's script, also when it got no GPU itself. */
static void read_gpus(spank_t spank, bool is_batch, struct job *job)
{
    read_variable(spank, is_batch ? "SLURM_JOB_GPUS" : "SLURM_STEP_GPUS",
                  "0123456789,-abcdefGPUMIG/", job->gpus, sizeof(job->gpus));
    if (job->gpus[0] == '\0')
        (void)snprintf(job->gpus, sizeof(job->gpus), "none");
}

/* Where srun joins a job from outside, SLURM_JOB_NODELIST has the step's nodes alone. */
static void read_nodes(spank_t spank, struct job *job)
{
    void *list;

    read_variable(spank, "SLURM_NODELIST", NULL, job->nodes, sizeof(job->nodes));
    if (job->nodes[0] == '\0')
        read_variable(spank, "SLURM_JOB_NODELIST", NULL, job->nodes, sizeof(job->nodes));
    if (job->nodes[0] == '\0' || (list = slurm_hostlist_create(job->nodes)) == NULL)
        return;
    job->node_count = (unsigned)slurm_hostlist_count(list);
    slurm_hostlist_destroy(list);
}

bool read_job(spank_t spank, bool is_batch, struct job *job)
{
    if (spank_get_item(spank, S_JOB_ID, &job->id) != ESPANK_SUCCESS)
        return false;
    read_gpus(spank, is_batch, job);
    read_nodes(spank, job);
    read_variable(spank, "SLURM_CLUSTER_NAME", NULL, job->cluster, sizeof(job->cluster));
    read_variable(spank, "SLURM_JOB_START_TIME", "0123456789", job->started, sizeof(job->started));
    return true;
}
