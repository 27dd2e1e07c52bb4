/* What the user asked for, on the submit side: the name, and the literal `srun --container NAME`.
 */
#ifndef HPCIMG_REQUEST_H
#define HPCIMG_REQUEST_H

#include <slurm/spank.h>
#include <stdbool.h>
#include <stddef.h>

#define IMAGE_VARIABLE  "SLURM_HPCIMG_IMAGE" /* `SLURM_`: what --export=NONE keeps */
#define PROLOG_VARIABLE "HPCIMG_IMAGE"       /* arrives as SPANK_HPCIMG_IMAGE */
#define NO_IMAGE        "none"

/* A name that may travel: no longer than the grammar allows, and of its characters only. */
bool is_image_name(const char *name);

/* The variable in which sbatch and salloc leave the value of the option for the job's own commands,
 * as Slurm's spank.c makes it. */
void write_option_variable(const char *option, char *name, size_t size);

/* Remember what an outer command asked for: `variable` is the option's. */
void request_init(const char *variable);

/* Settle one component's request, from our option, from --container (which is taken away from
 * Slurm) or from an outer command, and carry it to the steps and the prolog. Called once for each
 * component of a heterogeneous command; -1 when it cannot be served. */
int request_complete(spank_t spank, const char *option);

#endif
