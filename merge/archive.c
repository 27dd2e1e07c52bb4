/* Headers as POSIX ustar has them, with GNU's long names, base-256 numbers and sparse maps. */
#define _GNU_SOURCE
#include "archive.h"

#include <stdlib.h>
#include <string.h>

#include "pax.h"

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
    char link[100], magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155];
    char rest[12];
};

/* GNU's old sparse header uses the prefix's place: 4 pairs at 386, then two fields. */
#define SPARSE_AT    386
#define SPARSE_COUNT 4
#define MORE_COUNT   21 /* pairs of an extension block; its flag follows them */

bool archive_fault(struct archive *archive, const char *fault)
{
    if (archive->fault == NULL)
        archive->fault = fault;
    return false;
}

bool buffer_add(struct buffer *buffer, const void *bytes, size_t size)
{
    if (buffer->size + size > buffer->room) {
        size_t room = 2 * (buffer->size + size);
        char *more = realloc(buffer->bytes, room);
        if (more == NULL)
            return false;
        buffer->bytes = more;
        buffer->room = room;
    }
    memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
    return true;
}

bool member_add_span(struct member *member, uint64_t offset, uint64_t size)
{
    struct span *more;

    if (member->count == MAP_SIZE)
        return false;
    /* Room grows by doubling: at each power of two it is full. */
    if ((member->count & (member->count + 1)) == 0 || member->spans == NULL) {
        more = realloc(member->spans, 2 * (member->count + 1) * sizeof(*more));
        if (more == NULL)
            return false;
        member->spans = more;
    }
    member->spans[member->count++] = (struct span){offset, size};
    return true;
}

bool archive_read(struct archive *archive, void *bytes, size_t size)
{
    ssize_t count = stream_read(archive->stream, bytes, size);

    if (count != (ssize_t)size)
        return archive_fault(archive,
                             count < 0 ? stream_fault(archive->stream) : "it ends in the middle");
    archive->left -= size;
    return true;
}

bool archive_skip(struct archive *archive)
{
    const unsigned char *bytes = NULL;

    while (archive->left > 0) {
        ssize_t count = stream_peek(archive->stream, &bytes);
        if (count <= 0)
            return archive_fault(archive, stream_fault(archive->stream));
        if ((uint64_t)count > archive->left)
            count = (ssize_t)archive->left;
        stream_take(archive->stream, (size_t)count);
        archive->left -= (uint64_t)count;
    }
    return true;
}

/* Octal text, or base 256 when the first bit is set; negative times are real. */
static bool number(const char *field, size_t size, int64_t *value)
{
    size_t at = 0;
    uint64_t found = 0;

    if ((field[0] & 0x80) != 0) {
        found = (field[0] & 0x40) != 0 ? UINT64_MAX : 0;
        for (at = 0; at < size; at++) {
            unsigned char byte = (unsigned char)field[at];
            if (at == 0)
                byte = (field[0] & 0x40) != 0 ? byte : (unsigned char)(byte & 0x7f);
            if (size - at > 8 && byte != (unsigned char)(found & 0xff))
                return false;
            found = (found << 8) | byte;
        }
        *value = (int64_t)found;
        return true;
    }
    while (at < size && (field[at] == ' ' || field[at] == '\0'))
        at++;
    for (; at < size && field[at] >= '0' && field[at] <= '7'; at++)
        found = (found << 3) | (uint64_t)(field[at] - '0');
    *value = (int64_t)found;
    return at == size || field[at] == ' ' || field[at] == '\0';
}

static bool is_checksum_right(const struct header *header)
{
    const unsigned char *bytes = (const unsigned char *)header;
    int64_t stated = 0, sum = 0, signed_sum = 0;

    for (size_t i = 0; i < TAR_BLOCK; i++) {
        bool is_field = i >= offsetof(struct header, checksum) && i < offsetof(struct header, type);
        sum += is_field ? ' ' : bytes[i];
        signed_sum += is_field ? ' ' : (signed char)bytes[i];
    }
    return number(header->checksum, sizeof(header->checksum), &stated) &&
           (stated == sum || stated == signed_sum);
}

static bool is_zero(const void *block)
{
    static const char zeros[TAR_BLOCK];

    return memcmp(block, zeros, TAR_BLOCK) == 0;
}

/* Read the next header; 1, 0 at the end of the archive, -1. */
static int read_header(struct archive *archive, struct header *header)
{
    ssize_t count;

    for (int zeros = 0; zeros < 2; zeros++) {
        archive->left = 0;
        count = stream_read(archive->stream, header, sizeof(*header));
        if (count == 0)
            return 0;
        if (count != TAR_BLOCK) {
            (void)archive_fault(archive, stream_fault(archive->stream));
            return -1;
        }
        if (!is_zero(header)) {
            if (is_checksum_right(header))
                return 1;
            (void)archive_fault(archive, "it is no tar archive, or a damaged one");
            return -1;
        }
    }
    return 0;
}

/* Read the content of a record-like member (long name, PAX) into new memory with a NUL behind. */
static char *read_records(struct archive *archive, const struct header *header, size_t *size)
{
    int64_t stated = 0;
    char *bytes;

    if (!number(header->size, sizeof(header->size), &stated) || stated < 0 || stated > LONGEST) {
        (void)archive_fault(archive, "it has a record that is too long");
        return NULL;
    }
    *size = (size_t)stated;
    archive->left = (*size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    if ((bytes = calloc(1, *size + 1)) == NULL)
        (void)archive_fault(archive, NO_MEMORY);
    else if (archive_read(archive, bytes, *size) && archive_skip(archive))
        return bytes;
    free(bytes);
    return NULL;
}

static bool add_pairs(struct archive *archive, struct member *member, const char *at, int count)
{
    int64_t offset = 0, size = 0;

    for (int i = 0; i < count && at[0] != '\0'; i++, at += 24) {
        if (!number(at, 12, &offset) || !number(at + 12, 12, &size) || offset < 0 || size < 0 ||
            !member_add_span(member, (uint64_t)offset, (uint64_t)size))
            return archive_fault(archive, "it has a bad sparse map");
    }
    return true;
}

static bool read_gnu_sparse(struct archive *archive, const char *block, struct member *member)
{
    char more[TAR_BLOCK];
    int64_t real = 0;
    bool goes_on = block[SPARSE_AT + 24 * SPARSE_COUNT] != '\0';
    uint64_t left = archive->left;
    int blocks = 0;

    if (!add_pairs(archive, member, block + SPARSE_AT, SPARSE_COUNT) ||
        !number(block + SPARSE_AT + 24 * SPARSE_COUNT + 1, 12, &real) || real < 0)
        return archive_fault(archive, "it has a bad sparse map");
    member->size = (uint64_t)real;
    member->is_sparse = true;
    while (goes_on) {
        if (!archive_read(archive, more, sizeof(more)) ||
            !add_pairs(archive, member, more, MORE_COUNT) || ++blocks > MAP_SIZE / MORE_COUNT)
            return archive_fault(archive, "it has a bad sparse map");
        goes_on = more[24 * MORE_COUNT] != '\0';
    }
    archive->left = left; /* the extension blocks stand before what the size counts */
    return true;
}

static bool copy_text(struct archive *archive, char *target, const char *text, size_t size)
{
    size_t length = strnlen(text, size);

    if (length > PATH_LENGTH)
        return archive_fault(archive, "it has a path that is too long");
    memcpy(target, text, length);
    target[length] = '\0';
    return true;
}

static enum kind kind_of(char type, const char *path)
{
    size_t length = strlen(path);

    switch (type) {
    case '0':
    case '\0':
    case '7':
    case 'S':
        /* Before POSIX a directory was a file whose name ends so. */
        return length > 0 && path[length - 1] == '/' && type != 'S' ? DIRECTORY : REGULAR;
    case '1': return HARDLINK;
    case '2': return SYMLINK;
    case '3':
    case '4': return DEVICE;
    case '5': return DIRECTORY;
    case '6': return FIFO;
    default: return NOTHING;
    }
}

/* Check that the spans are in order, within the file, and as long as what is stored. */
static bool is_map_sound(const struct member *member)
{
    uint64_t end = 0, total = 0;

    for (size_t i = 0; i < member->count; i++) {
        const struct span *span = &member->spans[i];
        if (span->offset < end || span->size > member->size ||
            span->offset > member->size - span->size)
            return false;
        end = span->offset + span->size;
        total += span->size;
    }
    return total == member->stored;
}

static bool set_names(struct archive *archive, const struct header *header, const struct pax *pax,
                      struct member *member)
{
    char name[256 + 2];
    const char *path = pax->sparse_name != NULL ? pax->sparse_name : pax->path;
    size_t size = 0;
    bool has_prefix = memcmp(header->magic, "ustar", 6) == 0 && header->prefix[0] != '\0';

    if (path == NULL) {
        if (has_prefix) {
            size = strnlen(header->prefix, sizeof(header->prefix));
            memcpy(name, header->prefix, size);
            name[size++] = '/';
        }
        memcpy(name + size, header->name, sizeof(header->name));
        size += strnlen(header->name, sizeof(header->name));
        name[size] = '\0';
    }
    if (!copy_text(archive, member->path, path != NULL ? path : name, path ? strlen(path) : size))
        return false;
    if (pax->link != NULL)
        return copy_text(archive, member->link, pax->link, strlen(pax->link));
    return copy_text(archive, member->link, header->link, sizeof(header->link));
}

static bool finish(struct archive *archive, const struct header *header, const struct pax *pax,
                   struct member *member)
{
    int64_t mode = 0, size = 0;

    if (!set_names(archive, header, pax, member))
        return false;
    if (!number(header->mode, sizeof(header->mode), &mode) ||
        !number(header->mtime, sizeof(header->mtime), &member->mtime) ||
        !number(header->size, sizeof(header->size), &size) || size < 0)
        return archive_fault(archive, "it has a header with a bad number");
    member->mode = (unsigned int)(mode & 07777);
    if (pax->has_mtime)
        member->mtime = pax->mtime;
    member->kind = kind_of(header->type, member->path);
    if (member->kind == NOTHING)
        return archive_fault(archive, "it has a member of an unknown type");
    if (member->kind != REGULAR)
        return true; /* whatever its size says, nothing follows */
    member->stored = member->size = pax->has_size ? pax->size : (uint64_t)size;
    archive->left = (member->stored + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    if (header->type == 'S' && !read_gnu_sparse(archive, (const char *)header, member))
        return false;
    if (pax->has_map || pax->major == 1) {
        member->is_sparse = true;
        if (pax->major == 1 && !pax_read_map(archive, member))
            return false;
        if (!pax->has_real_size)
            return archive_fault(archive, "it has a bad sparse map");
        member->size = pax->real_size;
    }
    if (member->is_sparse && !is_map_sound(member))
        return archive_fault(archive, "it has a bad sparse map");
    return true;
}

/* Read headers up to the one of a member, taking in those that only describe it. */
static int next(struct archive *archive, struct member *member, struct pax *pax)
{
    struct header header;
    size_t size = 0;
    char *records;
    int found, headers = 0;

    while ((found = read_header(archive, &header)) == 1) {
        if (++headers > DESCRIBING) {
            (void)archive_fault(archive, "it has too many headers for one member");
            return -1;
        }
        if (header.type == 'x' || header.type == 'X' || header.type == 'g') {
            if ((records = read_records(archive, &header, &size)) == NULL)
                return -1;
            /* Nothing that a global header may say is the content's. */
            found = header.type == 'g' || pax_parse(archive, pax, member, records, size) ? 1 : -1;
            free(records);
            if (found < 0)
                return -1;
        } else if (header.type == 'L' || header.type == 'K') {
            if ((records = read_records(archive, &header, &size)) == NULL)
                return -1;
            free(header.type == 'L' ? pax->path : pax->link);
            *(header.type == 'L' ? &pax->path : &pax->link) = records;
        } else {
            return finish(archive, &header, pax, member) ? 1 : -1;
        }
    }
    return found;
}

int archive_next(struct archive *archive, struct member *member)
{
    struct pax pax = {0};
    int found;

    free(member->spans);
    free(member->xattrs.bytes);
    *member = (struct member){0};
    if (!archive_skip(archive))
        return -1;
    found = next(archive, member, &pax);
    pax_free(&pax);
    return found;
}
