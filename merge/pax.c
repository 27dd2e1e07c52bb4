/* Records are "LENGTH KEY=VALUE\n" (POSIX pax, extended header); values may hold any byte. */
#define _GNU_SOURCE
#include "pax.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XATTR "SCHILY.xattr."

static bool number(const char *text, uint64_t *value, const char **end)
{
    char *stop = NULL;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *value = strtoull(text, &stop, 10);
    *end = stop;
    return errno == 0 && *value < (1ULL << 62);
}

static bool whole_number(const char *text, uint64_t *value)
{
    const char *end = NULL;

    return number(text, value, &end) && *end == '\0';
}

/* Seconds with a fraction, which a squashfs does not keep. */
static bool seconds(const char *text, int64_t *value)
{
    uint64_t whole = 0;
    const char *end = NULL;
    bool is_negative = *text == '-';

    if (!number(text + is_negative, &whole, &end) || (*end != '\0' && *end != '.'))
        return false;
    *value = is_negative ? -(int64_t)whole : (int64_t)whole;
    if (is_negative && strpbrk(end, "123456789") != NULL)
        (*value)--;
    return true;
}

static bool parse_map(struct member *member, const char *text)
{
    struct span span = {0, 0};
    const char *end = text;

    for (;; text = end + 1) {
        if (!number(text, &span.offset, &end) || *end != ',')
            return false;
        if (!number(end + 1, &span.size, &end) || (*end != ',' && *end != '\0'))
            return false;
        if (!member_add_span(member, span.offset, span.size))
            return false;
        if (*end == '\0')
            return true;
    }
}

static bool keep(char **place, const char *value)
{
    free(*place);
    return (*place = strdup(value)) != NULL;
}

static bool parse_sparse(struct pax *pax, struct member *member, const char *key, const char *value)
{
    uint64_t ignored = 0;

    if (strcmp(key, "name") == 0)
        return keep(&pax->sparse_name, value);
    if (strcmp(key, "size") == 0 || strcmp(key, "realsize") == 0)
        return pax->has_real_size = whole_number(value, &pax->real_size);
    if (strcmp(key, "major") == 0) {
        pax->major = value[0] == '1' ? 1 : 0;
        return strcmp(value, "0") == 0 || strcmp(value, "1") == 0;
    }
    if (strcmp(key, "offset") == 0)
        return whole_number(value, &pax->pending.offset);
    if (strcmp(key, "numbytes") == 0) {
        pax->has_map = true;
        return whole_number(value, &pax->pending.size) &&
               member_add_span(member, pax->pending.offset, pax->pending.size);
    }
    if (strcmp(key, "map") == 0) {
        pax->has_map = true;
        return *value == '\0' || parse_map(member, value);
    }
    if (strcmp(key, "numblocks") == 0)
        pax->has_map = true;
    return strcmp(key, "numblocks") != 0 || whole_number(value, &ignored);
}

static bool parse_text(struct pax *pax, struct member *member, const char *key, const char *value)
{
    if (strncmp(key, "GNU.sparse.", 11) == 0)
        return parse_sparse(pax, member, key + 11, value);
    if (*value == '\0') /* takes an earlier record back */
        return true;
    if (strcmp(key, "path") == 0)
        return keep(&pax->path, value);
    if (strcmp(key, "linkpath") == 0)
        return keep(&pax->link, value);
    if (strcmp(key, "size") == 0)
        return pax->has_size = whole_number(value, &pax->size);
    if (strcmp(key, "mtime") == 0)
        return pax->has_mtime = seconds(value, &pax->mtime);
    return true;
}

bool pax_parse(struct archive *archive, struct pax *pax, struct member *member, char *records,
               size_t size)
{
    for (char *at = records, *stop = records + size; at < stop && *at != '\0';) {
        uint64_t length = 0;
        const char *end = NULL;
        char *key, *value;

        if (!number(at, &length, &end) || *end != ' ' || length > (uint64_t)(stop - at) ||
            length < (uint64_t)(end + 2 - at) || at[length - 1] != '\n')
            return archive_fault(archive, "it has a bad PAX record");
        key = at + (end + 1 - at);
        value = memchr(key, '=', (size_t)(at + length - key));
        if (value == NULL)
            return archive_fault(archive, "it has a bad PAX record");
        /* Of the attributes only these can be set and read by a user; the others are inert. */
        if (strncmp(key, XATTR "user.", strlen(XATTR) + 5) == 0) {
            if (member->xattrs.size + length > LONGEST)
                return archive_fault(archive, "it has attributes that are too long");
            if (!buffer_add(&member->xattrs, at, length))
                return archive_fault(archive, NO_MEMORY);
        } else if (strncmp(key, XATTR, strlen(XATTR)) != 0) {
            *value = at[length - 1] = '\0';
            errno = 0;
            if (strlen(value + 1) != (size_t)(at + length - 1 - (value + 1)) ||
                !parse_text(pax, member, key, value + 1))
                return archive_fault(archive,
                                     errno == ENOMEM ? NO_MEMORY : "it has a bad PAX record");
        }
        at += length;
    }
    return true;
}

/* Lines of decimal numbers, the first their count of pairs; padded to a block. */
bool pax_read_map(struct archive *archive, struct member *member)
{
    char block[TAR_BLOCK], text[24] = "";
    uint64_t value = 0, total = 1, seen = 0, offset = 0;
    size_t at = 0;

    while (seen < total) {
        if (member->stored < sizeof(block) || !archive_read(archive, block, sizeof(block)))
            return archive_fault(archive, "it has a bad sparse map");
        member->stored -= sizeof(block);
        for (size_t i = 0; i < sizeof(block) && seen < total; i++) {
            if (block[i] != '\n') {
                if (at == sizeof(text) - 1)
                    return archive_fault(archive, "it has a bad sparse map");
                text[at++] = block[i];
                continue;
            }
            text[at] = '\0';
            at = 0;
            if (!whole_number(text, &value) || (seen == 0 && value > MAP_SIZE))
                return archive_fault(archive, "it has a bad sparse map");
            if (seen == 0)
                total = 1 + 2 * value;
            else if (seen % 2 == 1)
                offset = value;
            else if (!member_add_span(member, offset, value))
                return archive_fault(archive, NO_MEMORY);
            seen++;
        }
    }
    return true;
}

void pax_free(struct pax *pax)
{
    free(pax->path);
    free(pax->link);
    free(pax->sparse_name);
    *pax = (struct pax){0};
}
