/* What a stream tells too late. The layers are read once more, by a run that knows it before.

D  in this layer an entry takes the place of those that came before it, at or below a path
L  this layer has a symbolic link where an upper one has files in a directory it did not name
K  the content of this hidden file is to be written under another name, a hard link of it */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "merge.h"

static struct node *node_at(struct tree *tree, const char *path)
{
    struct node *node = &tree->root;

    while (node != NULL && *path != '\0') {
        size_t size = strcspn(path, "/");
        node = tree_child(tree, node, path, size);
        path += size;
        path += *path == '/';
    }
    return node;
}

static bool keep(struct tree *tree, const char *head, const char *path, const char *target)
{
    struct node *node = node_at(tree, path);
    struct note *note = calloc(1, sizeof(*note));
    unsigned long long ordinal = 0, more = 0;

    if (node == NULL || note == NULL || (note->target = strdup(target)) == NULL ||
        sscanf(head, "%c %d %llu %llu", &note->kind, &note->layer, &ordinal, &more) != 4) {
        free(note);
        return false;
    }
    note->ordinal = ordinal;
    note->more = more;
    /* The latest first: of several entries at one path the last one counts. */
    note->next = node->notes;
    node->notes = note;
    return true;
}

bool notes_read(struct merge *merge, int fd)
{
    struct stat about;
    char *text = NULL, *at, *end, *words[3];
    bool done = false;

    if ((merge->notes = fdopen(fd, "a")) == NULL || fstat(fd, &about) < 0 ||
        (text = calloc(1, (size_t)about.st_size + 1)) == NULL ||
        pread(fd, text, (size_t)about.st_size, 0) != about.st_size)
        goto out;
    for (at = text, end = text + about.st_size; at < end;) {
        for (int i = 0; i < 3; i++, at += strlen(at) + 1) {
            if (at >= end)
                goto out;
            words[i] = at;
        }
        if (!keep(&merge->tree, words[0], words[1], words[2]))
            goto out;
    }
    done = true;
out:
    free(text);
    return done || merge_fault(merge, FAILED, "the notes of an earlier run could not be read");
}

bool notes_add(struct merge *merge, char kind, struct node *node, uint64_t ordinal, uint64_t more,
               const char *target)
{
    char path[PATH_LENGTH + 1];

    merge->is_scanning = true;
    if (!tree_path(node, path) ||
        fprintf(merge->notes, "%c %d %llu %llu%c%s%c%s%c", kind, merge->layer,
                (unsigned long long)ordinal, (unsigned long long)more, 0, path, 0, target, 0) < 0)
        return merge_fault(merge, FAILED, "a note for the next run could not be written");
    return true;
}
