/* Reads the members of one layer's tar archive: ustar, GNU and PAX, sparse files included. */
#ifndef HPCIMG_ARCHIVE_H
#define HPCIMG_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream.h"

#define TAR_BLOCK   512
#define LONGEST     (1 << 20) /* bytes of one member's PAX or GNU long name records */
#define PATH_LENGTH 4095
#define MAP_SIZE    (1 << 20) /* spans of a sparse file */
#define DESCRIBING  100       /* headers that only describe the next member */
#define NO_MEMORY   "there is no memory"

enum kind { NOTHING, IMPLIED, DIRECTORY, SYMLINK, REGULAR, FIFO, DEVICE, HARDLINK };

struct span {
    uint64_t offset, size;
};

struct buffer {
    char *bytes;
    size_t size, room;
};

struct member {
    enum kind kind;
    char path[PATH_LENGTH + 1], link[PATH_LENGTH + 1];
    unsigned int mode;
    int64_t mtime;
    uint64_t size;   /* of the file, holes included */
    uint64_t stored; /* bytes of it that follow in the archive */
    bool is_sparse;
    struct span *spans; /* where the stored bytes belong */
    size_t count;
    struct buffer xattrs; /* PAX records of the attributes that are kept */
};

struct archive {
    struct stream *stream;
    uint64_t left; /* bytes of the current member, padding included, that were not read yet */
    const char *fault;
};

/* Go to the next member; 1, 0 at the end, -1 with a fault. Frees what the last one held. */
int archive_next(struct archive *archive, struct member *member);

/* Read stored bytes of the current member; false with a fault. */
bool archive_read(struct archive *archive, void *bytes, size_t size);

/* Pass over the rest of the current member; false with a fault. */
bool archive_skip(struct archive *archive);

/* Keep a fault, the first one; false, for its caller to return. */
bool archive_fault(struct archive *archive, const char *fault);

/* Add bytes; false without memory. */
bool buffer_add(struct buffer *buffer, const void *bytes, size_t size);

/* Add a span; false without memory, or with too many of them. */
bool member_add_span(struct member *member, uint64_t offset, uint64_t size);

#endif
