/* One entry after the other, from the top layer down: written at once, dropped, or remembered. */
#define _GNU_SOURCE
#include "merge.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "writer.h"

#define FOLLOWED 40 /* symbolic links on the way to one entry, as the kernel has it */
#define WHITEOUT ".wh."
#define UNSAID   0775 /* mode of a directory that no layer names, as Apptainer makes it */

bool merge_fault(struct merge *merge, enum result result, const char *format, ...)
{
    va_list words;

    if (merge->result != DONE)
        return false;
    merge->result = result;
    va_start(words, format);
    (void)vsnprintf(merge->reason, sizeof(merge->reason), format, words);
    va_end(words);
    for (char *at = merge->reason; *at != '\0'; at++)
        if (!isprint((unsigned char)*at))
            *at = '?';
    return false;
}

static bool copy_stored(struct merge *merge, uint64_t size)
{
    const unsigned char *bytes = NULL;

    while (size > 0) {
        ssize_t count = stream_peek(merge->archive.stream, &bytes);
        if (count <= 0)
            return merge_fault(merge, CORRUPT, "%s", stream_fault(merge->archive.stream));
        if ((uint64_t)count > size)
            count = (ssize_t)size;
        if (!writer_content(bytes, (uint64_t)count))
            return merge_fault(merge, FAILED, "the result could not be written: %s",
                               strerror(errno));
        stream_take(merge->archive.stream, (size_t)count);
        merge->archive.left -= (uint64_t)count;
        size -= (uint64_t)count;
    }
    return true;
}

/* A sparse file is written whole: sqfstar finds the holes again. */
static bool copy_content(struct merge *merge, const struct member *member)
{
    uint64_t at = 0;

    if (!member->is_sparse)
        return copy_stored(merge, member->size);
    for (size_t i = 0; i < member->count; i++) {
        const struct span *span = &member->spans[i];
        if (!writer_content(NULL, span->offset - at))
            return false;
        if (!copy_stored(merge, span->size))
            return false;
        at = span->offset + span->size;
    }
    return writer_content(NULL, member->size - at);
}

bool merge_write(struct merge *merge, struct node *node)
{
    struct member *member = &merge->member;
    char path[PATH_LENGTH + 1];

    if (merge->is_scanning || member->kind == DEVICE)
        return true;
    if (!tree_path(node, path))
        return merge_fault(merge, CORRUPT, "it has a path that is too long");
    if (!writer_header(member, path, member->kind == SYMLINK ? member->link : NULL) ||
        (member->kind == REGULAR && (!copy_content(merge, member) || !writer_pad(member->size))))
        return merge_fault(merge, FAILED, "the result could not be written: %s", strerror(errno));
    return true;
}

/* Where a symbolic link on an entry's way leads in the current layer; NULL when it is none. */
static const char *leads_to(const struct merge *merge, const struct node *node)
{
    if (node->layer == merge->layer)
        return node->kind == SYMLINK ? node->target : NULL;
    for (const struct note *note = node->notes; note != NULL; note = note->next)
        if (note->kind == 'L' && note->layer > merge->layer)
            return note->target;
    return NULL;
}

/* Take "." and ".." out of a path by its text alone, as Apptainer's unpacker does. */
static void clean(char *path)
{
    char *to = path;

    for (char *at = path; *at != '\0';) {
        size_t size = strcspn(at, "/");
        char *next = at + size;
        next += *next == '/';
        if (size == 2 && at[0] == '.' && at[1] == '.') {
            while (to > path && *--to != '/')
                continue;
        } else if (size > 0 && !(size == 1 && at[0] == '.')) {
            if (to > path)
                *to++ = '/';
            memmove(to, at, size);
            to += size;
        }
        at = next;
    }
    *to = '\0';
}

struct node *merge_resolve(struct merge *merge, const char *path)
{
    char todo[2 * PATH_LENGTH + 2], *at = todo;
    struct node *node = &merge->tree.root, *child;
    int followed = 0;

    (void)snprintf(todo, sizeof(todo), "%s", path);
    clean(todo);
    while (*at != '\0') {
        size_t size = strcspn(at, "/");
        char *rest = at + size + strspn(at + size, "/");
        const char *target = NULL;
        if (size == 0 || (size == 1 && at[0] == '.')) {
            at = rest;
            continue;
        }
        if (size == 2 && at[0] == '.' && at[1] == '.') {
            node = node->parent != NULL ? node->parent : node;
            at = rest;
            continue;
        }
        if (size > 255) {
            (void)merge_fault(merge, CORRUPT, "it has a name that is too long");
            return NULL;
        }
        if ((child = tree_child(&merge->tree, node, at, size)) == NULL) {
            (void)merge_fault(merge, LIMITED, "memory");
            return NULL;
        }
        if (*rest == '\0' || (target = leads_to(merge, child)) == NULL) {
            node = child;
            at = rest;
            continue;
        }
        if (++followed > FOLLOWED || strlen(target) + strlen(rest) > 2 * PATH_LENGTH) {
            (void)merge_fault(merge, CORRUPT, "\"%s\" lies behind too many symbolic links", path);
            return NULL;
        }
        node = *target == '/' ? &merge->tree.root : node;
        memmove(todo + strlen(target) + 1, rest, strlen(rest) + 1);
        memcpy(todo, target, strlen(target));
        todo[strlen(target)] = '/';
        at = todo;
    }
    return node;
}

/* Directories on the way that no layer above has named exist now all the same. */
bool merge_imply(struct merge *merge, const struct node *node)
{
    char path[PATH_LENGTH + 1] = "";

    for (struct node *above = node->parent; above != NULL; above = above->parent)
        above->below = merge->layer;
    for (struct node *above = node->parent; !is_directory(above->kind); above = above->parent) {
        if (above->kind != NOTHING) {
            (void)tree_path(above, path);
            return merge_fault(merge, CORRUPT, "it has files in \"%s\", which is no directory",
                               path);
        }
        above->kind = IMPLIED;
        above->layer = merge->layer;
        above->mode = UNSAID;
    }
    return true;
}

/* A file that is hidden has made its directories all the same, but for those that are hidden too.
 */
static void imply_visible(const struct merge *merge, const struct node *node)
{
    for (struct node *above = node->parent; above != NULL; above = above->parent)
        if (above->kind == NOTHING && !tree_is_hidden(above, 0, merge->layer, DIRECTORY)) {
            above->kind = IMPLIED;
            above->layer = merge->layer;
            above->mode = UNSAID;
        }
}

/* Whether it is one, or there is no memory to tell of what. */
static bool take_whiteout(struct merge *merge, struct node *node)
{
    const char *name = node->name + strlen(WHITEOUT);
    int *place = &node->parent->opaque;

    if (strncmp(node->name, WHITEOUT, strlen(WHITEOUT)) != 0)
        return false;
    /* Names that go on like this are other file systems' bookkeeping, ".wh..opq" is ours. */
    if (strcmp(name, ".wh..opq") != 0) {
        struct node *other;
        if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) == 0 || *name == '\0' ||
            strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            return true;
        other = tree_child(&merge->tree, node->parent, name, strlen(name));
        if (other == NULL)
            return !merge_fault(merge, LIMITED, "memory");
        place = &other->whiteout;
    }
    if (merge->layer < *place)
        *place = merge->layer;
    return true;
}

bool merge_is_replaced(const struct merge *merge, const struct node *node, uint64_t ordinal)
{
    for (const struct node *at = node; at != NULL; at = at->parent)
        for (const struct note *note = at->notes; note != NULL; note = note->next)
            if (note->kind == 'D' && note->layer == merge->layer && note->ordinal > ordinal &&
                (at == node || note->more != 0))
                return true;
    return false;
}

static bool take_directory(struct merge *merge, struct node *node)
{
    struct member *member = &merge->member;
    bool is_same_layer = node->layer == merge->layer;

    if (node->parent == NULL || (node->kind == DIRECTORY && !is_same_layer))
        return true;
    if (is_same_layer && !is_directory(node->kind) &&
        !notes_add(merge, 'D', node, merge->ordinal, false, ""))
        return false;
    node->kind = DIRECTORY;
    node->layer = merge->layer;
    node->ordinal = merge->ordinal;
    node->mode = member->mode;
    node->mtime = member->mtime;
    free(node->xattrs.bytes);
    node->xattrs = member->xattrs;
    member->xattrs = (struct buffer){0};
    return merge_imply(merge, node);
}

static bool take_file(struct merge *merge, struct node *node)
{
    struct member *member = &merge->member;
    struct node *target;

    if (node->layer == merge->layer) {
        if (node->is_kept && member->kind == HARDLINK)
            return merge_release(merge, node);
        if (!notes_add(merge, 'D', node, merge->ordinal, is_directory(node->kind), ""))
            return false;
    }
    node->kind = member->kind;
    node->layer = merge->layer;
    node->ordinal = merge->ordinal;
    node->same = node->waits_for = NULL;
    if (!merge_imply(merge, node))
        return false;
    if (member->kind == HARDLINK)
        return (target = merge_resolve(merge, member->link)) != NULL &&
               merge_link(merge, node, target, merge->layer) && merge_release(merge, node);
    free(node->target);
    node->target = member->kind == SYMLINK ? strdup(member->link) : NULL;
    if (member->kind == SYMLINK && node->target == NULL)
        return merge_fault(merge, LIMITED, "memory");
    return merge_write(merge, node) && merge_release(merge, node);
}

/* An entry that does not count itself: a file has hidden all the same what was below its name. */
static bool pass_over(struct merge *merge, struct node *node)
{
    if (merge->member.kind == DIRECTORY)
        return true;
    if (node->opaque > merge->layer)
        node->opaque = merge->layer;
    if (node->below == merge->layer && !notes_add(merge, 'D', node, merge->ordinal, true, ""))
        return false;
    return merge_hidden(merge, node);
}

bool merge_entry(struct merge *merge)
{
    struct member *member = &merge->member;
    struct node *node = merge_resolve(merge, member->path);

    merge->ordinal++;
    if (node == NULL)
        return false;
    if (node->parent == NULL || take_whiteout(merge, node))
        return merge->result == DONE;
    /* An upper layer put files into a directory it did not name: here that is a link elsewhere. */
    if (member->kind == SYMLINK && node->kind == IMPLIED && node->layer < merge->layer &&
        tree_note(node, 'L', merge->layer) == NULL &&
        !tree_is_hidden(node, 0, merge->layer, DIRECTORY))
        return notes_add(merge, 'L', node, merge->ordinal, false, member->link);
    if (merge_is_replaced(merge, node, merge->ordinal))
        return pass_over(merge, node);
    if (tree_is_hidden(node, 0, merge->layer, member->kind)) {
        imply_visible(merge, node);
        return pass_over(merge, node);
    }
    return member->kind == DIRECTORY ? take_directory(merge, node) : take_file(merge, node);
}

bool merge_end(struct merge *merge)
{
    struct member *member = &merge->member;
    char path[PATH_LENGTH + 1];

    if (!merge->is_scanning && !merge_late_links(merge))
        return false;
    for (struct node *node = merge->tree.first; node != NULL && !merge->is_scanning;
         node = node->following) {
        if (!is_directory(node->kind))
            continue;
        member->kind = DIRECTORY;
        member->mode = node->mode;
        member->mtime = node->mtime;
        member->xattrs = node->xattrs;
        if (!tree_path(node, path) || !writer_header(member, path, NULL))
            return merge_fault(merge, FAILED, "the result could not be written: %s",
                               strerror(errno));
    }
    if (fflush(merge->notes) != 0)
        return merge_fault(merge, FAILED, "the notes could not be written");
    if (merge->is_scanning)
        merge->result = AGAIN;
    return merge->is_scanning || writer_end() ||
           merge_fault(merge, FAILED, "the result could not be written: %s", strerror(errno));
}
