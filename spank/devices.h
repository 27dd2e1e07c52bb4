/* The /dev of a container's step: that of the node without the devices that are not its own.
 *
 * They are not there, which drivers' libraries take for a GPU that is somebody else's; an empty
 * file in their place would be opened and fail. */
#ifndef HPCIMG_DEVICES_H
#define HPCIMG_DEVICES_H

#include <stdbool.h>
#include <stddef.h>

/* Put another /dev before the eyes of this process and its children, in the mount namespace it is
 * in, which must be its own. Paths outside of /dev hide nothing. False with errno set. */
bool hide_devices(const char *const *paths, size_t count);

/* Leave for a mount namespace of our own: nothing mounted here is seen outside, what the node
 * mounts later is seen here. */
bool leave_mounts(void);

#endif
