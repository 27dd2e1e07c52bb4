/* Small pieces are gathered, large ones written as they are. */
#define _GNU_SOURCE
#include "writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GATHERED (128 << 10)
#define LARGE    (32 << 10)

static char gathered[GATHERED];
static size_t filled;

static bool write_all(const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t count = write(STDOUT_FILENO, bytes, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        bytes += count;
        size -= (size_t)count;
    }
    return true;
}

static bool flush(void)
{
    size_t size = filled;

    filled = 0;
    return write_all(gathered, size);
}

static bool put(const void *bytes, size_t size)
{
    if (filled + size > GATHERED && !flush())
        return false;
    if (size >= LARGE)
        return flush() && write_all(bytes, size);
    memcpy(gathered + filled, bytes, size);
    filled += size;
    return true;
}

bool writer_content(const void *bytes, uint64_t size)
{
    static const char zeros[64 << 10];

    while (bytes == NULL && size > sizeof(zeros)) {
        if (!put(zeros, sizeof(zeros)))
            return false;
        size -= sizeof(zeros);
    }
    return put(bytes != NULL ? bytes : zeros, (size_t)size);
}

bool writer_pad(uint64_t size)
{
    return writer_content(NULL, (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

/* Octal where it fits, else base 256 with the first bit set. */
static void put_number(char *field, size_t size, int64_t value)
{
    if (value >= 0 && value < (int64_t)1 << (3 * (size - 1) < 62 ? 3 * (size - 1) : 62)) {
        (void)snprintf(field, size, "%0*llo", (int)size - 1, (unsigned long long)value);
        return;
    }
    for (size_t i = size; i-- > 0; value >>= 8)
        field[i] = (char)(value & 0xff);
    field[0] = (char)(value < 0 ? 0xff : 0x80);
}

static bool put_header(char type, const char *path, const char *link, const struct member *member,
                       uint64_t size)
{
    char block[TAR_BLOCK] = "";
    unsigned int sum = 0;

    (void)strncpy(block, path, 100);
    put_number(block + 100, 8, member->mode);
    put_number(block + 108, 8, 0);
    put_number(block + 116, 8, 0);
    put_number(block + 124, 12, (int64_t)size);
    put_number(block + 136, 12, member->mtime);
    block[156] = type;
    if (link != NULL)
        (void)strncpy(block + 157, link, 100);
    memcpy(block + 257,
           "ustar\0"
           "00",
           8);
    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += (unsigned char)block[i];
    (void)snprintf(block + 148, 8, "%06o", sum);
    return put(block, sizeof(block));
}

/* "LENGTH KEY=VALUE\n", where the length counts its own digits. */
static bool add_record(struct buffer *records, const char *key, const char *value)
{
    size_t rest = strlen(key) + strlen(value) + 3, length = rest + 1;
    char text[24];
    int digits;

    while ((digits = snprintf(text, sizeof(text), "%zu", length)) > 0 &&
           (size_t)digits + rest != length)
        length = (size_t)digits + rest;
    return buffer_add(records, text, (size_t)digits) && buffer_add(records, " ", 1) &&
           buffer_add(records, key, strlen(key)) && buffer_add(records, "=", 1) &&
           buffer_add(records, value, strlen(value)) && buffer_add(records, "\n", 1);
}

bool writer_header(const struct member *member, const char *path, const char *link)
{
    static const char types[] = {[IMPLIED] = '5', [DIRECTORY] = '5', [SYMLINK] = '2',
                                 [REGULAR] = '0', [FIFO] = '6',      [HARDLINK] = '1'};
    struct member described = {.mode = 0644};
    struct buffer records = {0};
    bool done = true;

    if (strlen(path) > 100)
        done = add_record(&records, "path", path);
    if (done && link != NULL && strlen(link) > 100)
        done = add_record(&records, "linkpath", link);
    if (done && member->kind != HARDLINK && member->xattrs.size > 0)
        done = buffer_add(&records, member->xattrs.bytes, member->xattrs.size);
    if (done && records.size > 0)
        done = put_header('x', "pax", NULL, &described, records.size) &&
               put(records.bytes, records.size) && writer_pad(records.size);
    free(records.bytes);
    if (!done)
        return false;
    return put_header(types[member->kind], path, link, member,
                      member->kind == REGULAR ? member->size : 0);
}

bool writer_end(void)
{
    return writer_content(NULL, (uint64_t)2 * TAR_BLOCK) && flush();
}
