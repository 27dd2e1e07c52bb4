/* See job.h. */
#define _GNU_SOURCE
#include "job.h"

#include "request.h"
#include "words.h"

#include "ticket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPORTS_VARIABLE "SLURM_HPCIMG_REPORTS"

#define DIGITS           "0123456789"
#define GPUS             DIGITS ",-abcdefGPUMIG/"
#define WORD             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "_.-"

/* A text of these characters alone that could not pass for an option; anything else is made none.
 */
static void keep_only(char *text, const char *allowed)
{
    if (text[0] == '-' || strspn(text, allowed) != strlen(text))
        text[0] = '\0';
}

static void read_variable(spank_t spank, const char *name, const char *allowed, char *text,
                          size_t size)
{
    if (spank_getenv(spank, name, text, (int)size) != ESPANK_SUCCESS)
        text[0] = '\0';
    keep_only(text, allowed);
}

/* Where the user says so, no GPU comes in. */
static bool refuses_gpus(spank_t spank)
{
    char said[8];

    read_variable(spank, "NVIDIA_VISIBLE_DEVICES", "nonevid", said, sizeof(said));
    return strcmp(said, "none") == 0 || strcmp(said, "void") == 0;
}

/* What Slurm tells the step's programs: the node's numbers, or where a control group denies them
 * the other GPUs, numbers from 0 up; of a MIG slice its UUID, which no number tells. */
static void read_told_gpus(spank_t spank, struct job *job)
{
    static const char *const names[] = {"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
                                        "ZE_AFFINITY_MASK"};
    char told[sizeof(job->gpus)];

    job->has_node_numbers = false;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        read_variable(spank, names[i], GPUS, told, sizeof(told));
        if (strcmp(told, job->gpus) == 0)
            job->has_node_numbers = true;
        if (strncmp(told, "MIG-", 4) == 0)
            (void)snprintf(job->gpus, sizeof(job->gpus), "%s", told);
    }
}

/* A step inherits the variable of the job's script, also when it got no GPU itself. */
static void read_gpus(spank_t spank, bool is_batch, struct job *job)
{
    read_variable(spank, is_batch ? "SLURM_JOB_GPUS" : "SLURM_STEP_GPUS", GPUS, job->gpus,
                  sizeof(job->gpus));
    if (job->gpus[0] != '\0')
        read_told_gpus(spank, job);
    if (job->gpus[0] == '\0' || refuses_gpus(spank))
        (void)snprintf(job->gpus, sizeof(job->gpus), "none");
}

/* Two brackets in one word multiply: a few bytes would name millions of nodes. */
static bool has_one_bracket_a_word(const char *list)
{
    bool is_inside = false, had = false;

    for (; *list != '\0'; list++) {
        if (*list == '[' && had)
            return false;
        is_inside = *list == '[' || (is_inside && *list != ']');
        had = *list == '[' || (had && (is_inside || *list != ','));
    }
    return true;
}

/* The user's own: a list is kept as text, and nothing here expands it. Where srun joins a job from
 * outside, SLURM_JOB_NODELIST has the step's nodes alone. */
static void read_nodes(spank_t spank, struct job *job)
{
    char list[LISTED_SIZE];

    read_variable(spank, "SLURM_NODELIST", WORD ",[]", list, sizeof(list));
    if (list[0] == '\0')
        read_variable(spank, "SLURM_JOB_NODELIST", WORD ",[]", list, sizeof(list));
    if (has_one_bracket_a_word(list))
        (void)snprintf(job->nodes, sizeof(job->nodes), "%s", list);
}

/* The prolog counts the nodes of one component alone: a list of more has a number of its own. */
static unsigned number_of(const char *text)
{
    unsigned number = 2166136261U;

    for (; *text != '\0'; text++)
        number = (number ^ (unsigned char)*text) * 16777619U;
    return number;
}

/* What root's prolog was told, which no user can change. */
static bool read_told(struct job *job)
{
    static char text[JOB_FILE_SIZE];
    char count[16], leader[16];

    if (!read_job_file(job->id, text, sizeof(text)) ||
        !parse_line(text, "cluster=", job->cluster, sizeof(job->cluster)) ||
        !parse_line(text, "started=", job->started, sizeof(job->started)) ||
        !parse_line(text, "nodes=", job->nodes, sizeof(job->nodes)) ||
        !parse_line(text, "count=", count, sizeof(count)) ||
        !parse_line(text, "leader=", leader, sizeof(leader)))
        return false;
    if (!parse_line(text, "restarts=", job->restarts, sizeof(job->restarts)))
        job->restarts[0] = '\0';
    keep_only(job->restarts, DIGITS);
    keep_only(job->cluster, WORD);
    keep_only(job->started, DIGITS);
    keep_only(job->nodes, WORD ",[]");
    job->node_count = (unsigned)strtoul(count, NULL, 10);
    job->leader = (uint32_t)strtoul(leader, NULL, 10);
    return true;
}

bool read_job(spank_t spank, bool is_batch, struct job *job)
{
    char reports[4];

    if (spank_get_item(spank, S_JOB_ID, &job->id) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_STEPID, &job->step) != ESPANK_SUCCESS)
        return false;
    if (spank_get_item(spank, S_JOB_NODEID, &job->place) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_NNODES, &job->places) != ESPANK_SUCCESS)
        job->place = job->places = 0; /* none: the node speaks as one that is alone */
    read_variable(spank, REPORTS_VARIABLE, DIGITS, reports, sizeof(reports));
    job->reports = strcmp(reports, "1") == 0;
    read_gpus(spank, is_batch, job);
    if (!read_told(job)) {
        read_variable(spank, "SLURM_RESTART_COUNT", DIGITS, job->restarts, sizeof(job->restarts));
        read_variable(spank, "SLURM_CLUSTER_NAME", WORD, job->cluster, sizeof(job->cluster));
        read_variable(spank, "SLURM_JOB_START_TIME", DIGITS, job->started, sizeof(job->started));
        job->nodes[0] = '\0';
        job->leader = job->id;
    }
    /* Of a heterogeneous job's other components a prolog is told nothing. */
    if (job->nodes[0] == '\0') {
        read_nodes(spank, job);
        job->node_count = number_of(job->nodes);
    }
    return true;
}

void read_pin(spank_t spank, struct job *job)
{
    char *pinned = job->pinned;
    const int size = sizeof(job->pinned);

    if (spank_getenv(spank, PIN_VARIABLE, pinned, size) != ESPANK_SUCCESS || pinned[0] == '\0')
        (void)spank_getenv(spank, "SLURM_SPANK_" PIN_PROLOG_VARIABLE, pinned, size);
    if (!is_image_name(pinned))
        pinned[0] = '\0';
}
