/* What is changed in a container that Apptainer has made: flags of mounts, what is taken away. */
#ifndef HPCIMG_ARRANGE_H
#define HPCIMG_ARRANGE_H

#include "starter.h"

#include <stdbool.h>

/* Whether there is anything to do. */
bool wants_arranging(const struct request *request);

/* Do it in a child that becomes the user and enters the mount namespace as its owner. What fails is
 * said on `messages`. */
bool arrange(const struct request *request, int mount_namespace, int messages);

#endif
