/* What slurmstepd knows of a step's job that decides what it runs. The prolog has left what Slurm
 * told it: slurmstepd's own environment is the user's, and lacks the start time until after
 * user_init. What is read from there can spoil nothing but that user's own job. */
#ifndef HPCIMG_JOB_H
#define HPCIMG_JOB_H

#include "common.h"

#include <slurm/spank.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define WORD_SIZE   24
#define LISTED_SIZE 4096 /* of a list of nodes that the user's environment has */

struct job {
    uint32_t id;
    uint32_t leader; /* the same, or of a heterogeneous job the number that its parts share */
    uint32_t step;
    uid_t user;
    bool reports;           /* progress for a program, as `cache warm` wants it, and not in words */
    uint32_t place, places; /* this node's number among those of the step, and how many they are */
    char gpus[256];         /* of the step on this node, as Slurm numbers them, or "none" */
    bool has_node_numbers;  /* its programs are told the node's numbers of them: nothing denies
                               others */
    char match[WORD_SIZE];  /* empty: the site's */
    char pull[WORD_SIZE];   /* the same */
    char platform[160];     /* the words of the build that is wanted; empty: this node's */
    char pinned[NAME_LENGTH + 1]; /* what the job's request has for a tag; may be empty */
    char restarts[16];            /* how often the job was started before */
    char nodes[1 << 16];          /* all of the job's, as Slurm writes them; empty when not known */
    char cluster[64], started[24];
    unsigned node_count; /* or any other number that stands for `nodes`, in a ticket's name */
};

/* Fill in all but the user and the match; false when Slurm does not tell the job. */
bool read_job(spank_t spank, bool is_batch, struct job *job);

/* What the tag was when the job was submitted; empty for what is no name. */
void read_pin(spank_t spank, struct job *job);

#endif
