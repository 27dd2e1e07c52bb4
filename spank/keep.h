/* What the starter does for a container that others can find: it is in root's list of those that
 * run, and what it changes lies in a layer of the user's. */
#ifndef HPCIMG_KEEP_H
#define HPCIMG_KEEP_H

#include "namespaces.h"

#include <stdbool.h>
#include <stddef.h>

struct keep {
    const char *key;           /* in the list; NULL: it is in none */
    const char *path, *folder; /* of the layer; NULL: nothing is kept */
    const char *about;         /* what a new layer lies on; NULL: it goes with the step */
    const char *told;          /* what `hpcimg get` said of its image, for who joins it */
    bool is_new, must_claim;
    unsigned long job;
    int claim;
};

enum kept { KEPT_READY, KEPT_BUSY, KEPT_FAILED };

/* Root: let nobody else start it, and have an empty layer for a new one. KEPT_BUSY where somebody
 * was faster; KEPT_FAILED with errno set. */
enum kept claim_container(struct keep *keep, const struct user *user);

/* Root, once it runs: write down how to join it, and what its layer lies on. The first words are
 * root's own; what the user's processes have said comes after them. */
bool keep_container(struct keep *keep, const struct user *user, const char *image,
                    const char *processes, const char *environment, size_t size);

/* Root: it did not start. */
void give_up_container(struct keep *keep);

#endif
