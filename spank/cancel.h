/* Whether a batch job was ended while its image is made ready. slurmstepd hears nothing then, and
 * past UnkillableStepTimeout Slurm drains the node. No srun waits that would hang up, and with a
 * lock that slurmstepd holds it cannot ask: so squeue is asked now and then, as the user. */
#ifndef HPCIMG_CANCEL_H
#define HPCIMG_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

/* From now on this job is asked for. */
void watch_job(uint32_t job);

/* How long poll may wait before the next question; -1 for ever. */
int watch_pause(void);

/* Slurm has ended the job; false also while it is not the time to ask, or nobody knows. */
bool was_cancelled(void);

#endif
