/* What the user asked for, on the submit side: the name, and the literal `srun --container NAME`.
 */
#ifndef HPCIMG_REQUEST_H
#define HPCIMG_REQUEST_H

#include "programs.h"

#include <slurm/spank.h>
#include <stdbool.h>
#include <stddef.h>

#define IMAGE_VARIABLE  "SLURM_HPCIMG_IMAGE" /* `SLURM_`: what --export=NONE keeps */
#define PROLOG_VARIABLE "HPCIMG_IMAGE"       /* arrives as SPANK_HPCIMG_IMAGE */
#define NO_IMAGE        "none"

/* What the tag was when sbatch was called: the name written out, and its digest. */
#define PIN_VARIABLE        "SLURM_HPCIMG_PIN"
#define PIN_PROLOG_VARIABLE "HPCIMG_PIN"

/* The same for how a job's nodes choose, and what says it where the command line does not. */
#define MATCH_VARIABLE        "SLURM_HPCIMG_MATCH"
#define MATCH_PROLOG_VARIABLE "HPCIMG_MATCH"
#define MATCH_TWIN            "HPCIMG_CONTAINER_MATCH"
#define MATCH_WORDS           "per-node, uniform or uniform-or-fail"
#define WORD_SIZE             24

/* And for when a registry is asked what a tag stands for. */
#define PULL_VARIABLE        "SLURM_HPCIMG_PULL"
#define PULL_PROLOG_VARIABLE "HPCIMG_PULL"
#define PULL_TWIN            "HPCIMG_CONTAINER_PULL"
#define PULL_WORDS           "missing, newer or always"

/* What the options of one command or one of its components say; NULL where they say nothing. */
struct asked {
    const char *image, *match, *pull;
};

/* A name that may travel: no longer than the grammar allows, and of its characters only. */
bool is_image_name(const char *name);

/* One of MATCH_WORDS, and one of PULL_WORDS. */
bool is_match(const char *word);
bool is_pull(const char *word);

/* The variable in which sbatch and salloc leave the value of the option for the job's own commands,
 * as Slurm's spank.c makes it. */
void write_option_variable(const char *option, char *name, size_t size);

/* Remember what the environment and an outer command ask for; `variables` are the options'. */
void request_init(const struct asked *variables);

/* Settle one component's request, from our options, from --container (which is taken away from
 * Slurm), from the environment or from an outer command, and carry it to the steps and the prolog.
 * Called once for each component of a heterogeneous command; -1 when it cannot be served. */
int request_complete(spank_t spank, const struct site *site, const struct asked *options);

#endif
