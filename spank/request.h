/* What the user asks for, on the submit side: the words, and the literal `srun --container NAME`.
 */
#ifndef HPCIMG_REQUEST_H
#define HPCIMG_REQUEST_H

#include "programs.h"

#include <slurm/spank.h>

#define NO_IMAGE "none"

/* What the tag was when sbatch was called: the name written out, and its digest. */
#define PIN_VARIABLE        "SLURM_HPCIMG_PIN"
#define PIN_PROLOG_VARIABLE "HPCIMG_PIN"

/* Remember what the environment and an outer command ask for. */
void request_init(void);

/* Settle one component's request, from our options, from --container (which is taken away from
 * Slurm), from the environment or from an outer command, and carry it to the steps and the prolog.
 * Called once for each component of a heterogeneous command; -1 when it cannot be served. */
int request_complete(spank_t spank, const struct site *site);

#endif
