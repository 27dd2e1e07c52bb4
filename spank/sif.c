/* See sif.h. The layouts are those of SIF version 1 and squashfs 4.0, both little-endian. */
#define _GNU_SOURCE
#include "sif.h"

#include "common.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIF_HEADER      128
#define SIF_ROW         585
#define SIF_ROWS        256
#define SIF_PARTITION   0x4004
#define SIF_SQUASHFS    1
#define SIF_PRIMARY     2
#define SUPERBLOCK      96
#define SQUASHFS_MAGIC  0x73717368
#define HIGHEST_METHOD  6 /* of compression: zstd */
#define MOST_INODES     (1U << 28)
#define OFFSET_MULTIPLE 4096
#define NO_TABLE        UINT64_MAX

static uint16_t number16(const unsigned char *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

static uint32_t number32(const unsigned char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint64_t number64(const unsigned char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

/* Open one name of a way and let go of the directory it is in. */
static int step_into(int directory, const char *name, bool is_last, uid_t account)
{
    int flags = is_last ? O_RDONLY | O_NONBLOCK | O_NOCTTY : O_PATH | O_DIRECTORY;
    int fd = -1, reason;

    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        errno = EINVAL;
    else
        fd = openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC);
    reason = errno;
    (void)close(directory);
    if (fd >= 0 && is_guarded(fd, account, !is_last))
        return fd;
    if (fd >= 0) {
        reason = errno;
        (void)close(fd);
    }
    errno = reason;
    return -1;
}

int open_image(const char *path, uid_t account, char why[WHY_SIZE])
{
    char way[PATH_MAX], *next = NULL;
    int fd = -1;

    if (path[0] == '/' && snprintf(way, sizeof(way), "%s", path) < (int)sizeof(way))
        fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    else
        errno = EINVAL;
    for (char *name = strtok_r(way, "/", &next); fd >= 0 && name != NULL;) {
        char *after = strtok_r(NULL, "/", &next);
        fd = step_into(fd, name, after == NULL, account);
        if (fd < 0)
            (void)snprintf(why, WHY_SIZE, "\"%.64s\" in the image's path: %s", name,
                           strerror(errno));
        name = after;
    }
    if (fd < 0 && why[0] == '\0')
        (void)snprintf(why, WHY_SIZE, "the image's path: %s", strerror(errno));
    return fd;
}

static bool is_table(uint64_t place, uint64_t end, bool may_lack)
{
    return place < end ? place >= SUPERBLOCK : may_lack && place == NO_TABLE;
}

/* What the kernel would find out too, but here a fault is only a reason to leave it alone. */
static bool is_sane(const unsigned char *head, uint64_t room)
{
    uint32_t block = number32(head + 12);
    uint64_t end = number64(head + 40), inodes = number64(head + 64), names = number64(head + 72);

    return number32(head) == SQUASHFS_MAGIC && number16(head + 28) == 4 &&
           number16(head + 30) == 0 && number32(head + 4) > 0 && number32(head + 4) < MOST_INODES &&
           block >= 4096 && block <= (1U << 20) && number16(head + 22) < 32 &&
           block == 1U << number16(head + 22) && number16(head + 20) >= 1 &&
           number16(head + 20) <= HIGHEST_METHOD && end > SUPERBLOCK && end <= room &&
           is_table(inodes, end, false) && is_table(names, end, false) && inodes < names &&
           is_table(number64(head + 48), end, false) && is_table(number64(head + 56), end, true) &&
           is_table(number64(head + 80), end, true) && is_table(number64(head + 88), end, true);
}

static bool read_at(int fd, uint64_t offset, unsigned char *bytes, size_t size)
{
    return offset < INT64_MAX && pread(fd, bytes, size, (off_t)offset) == (ssize_t)size;
}

/* The first row of the table that is a used partition, a squashfs and the primary system. */
static bool find_row(int fd, const unsigned char *header, struct squashfs *found)
{
    uint64_t rows = number64(header + 88), at = number64(header + 96);
    unsigned char row[SIF_ROW];

    if (rows > SIF_ROWS || at > INT32_MAX)
        return false;
    for (uint64_t i = 0; i < rows && read_at(fd, at + i * SIF_ROW, row, sizeof(row)); i++) {
        if (number32(row) != SIF_PARTITION || row[4] != 1 || number32(row + 201) != SIF_SQUASHFS ||
            number32(row + 205) != SIF_PRIMARY)
            continue;
        found->offset = number64(row + 17);
        found->size = number64(row + 25);
        return true;
    }
    return false;
}

bool find_squashfs(int fd, struct squashfs *found, char why[WHY_SIZE])
{
    unsigned char header[SIF_HEADER], head[SUPERBLOCK];
    struct stat status;
    const char *fault = NULL;

    if (fstat(fd, &status) < 0 || !read_at(fd, 0, header, sizeof(header)) ||
        memcmp(header + 32, "SIF_MAGIC", 10) != 0 || memcmp(header + 42, "01", 3) != 0)
        fault = "the image is no SIF of version 1";
    else if (!find_row(fd, header, found))
        fault = "the image has no squashfs";
    else if (found->offset < SIF_HEADER || found->offset % OFFSET_MULTIPLE != 0 ||
             found->offset >= (uint64_t)status.st_size ||
             found->size > (uint64_t)status.st_size - found->offset)
        fault = "the image's squashfs lies at a wrong place";
    else if (!read_at(fd, found->offset, head, sizeof(head)) || !is_sane(head, found->size))
        fault = "the image's squashfs has a wrong head";
    if (fault != NULL)
        (void)snprintf(why, WHY_SIZE, "%s", fault);
    return fault == NULL;
}
