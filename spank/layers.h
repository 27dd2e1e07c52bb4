/* What named containers leave: a directory for each user of the node, and all in it the user's. */
#ifndef HPCIMG_LAYERS_H
#define HPCIMG_LAYERS_H

#include "namespaces.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define ABOUT       "about" /* of a layer: what it lies on; only one that ran has it */
#define ABOUT_LIMIT 16384

/* Of fixed words, numbers and container names: nothing leads out of the user's directory. */
bool is_folder(const char *text);

/* Root: become the user, for good, in the user's directory under the site's `path`; `make` both
 * where they are missing. False with errno set unless the first is root's alone and the second the
 * user's alone. A user's group that is not known is the directory's. */
bool enter_layers(const char *path, const struct user *user, bool make);

/* The user, in that directory: read what the layer in `folder` lies on; -1 where none is kept. */
ssize_t read_about(const char *folder, char *text, size_t size);

/* The user: write it, whole or not at all. */
bool write_about(const char *folder, const char *text);

/* The user: make an empty layer, and clear what never ran. False with errno set. */
bool make_layer(const char *folder);

/* The user: remove a directory with all in it. */
bool remove_layer(const char *folder);

/* The user: remove what jobs left that are no longer on this node; `job` is. */
void sweep_layers(unsigned long job);

#endif
