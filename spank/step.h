/* One step on one node, from the request to the last task: the half of the plugin that slurmstepd
 * runs. Every call does nothing when the step asked for no image. */
#ifndef HPCIMG_STEP_H
#define HPCIMG_STEP_H

#include "programs.h"

#include <slurm/spank.h>

/* Root: note what this step asked for. */
void step_request(spank_t spank);

/* The user's effective uid, once a step: have the image ready and start its container. What fails
 * here is told to the user, and then no task runs. */
void step_start(spank_t spank, const struct site *site);

/* Root, in a task's process: open what the joiner will need. */
void step_open(void);

/* Root, when a task is in its control group: bring the container's processes there too. */
void step_adopt(spank_t spank);

/* The user, in a task's process: put the joiner before the command, whatever has happened. */
void step_join(spank_t spank, const struct site *site);

/* Root, when a task has ended: with the last one ends the container. */
void step_task_ended(spank_t spank, const struct site *site);

#endif
