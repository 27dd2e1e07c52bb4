/* See devices.h. Each file is bound, not made anew: that keeps owners, lists of access rights and
 * labels, and a user may do it in a namespace of his own. */
#define _GNU_SOURCE
#include "devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DEV      "/dev"
#define CONSOLES 4 /* and serial lines */
#define SCREENS  7 /* the text on the consoles */

struct hidden {
    const char *const *paths;
    size_t count;
};

/* Whether a path is hidden, or something below it is. */
static bool is_hidden(const struct hidden *hidden, const char *path)
{
    for (size_t i = 0; i < hidden->count; i++)
        if (strcmp(hidden->paths[i], path) == 0)
            return true;
    return false;
}

static bool holds_hidden(const struct hidden *hidden, const char *path)
{
    size_t length = strlen(path);

    for (size_t i = 0; i < hidden->count; i++)
        if (strncmp(hidden->paths[i], path, length) == 0 && hidden->paths[i][length] == '/')
            return true;
    return false;
}

/* No job can open these, and there are two hundred of them. */
static bool is_useless(const struct stat *status)
{
    return S_ISBLK(status->st_mode) ||
           (S_ISCHR(status->st_mode) &&
            (major(status->st_rdev) == CONSOLES || major(status->st_rdev) == SCREENS));
}

static bool copy_link(int from, const char *name, const char *path)
{
    char target[PATH_MAX];
    ssize_t length = readlinkat(from, name, target, sizeof(target) - 1);

    if (length < 0)
        return false;
    target[length] = '\0';
    return symlink(target, path) == 0;
}

static bool bind_entry(int from, const char *name, const char *path, bool is_directory)
{
    char source[PATH_MAX];
    int fd = -1;

    if (is_directory ? mkdir(path, 0755) < 0 : (fd = open(path, O_CREAT | O_CLOEXEC, 0644)) < 0)
        return false;
    if (fd >= 0)
        (void)close(fd);
    (void)snprintf(source, sizeof(source), "/proc/self/fd/%d/%s", from, name);
    return mount(source, path, NULL, MS_BIND | MS_REC, NULL) == 0;
}

static bool fill(const struct hidden *hidden, int from, const char *folder);

static bool fill_folder(const struct hidden *hidden, int from, const char *name, const char *path)
{
    int inner = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool done = inner >= 0 && mkdir(path, 0755) == 0 && fill(hidden, inner, path);

    if (inner >= 0)
        (void)close(inner);
    return done;
}

static bool copy_entry(const struct hidden *hidden, int from, const char *name, const char *path)
{
    struct stat status;

    if (fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT;
    if (is_hidden(hidden, path) || is_useless(&status))
        return true;
    if (S_ISLNK(status.st_mode))
        return copy_link(from, name, path);
    if (S_ISDIR(status.st_mode) && holds_hidden(hidden, path))
        return fill_folder(hidden, from, name, path);
    return bind_entry(from, name, path, S_ISDIR(status.st_mode));
}

/* Show what the open directory `from` has in the empty one `folder`. */
static bool fill(const struct hidden *hidden, int from, const char *folder)
{
    char path[PATH_MAX];
    int copy = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    bool done = entries != NULL;

    if (entries == NULL && copy >= 0)
        (void)close(copy);
    for (struct dirent *entry; done && (entry = readdir(entries)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        done = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) < (int)sizeof(path) &&
               copy_entry(hidden, from, entry->d_name, path);
    }
    if (entries != NULL) {
        int reason = errno;
        (void)closedir(entries);
        errno = reason;
    }
    return done;
}

bool leave_mounts(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0;
}

bool hide_devices(const char *const *paths, size_t count)
{
    const struct hidden hidden = {paths, count};
    int from = open(DEV, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done;

    if (from < 0)
        return false;
    done =
        mount("tmpfs", DEV, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k") == 0 &&
        fill(&hidden, from, DEV) &&
        mount(NULL, DEV, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) == 0;
    (void)close(from);
    return done;
}
