/* Who waits for this step, and whether they still do. While user_init runs, slurmstepd keeps every
 * signal and cancellation back, and past UnkillableStepTimeout the node is drained. Nobody waits so
 * for a batch script: see cancel.h. */
#ifndef HPCIMG_ASKER_H
#define HPCIMG_ASKER_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#define ASKERS 8

/* Fill in slurmstepd's connections to srun, to be polled; their number. */
size_t find_askers(struct pollfd askers[ASKERS]);

/* Every one of them has hung up: srun has ended, by itself or because the job was cancelled. */
bool have_all_gone(struct pollfd askers[ASKERS], size_t count);

#endif
