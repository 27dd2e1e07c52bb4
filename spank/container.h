/* The container of one step on one node, as the plugin sees it: a few pids and a lifeline. */
#ifndef HPCIMG_CONTAINER_H
#define HPCIMG_CONTAINER_H

#include "groups.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KEEPERS 32

struct container {
    pid_t anchor; /* in the namespaces that the tasks join; 0: none */
    unsigned long long anchor_start;
    struct process keepers[KEEPERS]; /* all processes that keep it: anchor, holder, Apptainer's
                                        monitor, FUSE */
    size_t keeper_count;
    char *environment; /* what the image sets, NUL-separated */
    size_t environment_size;
};

/* Take the starter's result (text of `size` bytes) apart; the environment points into it. */
bool parse_container(char *result, size_t size, struct container *container);

/* Root, once tasks are in their cgroups: move the container's processes into the step's. */
void adopt_container(const struct container *container, pid_t task);

/* Root, when the last task has ended: end them and wait until they are gone. Slurm would kill them
 * too, but then sleeps a whole second before it looks again. */
void end_container(const struct container *container, uid_t uid);

/* Root, in a task's process: open what the joiner needs, to be inherited: anchor's pidfd, root
 * directory, image environment. False with errno set when the anchor is gone. */
bool open_container(const struct container *container, int descriptors[3]);

#endif
