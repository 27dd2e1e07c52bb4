/* See running.h. A claim is a lock on the file itself, so that who died while it started something
 * holds up nobody. */
#define _GNU_SOURCE
#include "running.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME_LIMIT    128
#define LOCK_ATTEMPTS 12000 /* of 5 ms: a container that starts may wait for its file system */

bool is_container_name(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= NAME_LIMIT && name[0] != '.' && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               length;
}

void write_key(char key[KEY_SIZE], uid_t uid, const char *name, unsigned long job, bool is_of_job)
{
    if (is_of_job)
        (void)snprintf(key, KEY_SIZE, "%u~j~%lu~%.128s", uid, job, name);
    else
        (void)snprintf(key, KEY_SIZE, "%u~n~%.128s", uid, name);
}

void write_step_key(char key[KEY_SIZE], uid_t uid, const char *step)
{
    (void)snprintf(key, KEY_SIZE, "%u~s~%.128s", uid, step);
}

/* The directory, -1 unless it is root's alone. */
static int open_running(bool make)
{
    int fd;

    if (make && ((mkdir("/run/hpcimg", 0755) < 0 && errno != EEXIST) ||
                 (mkdir(RUNNING, 0700) < 0 && errno != EEXIST)))
        return -1;
    fd = open(RUNNING, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || is_guarded(fd, 0, true))
        return fd;
    (void)close(fd);
    return -1;
}

/* What a file begins with: its owner, and the anchor, which must still be the process that it was,
 * and the owner's: a number that was given to another since counts as none. */
static bool is_alive(const char *text, uid_t uid)
{
    unsigned long long start = 0;
    struct stat process;
    unsigned owner = 0;
    char path[32];
    int pid = 0;

    if (sscanf(text, "uid=%u\nanchor %d %llu\n", &owner, &pid, &start) != 3 || owner != uid ||
        pid <= 1 || start == 0)
        return false;
    (void)snprintf(path, sizeof(path), "/proc/%d", pid);
    return stat(path, &process) == 0 && process.st_uid == uid && start_time((pid_t)pid) == start;
}

static ssize_t read_file(int fd, uid_t uid, char *text, size_t size)
{
    ssize_t count = is_guarded(fd, 0, false) ? pread(fd, text, size - 1, 0) : -1;

    if (count <= 0)
        return -1;
    text[count] = '\0';
    return is_alive(text, uid) ? count : -1;
}

ssize_t read_running(const char *key, uid_t uid, char *text, size_t size)
{
    int directory = open_running(false), fd = -1;
    ssize_t count = -1;

    if (directory >= 0) {
        fd = openat(directory, key, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        (void)close(directory);
    }
    if (fd >= 0) {
        count = read_file(fd, uid, text, size);
        (void)close(fd);
    }
    return count;
}

static bool lock_soon(int fd)
{
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};

    for (int i = 0; i < LOCK_ATTEMPTS; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

/* Who gave a key up has removed the file that we may have waited for. */
static bool is_file_of(int directory, const char *key, int fd)
{
    struct stat here, there;

    return fstat(fd, &here) == 0 && fstatat(directory, key, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           here.st_ino == there.st_ino && here.st_dev == there.st_dev;
}

int claim_running(const char *key, uid_t uid)
{
    static char text[RUNNING_LIMIT];
    int directory = open_running(true), fd = -1, reason = EIO;

    for (int i = 0; directory >= 0 && fd < 0 && i < 8; i++) {
        fd = openat(directory, key, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            break;
        if (lock_soon(fd) && is_file_of(directory, key, fd))
            break;
        (void)close(fd);
        fd = -1;
    }
    if (fd >= 0 && read_file(fd, uid, text, sizeof(text)) > 0) {
        (void)close(fd);
        fd = -1;
        reason = EBUSY;
    }
    if (directory >= 0)
        (void)close(directory);
    errno = reason;
    return fd;
}

bool settle_running(int claim, const char *key, const char *text, size_t size)
{
    char path[sizeof(RUNNING) + KEY_SIZE];
    bool written = size > 0 && ftruncate(claim, 0) == 0 && lseek(claim, 0, SEEK_SET) == 0 &&
                   write_all(claim, text, size);

    (void)snprintf(path, sizeof(path), RUNNING "/%s", key);
    if (!written)
        (void)unlink(path);
    (void)close(claim);
    return written;
}

void forget_running(const char *key, pid_t anchor, unsigned long long start)
{
    static char text[RUNNING_LIMIT];
    int directory = open_running(false), fd = -1;
    char wanted[64];

    if (directory < 0)
        return;
    (void)snprintf(wanted, sizeof(wanted), "\nanchor %d %llu\n", (int)anchor, start);
    fd = openat(directory, key, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    /* Whoever holds the lock has found that ours has ended, and starts one of its own. */
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && is_file_of(directory, key, fd)) {
        ssize_t count = pread(fd, text, sizeof(text) - 1, 0);
        text[count > 0 ? count : 0] = '\0';
        if (strstr(text, wanted) != NULL)
            (void)unlinkat(directory, key, 0);
    }
    if (fd >= 0)
        (void)close(fd);
    (void)close(directory);
}
