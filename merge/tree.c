/* Nodes are found by parent and name in one table; their memory is kept until the end. */
#define _GNU_SOURCE
#include "tree.h"

#include <stdlib.h>
#include <string.h>

bool tree_open(struct tree *tree)
{
    tree->room = 1 << 16;
    tree->table = calloc(tree->room, sizeof(*tree->table));
    tree->root = (struct node){.kind = DIRECTORY, .layer = NEVER, .whiteout = NEVER};
    tree->root.opaque = tree->root.hidden = NEVER;
    tree->last = &tree->first;
    return tree->table != NULL;
}

static size_t hash(const struct node *parent, const char *name, size_t size)
{
    uint64_t value = 14695981039346656037ULL ^ (uintptr_t)parent;

    for (size_t i = 0; i < size; i++)
        value = (value ^ (unsigned char)name[i]) * 1099511628211ULL;
    return (size_t)(value ^ (value >> 29));
}

static void grow(struct tree *tree)
{
    size_t room = 2 * tree->room;
    struct node **table = calloc(room, sizeof(*table));

    if (table == NULL) /* longer chains do as well */
        return;
    for (struct node *node = tree->first; node != NULL; node = node->following) {
        size_t place = hash(node->parent, node->name, strlen(node->name)) & (room - 1);
        node->chain = table[place];
        table[place] = node;
    }
    free(tree->table);
    tree->table = table;
    tree->room = room;
}

struct node *tree_child(struct tree *tree, struct node *parent, const char *name, size_t size)
{
    size_t place = hash(parent, name, size) & (tree->room - 1);
    struct node *node;

    for (node = tree->table[place]; node != NULL; node = node->chain)
        if (node->parent == parent && strncmp(node->name, name, size) == 0 &&
            node->name[size] == '\0')
            return node;
    if ((node = calloc(1, sizeof(*node))) == NULL || (node->name = strndup(name, size)) == NULL) {
        free(node);
        return NULL;
    }
    node->parent = parent;
    node->layer = node->whiteout = node->opaque = node->hidden = node->below = NEVER;
    node->chain = tree->table[place];
    tree->table[place] = node;
    *tree->last = node;
    tree->last = &node->following;
    if (++tree->count > tree->room)
        grow(tree);
    return node;
}

bool tree_path(const struct node *node, char path[PATH_LENGTH + 1])
{
    size_t at = PATH_LENGTH;

    path[at] = '\0';
    for (; node->parent != NULL; node = node->parent) {
        size_t size = strlen(node->name);
        if (size + 1 > at)
            return false;
        at -= size;
        memcpy(path + at, node->name, size);
        path[--at] = '/';
    }
    if (path[at] == '/')
        at++;
    memmove(path, path + at, PATH_LENGTH + 1 - at);
    return true;
}

bool is_directory(enum kind kind)
{
    return kind == DIRECTORY || kind == IMPLIED;
}

static bool is_within(int layer, int first, int end)
{
    return layer >= first && layer < end;
}

bool tree_is_hidden(const struct node *node, int first, int layer, enum kind kind)
{
    if (is_within(node->whiteout, first, layer))
        return true;
    if (is_within(node->layer, first, layer) && !(is_directory(node->kind) && is_directory(kind)))
        return true;
    for (node = node->parent; node != NULL; node = node->parent) {
        if (is_within(node->whiteout, first, layer) || is_within(node->opaque, first, layer))
            return true;
        if (is_within(node->layer, first, layer) && !is_directory(node->kind))
            return true;
    }
    return false;
}

struct note *tree_note(const struct node *node, char kind, int layer)
{
    struct note *note = node->notes;

    while (note != NULL && (note->kind != kind || note->layer != layer))
        note = note->next;
    return note;
}
