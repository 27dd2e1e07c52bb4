/* Hard links: to files of the same layer, of lower ones, and to files that an upper one hides. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "merge.h"
#include "writer.h"

static bool write_link(struct merge *merge, struct node *link, struct node *target)
{
    struct member member = {.kind = HARDLINK, .mode = 0644};
    char path[PATH_LENGTH + 1], to[PATH_LENGTH + 1];

    if (target->same != NULL)
        target = target->same;
    link->same = target;
    link->waits_for = NULL;
    if (merge->is_scanning || target->kind == DEVICE) {
        if (target->kind == DEVICE)
            link->kind = DEVICE;
        return true;
    }
    if (!tree_path(link, path) || !tree_path(target, to))
        return merge_fault(merge, CORRUPT, "it has a path that is too long");
    if (!writer_header(&member, path, to))
        return merge_fault(merge, FAILED, "the result could not be written: %s", strerror(errno));
    return true;
}

static bool wait_for(struct merge *merge, struct node *link, struct node *target, int layer)
{
    struct pending *pending = calloc(1, sizeof(*pending));

    if (pending == NULL)
        return merge_fault(merge, LIMITED, "memory");
    *pending = (struct pending){NULL, link, layer};
    if (target->pending == NULL)
        target->last_pending = &target->pending;
    *target->last_pending = pending;
    target->last_pending = &pending->next;
    link->waits_for = target;
    return true;
}

bool merge_link(struct merge *merge, struct node *link, struct node *target, int layer)
{
    char path[PATH_LENGTH + 1] = "";

    while (target->hidden == layer && target->hidden_same != NULL)
        target = target->hidden_same;
    if (target != link && target->layer == layer && !is_directory(target->kind))
        return target->waits_for != NULL ? wait_for(merge, link, target->waits_for, layer)
                                         : write_link(merge, link, target);
    if (target->hidden != layer && target->layer == layer && target->kind == DIRECTORY) {
        (void)tree_path(link, path);
        return merge_fault(merge, CORRUPT, "the hard link \"%s\" leads to a directory", path);
    }
    if (target->hidden != layer)
        return wait_for(merge, link, target, layer);
    if (target->kept != NULL && target->kept_layer == layer)
        return target->kept == link || write_link(merge, link, target->kept);
    if (!tree_path(link, path))
        return merge_fault(merge, CORRUPT, "it has a path that is too long");
    return notes_add(merge, 'K', target, target->hidden_ordinal, link->ordinal, path);
}

/* Take the links that may have this file: not those above a layer that hides it from them. */
static struct pending *take_pending(struct node *node, int layer)
{
    struct pending *taken = NULL, **end = &taken, **place = &node->pending;

    while (*place != NULL) {
        struct pending *one = *place;
        if (one->layer >= layer || tree_is_hidden(node, one->layer + 1, layer, REGULAR)) {
            place = &one->next;
            continue;
        }
        *place = one->next;
        one->next = NULL;
        *end = one;
        end = &one->next;
    }
    node->last_pending = place;
    return taken;
}

static bool link_all(struct merge *merge, struct pending *pending, struct node *target)
{
    bool done = true;

    for (struct pending *next; pending != NULL; pending = next) {
        next = pending->next;
        pending->link->waits_for = NULL;
        done = done && merge_link(merge, pending->link, target, merge->layer);
        free(pending);
    }
    return done;
}

bool merge_release(struct merge *merge, struct node *node)
{
    return link_all(merge, take_pending(node, merge->layer), node);
}

/* Write the member under the name of a hard link of it, since its own name does not count. */
static bool write_as(struct merge *merge, struct node *node, struct node *name)
{
    node->kept = name;
    node->kept_layer = merge->layer;
    name->waits_for = NULL;
    name->kind = merge->member.kind;
    return merge_write(merge, name);
}

bool merge_hidden(struct merge *merge, struct node *node)
{
    bool is_replaced = merge_is_replaced(merge, node, merge->ordinal), done;
    /* Links of upper layers are to the last file of this name in the layer. */
    struct pending *pending = is_replaced ? NULL : take_pending(node, merge->layer);
    struct note *note = tree_note(node, 'K', merge->layer);
    struct node *name = NULL;

    if (node->hidden == merge->layer && node->kept != NULL && node->kept_layer == merge->layer &&
        !merge_is_replaced(merge, node, merge->ordinal - 1) &&
        !notes_add(merge, 'D', node, merge->ordinal, false, ""))
        return false;
    node->hidden = merge->layer;
    node->hidden_ordinal = merge->ordinal;
    node->hidden_same = NULL;
    if (merge->member.kind == HARDLINK) {
        struct node *target = merge_resolve(merge, merge->member.link);
        if (target == NULL)
            return false;
        while (target->hidden == merge->layer && target->hidden_same != NULL)
            target = target->hidden_same;
        if (target != node) /* or whoever follows these links would go round for ever */
            node->hidden_same = target;
        return link_all(merge, pending, target);
    }
    while (note != NULL && (note->kind != 'K' || note->ordinal != merge->ordinal))
        note = note->next;
    if (pending != NULL) {
        struct pending *rest = pending->next;
        done = write_as(merge, node, pending->link);
        free(pending);
        return done && link_all(merge, rest, node);
    }
    if (note == NULL)
        return true;
    if ((name = merge_resolve(merge, note->target)) == NULL)
        return false;
    if (merge_is_replaced(merge, name, note->more))
        return true;
    if (name->layer > merge->layer) {
        name->layer = merge->layer;
        name->is_kept = true;
        if (!merge_imply(merge, name))
            return false;
    }
    return write_as(merge, node, name);
}

bool merge_late_links(struct merge *merge)
{
    char path[PATH_LENGTH + 1] = "";

    for (struct node *node = merge->tree.first; node != NULL; node = node->following) {
        for (struct pending *one = node->pending; one != NULL; one = one->next) {
            bool is_late = node->layer == one->layer && node->waits_for == NULL &&
                           node != one->link && !is_directory(node->kind);
            if (!is_late) {
                (void)tree_path(one->link, path);
                return merge_fault(merge, CORRUPT, "the hard link \"%s\" leads nowhere", path);
            }
            if (!write_link(merge, one->link, node))
                return false;
        }
    }
    return true;
}
