/* See layers.h. Names are fixed words, numbers and container names; whatever links a user puts in
 * between are followed as that user. */
#define _GNU_SOURCE
#include "layers.h"

#include "common.h"
#include "running.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool is_folder(const char *text)
{
    const char *rest = text;
    size_t length;

    if (strncmp(rest, "always/", 7) == 0)
        return is_container_name(rest + 7);
    if (strncmp(rest, "jobs/", 5) != 0)
        return false;
    rest += 5;
    length = strspn(rest, "0123456789");
    if (length == 0 || (rest[length] != '/' && rest[length] != '\0'))
        return false;
    rest += length;
    if (*rest == '\0')
        return true;
    rest++;
    /* Of a step without a name: no name begins with a dot. */
    return is_container_name(rest[0] == '.' ? rest + 1 : rest);
}

/* The site's own directory: it may not be there before the first container has a name. */
static bool make_path(const char *path)
{
    char part[PATH_MAX];

    if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
        return false;
    for (char *c = part + 1; *c != '\0'; c++) {
        if (*c != '/')
            continue;
        *c = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return false;
        *c = '/';
    }
    return mkdir(part, 0755) == 0 || errno == EEXIST;
}

static int open_directory(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Only root makes something in `above`, so what root owns there was made a moment ago. */
static bool give_away(int fd, uid_t uid, gid_t gid)
{
    struct stat status;

    if (fstat(fd, &status) == 0 && status.st_uid == 0 && uid != 0 && fchown(fd, uid, gid) == 0)
        (void)fstat(fd, &status);
    if (status.st_uid == uid && (status.st_mode & 077) == 0)
        return true;
    errno = EPERM;
    return false;
}

static int open_layers(const char *path, uid_t uid, gid_t gid, bool make)
{
    char name[16];
    int above, fd = -1;

    (void)snprintf(name, sizeof(name), "%u", uid);
    if (path[0] != '/' || (make && !make_path(path)))
        return -1;
    if ((above = open_directory(AT_FDCWD, path)) < 0)
        return -1;
    if (is_guarded(above, 0, true) && (!make || mkdirat(above, name, 0700) == 0 || errno == EEXIST))
        fd = open_directory(above, name);
    (void)close(above);
    if (fd < 0 || give_away(fd, uid, gid))
        return fd;
    (void)close(fd);
    errno = EPERM;
    return -1;
}

bool enter_layers(const char *path, const struct user *user, bool make)
{
    struct stat status;
    int fd = open_layers(path, user->uid, user->gid, make);
    gid_t gid = user->gid;

    if (fd < 0)
        return false;
    if (gid == 0 && fstat(fd, &status) == 0)
        gid = status.st_gid;
    umask(077);
    return become(user->uid, gid, user->groups, user->group_count) && fchdir(fd) == 0;
}

static void about_path(const char *folder, const char *end, char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%.2000s/" ABOUT "%s", folder, end);
}

ssize_t read_about(const char *folder, char *text, size_t size)
{
    char path[PATH_MAX];
    ssize_t count = -1;
    int fd;

    about_path(folder, "", path);
    if ((fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC)) < 0)
        return -1;
    count = read_all(fd, text, size - 1);
    (void)close(fd);
    text[count > 0 ? count : 0] = '\0';
    return count;
}

bool write_about(const char *folder, const char *text)
{
    char path[PATH_MAX], temporary[PATH_MAX];
    bool written;
    int fd;

    about_path(folder, "", path);
    about_path(folder, ".new", temporary);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    written = write_all(fd, text, strlen(text)) && fsync(fd) == 0;
    (void)close(fd);
    return written && rename(temporary, path) == 0;
}

bool make_layer(const char *folder)
{
    char path[PATH_MAX];

    if (!remove_layer(folder))
        return false;
    (void)snprintf(path, sizeof(path), "%.2000s/upper", folder);
    for (char *c = path; *c != '\0'; c++) {
        if (*c != '/')
            continue;
        *c = '\0';
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return false;
        *c = '/';
    }
    /* The root directory of the container: as an image has it. */
    if (mkdir(path, 0755) < 0)
        return false;
    (void)snprintf(path, sizeof(path), "%.2000s/work", folder);
    return mkdir(path, 0700) == 0;
}

/* An overlay leaves directories that not even their owner may enter. */
static bool remove_entry(const FTSENT *entry)
{
    switch (entry->fts_info) {
    case FTS_D: return chmod(entry->fts_accpath, 0700) == 0 || errno == ENOENT;
    case FTS_DP: return rmdir(entry->fts_accpath) == 0 || errno == ENOENT;
    case FTS_DC:
    case FTS_ERR:
    case FTS_DNR: return false;
    default: return unlink(entry->fts_accpath) == 0 || errno == ENOENT;
    }
}

bool remove_layer(const char *folder)
{
    char path[PATH_MAX], *const paths[] = {path, NULL};
    bool removed = true;
    FTSENT *entry;
    FTS *tree;

    (void)snprintf(path, sizeof(path), "%.2000s", folder);
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return true;
    if ((tree = fts_open(paths, FTS_PHYSICAL | FTS_XDEV, NULL)) == NULL)
        return false;
    while ((entry = fts_read(tree)) != NULL)
        removed = remove_entry(entry) && removed;
    (void)fts_close(tree);
    return removed;
}

/* The prolog and the epilog say which jobs there are; without them nobody knows. */
static bool is_on_node(const char *job)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), TICKETS "/%.32s", job);
    return access(path, F_OK) == 0 || errno != ENOENT;
}

void sweep_layers(unsigned long job)
{
    char own[32], path[PATH_MAX];
    struct dirent *entry;
    DIR *jobs;

    (void)snprintf(own, sizeof(own), "%lu", job);
    if (!is_on_node(own) || (jobs = opendir("jobs")) == NULL)
        return;
    while ((entry = readdir(jobs)) != NULL) {
        size_t digits = strspn(entry->d_name, "0123456789");
        if (digits == 0 || entry->d_name[digits] != '\0' || is_on_node(entry->d_name))
            continue;
        (void)snprintf(path, sizeof(path), "jobs/%.255s", entry->d_name);
        (void)remove_layer(path);
    }
    (void)closedir(jobs);
}
