/* The image file of a store's entry, as root looks at it before the kernel reads it: whose it is,
 * and where its file system lies. Nothing else of it is parsed. */
#ifndef HPCIMG_SIF_H
#define HPCIMG_SIF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WHY_SIZE 256

struct squashfs {
    uint64_t offset, size; /* in the file, bytes */
};

/* Open the file at `path`, way by way without following a link. It and all directories on its way
 * must be root's or `account`'s, and nobody else may write them. -1, and the reason in `why`. */
int open_image(const char *path, uid_t account, char why[WHY_SIZE]);

/* Find the primary file system of the SIF, and see that its head makes sense. */
bool find_squashfs(int fd, struct squashfs *found, char why[WHY_SIZE]);

#endif
