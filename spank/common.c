/* Small pieces that more than one of our programs needs. */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

bool write_all(int fd, const void *bytes, size_t size)
{
    const char *next = bytes;

    while (size > 0) {
        ssize_t count = write(fd, next, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        next += count;
        size -= (size_t)count;
    }
    return true;
}

ssize_t read_all(int fd, void *bytes, size_t size)
{
    size_t have = 0;

    while (have < size) {
        ssize_t count = read(fd, (char *)bytes + have, size - have);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -1;
        if (count == 0)
            break;
        have += (size_t)count;
    }
    return (ssize_t)have;
}

bool become(uid_t uid, gid_t gid, const gid_t *groups, size_t count)
{
    uid_t real, effective, saved;

    /* The raw system calls: glibc's would change every thread of a process we may share. */
    if (syscall(SYS_setgroups, count, groups) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
        syscall(SYS_setresuid, uid, uid, uid) < 0)
        return false;
    if (getresuid(&real, &effective, &saved) < 0 || real != uid || effective != uid ||
        saved != uid) {
        errno = EPERM;
        return false;
    }
    if (uid != 0 && syscall(SYS_setresuid, 0, 0, 0) == 0) {
        errno = EPERM;
        return false;
    }
    return true;
}

void close_on_exec_from(int first)
{
    if (syscall(SYS_close_range, (unsigned int)first, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        return;
    /* Kernels before 5.11 lack the call; the table's size bounds the numbers. */
    for (int fd = first, end = (int)sysconf(_SC_OPEN_MAX); fd < end; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0)
            (void)fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    }
}

void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        (void)sigaction(number, &action, NULL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

unsigned long long start_time(pid_t pid)
{
    char path[64], text[1024], *field;
    unsigned long long value = 0;
    ssize_t size;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return 0;
    size = read_all(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    /* The name in parentheses may hold anything: count the fields after its end (proc(5), 22). */
    if ((field = strrchr(text, ')')) == NULL)
        return 0;
    for (int skip = 0; skip < 20 && field != NULL; skip++)
        field = strchr(field + 1, ' ');
    if (field == NULL || sscanf(field, " %llu", &value) != 1)
        return 0;
    return value;
}

bool parse_number(const char *text, unsigned long limit, unsigned long *value)
{
    char *end = NULL;

    if (text == NULL || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *value = strtoul(text, &end, 10);
    return errno == 0 && *end == '\0' && *value <= limit;
}

bool is_shown(unsigned char byte, unsigned char before)
{
    bool is_control = byte < ' ' || byte == 0x7f;

    return !is_control && ((byte & 0xe0) != 0x80 || (before >= 0x80 && before != 0xc2));
}

void keep_shown(char *text)
{
    unsigned char before = 0;

    for (char *c = text; *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c;
        if (!is_shown(byte, before))
            *c = '?';
        before = byte;
    }
}

void strip_colours(char *text)
{
    char *to = text;

    for (const char *from = text; *from != '\0'; from++) {
        if (from[0] == '\033' && from[1] == '[') {
            const char *end = from + 2 + strspn(from + 2, "0123456789;");
            if (*end == 'm') {
                from = end;
                continue;
            }
        }
        *to++ = *from;
    }
    *to = '\0';
}

bool is_guarded(int fd, uid_t account, bool is_directory)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return false;
    if (status.st_uid != 0 && status.st_uid != account)
        errno = EPERM;
    else if (is_directory ? !S_ISDIR(status.st_mode) : !S_ISREG(status.st_mode))
        errno = EINVAL;
    /* In a sticky directory nobody can move what is another's. */
    else if ((status.st_mode & 022) != 0 && !(is_directory && (status.st_mode & S_ISVTX) != 0))
        errno = EPERM;
    else
        return true;
    return false;
}
