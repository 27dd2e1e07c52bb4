/* The words of a request: how each travels, and what may be said of it. One table for both sides;
 * who reads it knows few of the words by name. */
#ifndef HPCIMG_WORDS_H
#define HPCIMG_WORDS_H

#include <stdbool.h>

#define VALUE_SIZE (1 << 14) /* longest value of a word, and its end */

enum word {
    IMAGE,
    MOUNTS,
    WORKDIR,
    NAME,
    SAVE,
    HOME,
    ROOT,
    ENTRYPOINT,
    ENTRYPOINT_LOG,
    WRITABLE,
    ENV,
    UNSHARE,
    MATCH,
    PULL,
    PLATFORM,
    WORDS
};

struct wording {
    const char *variable; /* to the steps: `SLURM_` is what --export=NONE keeps */
    const char *carried;  /* to the prolog, and all that sbatch --export-file leaves; NULL: a
                             command of the job does not get the word of the job */
    bool is_list;         /* said again, it grows */
    const char *(*find_wrong)(const char *value); /* the part that is not `form`, or NULL */
    const char *form, *hint;
};

extern const struct wording words[WORDS];

/* A name that may travel: no longer than the grammar allows, and of its characters only. */
bool is_image_name(const char *name);

#endif
