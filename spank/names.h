/* The name of a step's container: what runs under it on this node, what is kept, what is allowed.
 * It starts the finder, which looks; it opens nothing itself. */
#ifndef HPCIMG_NAMES_H
#define HPCIMG_NAMES_H

#include "argv.h"
#include "container.h"
#include "identity.h"
#include "job.h"
#include "programs.h"
#include "running.h"
#include "words.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAME_FORM "name of a container"
#define NAME_HINT                                                                                  \
    "write NAME, NAME:create, NAME:exec or NAME:no_exec, of letters, digits, . _ and -"

enum found {
    FOUND_NOTHING, /* to be created */
    FOUND_KEPT,    /* to be started from what it left */
    FOUND_RUNNING, /* to be joined */
    FOUND_WRONG,   /* `what` and `hint` say why */
};

struct named {
    char key[KEY_SIZE];              /* of the container in the list of those that run */
    bool has_name, is_new, is_brief; /* it has to be made; it goes with the step */
    char image[PATH_MAX + 8], reference[NAME_LENGTH + 160], stamp[64]; /* what a kept one lies on */
    char platform[160];                /* whose build it is; empty: the node's own */
    char place[PATH_MAX], folder[256]; /* the layer in two parts */
    char what[PATH_MAX + 256];
    const char *hint;
};

/* The part of NAME[:FLAG] that is wrong, or NULL. */
const char *find_wrong_name(const char *word);

/* Find what a step's words mean on this node: the name, or that of the step where it has none. Of
 * one that runs, `output` has what the list says. */
enum found find_container(struct named *named, const char *const *asked, bool is_batch,
                          const struct identity *user, const struct site *site,
                          const struct job *job, const char *node, char *output, size_t *size);

/* What the starter is told of it; `text` is what `hpcimg get` printed. */
void add_named(const struct named *named, const char *const *asked, const char *text,
               struct argv *argv);

/* Of one that runs: what the tasks join, out of what the list says. Its processes stay the affair
 * of the step that started it. */
bool join_running(char *output, size_t size, const char **asked, struct container *container);

/* Whether what a kept one lies on is still what it was. */
bool is_unchanged(const struct named *named, const char *text);

/* Root, once it has ended: remove what goes with the step. */
void drop_named(const struct named *named, const struct identity *user, const struct site *site);

#endif
