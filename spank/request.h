/* What the user asked for, on the submit side: the name, and the literal `srun --container NAME`. */
#ifndef HPCIMG_REQUEST_H
#define HPCIMG_REQUEST_H

#include <slurm/spank.h>
#include <stdbool.h>

#define IMAGE_VARIABLE "SLURM_HPCIMG_IMAGE" /* `SLURM_`: what --export=NONE keeps */
#define PROLOG_VARIABLE "HPCIMG_IMAGE"      /* arrives as SPANK_HPCIMG_IMAGE */
#define NO_IMAGE "none"

/* A name that may travel: no longer than the grammar allows, and of its characters only. */
bool is_image_name(const char *name);

/* Keep the environment and put aside a SLURM_CONTAINER that an outer command left there. */
void request_init(void);

/* Handle a --container of this very command: srun starts again with our option in its place (this
 * call then does not return), sbatch and salloc make it the default of their steps. Carry the
 * name, from the option, from there or from an outer command, to the steps and the prolog. */
int request_complete(spank_t spank, const char *option);

#endif
