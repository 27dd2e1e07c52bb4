/* Loop devices: a part of an open file as a read-only block device. */
#ifndef HPCIMG_LOOP_H
#define HPCIMG_LOOP_H

#include "sif.h"

#include <stddef.h>

/* Give that part of `file` a free loop device, which frees itself when its last user has gone. The
 * device opened, and its path in `device`; -1 with errno set. */
int attach_loop(int file, const struct squashfs *part, char *device, size_t size);

#endif
