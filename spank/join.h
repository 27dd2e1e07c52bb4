/* How the joiner gets before a task's command: the one thing that differs between Slurm releases.
 */
#ifndef HPCIMG_JOIN_H
#define HPCIMG_JOIN_H

#include <slurm/spank.h>
#include <stdbool.h>

/* In a task's process: let it run `joiner`, with what open_container opened, before the user's
 * command. Without that the command does not run: it is `refused`, or else nothing was to run. */
bool put_joiner(spank_t spank, const char *joiner, const int descriptors[3], bool is_refused);

#endif
