/* A mount of the node's, as one step has it: a copy of its own, in which root's files are the
 * user's, as they are when the user mounts the image with FUSE. */
#ifndef HPCIMG_COPIES_H
#define HPCIMG_COPIES_H

#include <stdbool.h>
#include <sys/types.h>

/* Copy the mount at `place`, for that user. It hangs nowhere yet; -1 with errno set, EINVAL where
 * the kernel cannot do it (before Linux 6.2). */
int copy_mount(const char *place, uid_t uid, gid_t gid);

/* Leave for a mount namespace of our own, and hang the copy there at `place`. */
bool hang_copy(int copy, const char *place);

#endif
