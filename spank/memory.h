/* Directories in the node's memory for one container, which end with it. */
#ifndef HPCIMG_MEMORY_H
#define HPCIMG_MEMORY_H

#include "starter.h"

#include <stdbool.h>

/* Root: leave for a mount namespace of our own, and make there what the request needs: a layer for
 * what is written to the image's files, and the mounts from tmpfs. What tasks write there counts as
 * their step's memory. False with errno set. */
bool make_memory(struct request *request);

#endif
