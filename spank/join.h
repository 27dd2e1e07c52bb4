/* How the joiner gets before a task's command: the one thing that differs between Slurm releases.
 */
#ifndef HPCIMG_JOIN_H
#define HPCIMG_JOIN_H

#include <slurm/spank.h>
#include <stdbool.h>

/* In a task's process: let it run `joiner`, with what open_container opened (NULL: the joiner
 * refuses), before the user's command. */
bool put_joiner(spank_t spank, const char *joiner, const int descriptors[3]);

#endif
