/* The name of a step's container: what runs under it on this node, what is kept, what is allowed.
 * It starts the finder, which looks; it opens nothing itself. */
#ifndef HPCIMG_NAMES_H
#define HPCIMG_NAMES_H

#include "identity.h"
#include "job.h"
#include "programs.h"
#include "running.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAME_FORM "container's name"
#define NAME_HINT                                                                                  \
    "write NAME, NAME:create, NAME:exec or NAME:no_exec, of letters, digits, . _ and -"

enum found {
    FOUND_NOTHING, /* to be created */
    FOUND_KEPT,    /* to be started from what it left */
    FOUND_RUNNING, /* to be joined */
    FOUND_WRONG,   /* `what` and `hint` say why */
};

struct named {
    char key[KEY_SIZE];    /* of the container in the list of those that run */
    char layer[PATH_MAX];  /* the directory of what it changes; empty: nothing is kept */
    bool is_new, is_brief; /* it has to be made; it goes with the step */
    char image[PATH_MAX + 8], reference[NAME_LENGTH + 160], stamp[64]; /* what a kept one lies on */
    char place[PATH_MAX], folder[256];                                 /* the layer in two parts */
    char what[PATH_MAX + 256];
    const char *hint;
};

/* The part of NAME[:FLAG] that is wrong, or NULL. */
const char *find_wrong_name(const char *word);

/* Find what `word` means on this node, for a step that asks for `image` or for none (NULL). Of one
 * that runs, `output` has what the list says. */
enum found find_named(struct named *named, const char *word, const char *image,
                      const struct identity *user, const struct site *site, const struct job *job,
                      char *output, size_t *size);

/* The same for a step whose container has no name; `wants_layer` when it must be writable on disk
 * until the step ends. */
enum found find_unnamed(struct named *named, bool wants_layer, bool is_batch,
                        const struct identity *user, const struct site *site, const struct job *job,
                        char *output);

/* Once its image is there: make the layer of one that is new. */
bool make_named(struct named *named, const struct identity *user, const struct site *site,
                const struct job *job, char *output);

/* Once it runs: write down what the new layer lies on. */
void note_named(const struct named *named, const char *image, const char *reference,
                const char *stamp, const struct identity *user, const struct site *site,
                char *output);

/* Root, once it has ended: remove what goes with the step. */
void drop_named(const struct named *named, const struct identity *user, const struct site *site);

#endif
