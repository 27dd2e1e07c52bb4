/* What is known of the image's tree, from the top layer down: one node for each path that was met.
 */
#ifndef HPCIMG_TREE_H
#define HPCIMG_TREE_H

#include "archive.h"

#define NEVER INT32_MAX

/* What an earlier reading of the same layers found out, see notes.h. */
struct note {
    struct note *next;
    char kind;
    int layer;
    uint64_t ordinal;
    uint64_t more; /* D: whether below counts as well; K: the ordinal of the link */
    char *target;
};

/* A hard link whose target stands in a lower layer. */
struct pending {
    struct pending *next;
    struct node *link;
    int layer;
};

struct node {
    struct node *parent, *chain, *following;
    char *name;
    enum kind kind;               /* of the entry that counts; NOTHING while there is none */
    int layer;                    /* that has it; layers are counted from the top */
    int whiteout, opaque, hidden; /* topmost layer that says so; of `hidden` the latest one */
    uint64_t ordinal, hidden_ordinal;
    char *target;             /* a symbolic link's */
    struct node *same;        /* the file that a hard link is */
    struct node *hidden_same; /* the same of a hidden one */
    struct node *kept;        /* the name under which a hidden file's content was written */
    int below;                /* latest layer that has put something below */
    int kept_layer;
    bool is_kept;            /* written already, before the hard link that names it comes */
    struct pending *pending; /* links that wait for this file */
    struct pending **last_pending;
    struct node *waits_for; /* the file that this link waits for */
    unsigned int mode;
    int64_t mtime;
    struct buffer xattrs;
    struct note *notes;
};

struct tree {
    struct node root;
    struct node **table, **last;
    struct node *first;
    size_t count, room;
};

bool tree_open(struct tree *tree);

/* The node of a name in a directory, made when it is new; NULL without memory. */
struct node *tree_child(struct tree *tree, struct node *parent, const char *name, size_t size);

/* Write the node's path, without a slash before it; false when it is too long. */
bool tree_path(const struct node *node, char path[PATH_LENGTH + 1]);

/* Whether a layer from `first` on, and above `layer`, hides an entry of this kind in `layer`. */
bool tree_is_hidden(const struct node *node, int first, int layer, enum kind kind);

bool is_directory(enum kind kind);

/* The note of this kind for what stands in `layer` at this node, or NULL. */
struct note *tree_note(const struct node *node, char kind, int layer);

#endif
