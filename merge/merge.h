/* The state of one merge, and the rules by which entries of layers become entries of the image. */
#ifndef HPCIMG_MERGE_H
#define HPCIMG_MERGE_H

#include <stdio.h>

#include "tree.h"

enum result { DONE = 0, CORRUPT = 65, FAILED = 70, LIMITED = 73, AGAIN = 75 };

struct merge {
    struct tree tree;
    struct archive archive;
    struct member member;
    int layer;
    uint64_t ordinal; /* of the entry within its layer, from 1 */
    bool is_scanning; /* nothing is written any more: the layers have to be read again */
    FILE *notes;
    uint64_t entries, bytes; /* so far, in all layers */
    char reason[2 * PATH_LENGTH];
    enum result result;
};

/* Take in the current member of the current layer; false with a result and a reason. */
bool merge_entry(struct merge *merge);

/* Write what could only be known at the end: late hard links, then all directories. */
bool merge_end(struct merge *merge);

/* Keep why the merge cannot go on; false, for its caller to return. */
bool merge_fault(struct merge *merge, enum result result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Write the current member, content included, under a node's path. */
bool merge_write(struct merge *merge, struct node *node);

/* Find the node that a path of the current layer leads to; NULL with a reason. */
struct node *merge_resolve(struct merge *merge, const char *path);

/* Let `link` be the file that `target` is in `layer`, now or when a lower layer shows it. */
bool merge_link(struct merge *merge, struct node *link, struct node *target, int layer);

/* Make the directories on the way to a node, where nothing has named them; false with a reason. */
bool merge_imply(struct merge *merge, const struct node *node);

/* Whether an entry of this ordinal is replaced by a later one of its layer, as a note has it. */
bool merge_is_replaced(const struct merge *merge, const struct node *node, uint64_t ordinal);

/* Hidden by a layer above: its content may still be wanted, by hard links that are not. */
bool merge_hidden(struct merge *merge, struct node *node);

/* The file at this node was written: so are the hard links that waited for it. */
bool merge_release(struct merge *merge, struct node *node);

bool merge_late_links(struct merge *merge);

/* Read what an earlier run noted. */
bool notes_read(struct merge *merge, int fd);

/* Note something that an entry before should have known; the layers will be read again. */
bool notes_add(struct merge *merge, char kind, struct node *node, uint64_t ordinal, uint64_t more,
               const char *target);

#endif
