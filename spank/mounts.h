/* The images that the kernel has mounted on this node: one mount an entry, kept while a job needs
 * it. Whoever calls this is root, in the node's own mount namespace.
 *
 *     /run/hpcimg/mounts/ENTRY             the mount
 *     /run/hpcimg/mounts/ENTRY.jobs/JOB    a job that needs it; its time is that of the last step
 *     /run/hpcimg/mounts/ENTRY.jobs/file   which file it is */
#ifndef HPCIMG_MOUNTS_H
#define HPCIMG_MOUNTS_H

#include "sif.h"

#include <limits.h>

#define MOUNTS "/run/hpcimg/mounts"

/* Have the image of an entry mounted for `job`, and its place; false, and the reason in `why`. */
bool mount_entry(const char *image, uid_t account, unsigned long job, char place[PATH_MAX],
                 char why[WHY_SIZE]);

/* Unmount what no job needs any longer; what is in use is left for the next time. */
void sweep_mounts(void);

#endif
