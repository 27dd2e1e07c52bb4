/* See mounts.h. */
#define _GNU_SOURCE
#include "mounts.h"

#include "common.h"
#include "loop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define JOBS          ".jobs"
#define NAME_SIZE     200
#define LOCK_ATTEMPTS 2000 /* of 5 ms; a mount takes less than one */
#define IDLE_SECONDS  3600 /* what is unmounted too early is mounted again by the next step */

struct place {
    char name[NAME_SIZE + 1];
    char path[PATH_MAX], jobs[PATH_MAX], file[PATH_MAX];
};

static bool is_name(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789.+_-");

    return length > 0 && name[length] == '\0' && length <= NAME_SIZE && name[0] != '.';
}

static bool make_place(const char *name, struct place *place)
{
    if (!is_name(name))
        return false;
    (void)snprintf(place->name, sizeof(place->name), "%s", name);
    (void)snprintf(place->path, PATH_MAX, MOUNTS "/%s", place->name);
    (void)snprintf(place->jobs, PATH_MAX, MOUNTS "/%s" JOBS, place->name);
    (void)snprintf(place->file, PATH_MAX, MOUNTS "/%s" JOBS "/file", place->name);
    return true;
}

/* An entry is named by the directory that the image is in. */
static bool name_place(const char *image, struct place *place)
{
    char path[PATH_MAX], *end, *name;
    size_t length;

    (void)snprintf(path, sizeof(path), "%s", image);
    if ((end = strrchr(path, '/')) == NULL)
        return false;
    *end = '\0';
    name = strrchr(path, '/');
    length = name != NULL ? strlen(name) : 0;
    if (length <= strlen(JOBS) || strcmp(name + length - strlen(JOBS), JOBS) == 0)
        return false;
    return make_place(name + 1, place);
}

/* Not for ever: whoever holds the lock may hang on a file system that does not answer. */
static bool lock_soon(int fd)
{
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};

    for (int i = 0; i < LOCK_ATTEMPTS; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        (void)nanosleep(&pause, NULL);
    }
    errno = EWOULDBLOCK;
    return false;
}

/* One process at a time. The lock file is root's alone, so that no user can hold it. */
static int lock_mounts(void)
{
    struct stat status;
    int fd = -1;

    if ((mkdir("/run/hpcimg", 0755) < 0 && errno != EEXIST) ||
        (mkdir(MOUNTS, 0755) < 0 && errno != EEXIST) || lstat(MOUNTS, &status) < 0)
        return -1;
    if (!S_ISDIR(status.st_mode) || status.st_uid != 0 || (status.st_mode & 022) != 0)
        errno = EPERM;
    else
        fd = open(MOUNTS "/.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || lock_soon(fd))
        return fd;
    (void)close(fd);
    errno = EWOULDBLOCK;
    return -1;
}

static bool is_mounted(const struct place *place)
{
    struct stat above, here;

    return stat(MOUNTS, &above) == 0 && stat(place->path, &here) == 0 &&
           here.st_dev != above.st_dev;
}

static bool has_stepd(const char *job)
{
    char start[64], text[64];
    glob_t processes;
    bool found = false;

    (void)snprintf(start, sizeof(start), "slurmstepd: [%.32s.", job);
    if (glob("/proc/[0-9]*/cmdline", GLOB_NOSORT, NULL, &processes) != 0)
        return true;
    for (size_t i = 0; i < processes.gl_pathc && !found; i++) {
        int fd = open(processes.gl_pathv[i], O_RDONLY | O_CLOEXEC);
        ssize_t size = fd >= 0 ? read_all(fd, text, strlen(start)) : -1;
        found = size == (ssize_t)strlen(start) && memcmp(text, start, (size_t)size) == 0;
        if (fd >= 0)
            (void)close(fd);
    }
    globfree(&processes);
    return found;
}

/* The epilog removes a job's tickets. Where it never ran, a job that has started no step for long
 * and runs none is as good as over. */
static bool is_over(const char *job, time_t used)
{
    char tickets[PATH_MAX];

    (void)snprintf(tickets, sizeof(tickets), TICKETS "/%.32s", job);
    if (access(tickets, F_OK) < 0 && errno == ENOENT)
        return true;
    return time(NULL) - used > IDLE_SECONDS && !has_stepd(job);
}

/* Forget the jobs that are over; whether one is left. */
static bool is_needed(const struct place *place)
{
    DIR *jobs = opendir(place->jobs);
    struct dirent *job;
    struct stat status;
    bool needed = false;

    if (jobs == NULL)
        return errno != ENOENT;
    while ((job = readdir(jobs)) != NULL) {
        if (strspn(job->d_name, "0123456789") != strlen(job->d_name) ||
            fstatat(dirfd(jobs), job->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (is_over(job->d_name, status.st_mtime))
            (void)unlinkat(dirfd(jobs), job->d_name, 0);
        else
            needed = true;
    }
    (void)closedir(jobs);
    return needed;
}

/* Steps that still run have copies of their own: the file system ends with the last of them. */
static void remove_place(const struct place *place)
{
    if (is_mounted(place) && umount2(place->path, UMOUNT_NOFOLLOW) < 0)
        return;
    if (rmdir(place->path) < 0 && errno != ENOENT)
        return;
    (void)unlink(place->file);
    (void)rmdir(place->jobs);
}

static void sweep(void)
{
    DIR *mounts = opendir(MOUNTS);
    struct dirent *entry;
    struct place place;

    while (mounts != NULL && (entry = readdir(mounts)) != NULL) {
        char *end = strstr(entry->d_name, JOBS);
        if (end == NULL || end[strlen(JOBS)] != '\0')
            continue;
        *end = '\0';
        if (make_place(entry->d_name, &place) && !is_needed(&place))
            remove_place(&place);
    }
    if (mounts != NULL)
        (void)closedir(mounts);
}

void sweep_mounts(void)
{
    int lock = access(MOUNTS, F_OK) == 0 ? lock_mounts() : -1;

    if (lock < 0)
        return;
    sweep();
    (void)close(lock);
}

/* A converted image has one name wherever it is built, but a faulty one may have been replaced. */
static void describe(int image, char *text, size_t size)
{
    struct stat status = {.st_size = -1};

    (void)fstat(image, &status);
    (void)snprintf(text, size, "%llu:%llu:%lld:%lld.%09ld\n", (unsigned long long)status.st_dev,
                   (unsigned long long)status.st_ino, (long long)status.st_size,
                   (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

static bool is_this_file(const struct place *place, const char *description)
{
    char text[128] = "";
    int fd = open(place->file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return false;
    (void)read_all(fd, text, sizeof(text) - 1);
    (void)close(fd);
    return strcmp(text, description) == 0;
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    bool written = fd >= 0 && write_all(fd, text, strlen(text)) && futimens(fd, NULL) == 0;

    if (fd >= 0)
        (void)close(fd);
    return written;
}

static bool mount_image(int image, const struct place *place, char why[WHY_SIZE])
{
    struct squashfs part;
    char device[64];
    bool mounted;
    int loop;

    if (!find_squashfs(image, &part, why))
        return false;
    if ((loop = attach_loop(image, &part, device, sizeof(device))) < 0) {
        (void)snprintf(why, WHY_SIZE, "no loop device: %s", strerror(errno));
        return false;
    }
    mounted = mount(device, place->path, "squashfs", MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0;
    if (!mounted)
        (void)snprintf(why, WHY_SIZE, "the kernel could not mount it: %s", strerror(errno));
    (void)close(loop);
    return mounted;
}

static bool mount_new(int image, const struct place *place, const char *description,
                      char why[WHY_SIZE])
{
    sweep();
    if (is_mounted(place)) {
        (void)snprintf(why, WHY_SIZE, "an older file of this entry is still mounted");
        return false;
    }
    /* The jobs' directory first: with it the sweep finds what is left by a crash. */
    if ((mkdir(place->jobs, 0755) < 0 && errno != EEXIST) ||
        (mkdir(place->path, 0755) < 0 && errno != EEXIST) ||
        !write_file(place->file, description)) {
        (void)snprintf(why, WHY_SIZE, "\"%.150s\": %s", place->path, strerror(errno));
        return false;
    }
    if (mount_image(image, place, why))
        return true;
    remove_place(place);
    return false;
}

static bool mount_once(int image, const struct place *place, unsigned long job, char why[WHY_SIZE])
{
    char description[128], marker[PATH_MAX];
    int lock = lock_mounts();
    bool done;

    if (lock < 0) {
        (void)snprintf(why, WHY_SIZE, "\"" MOUNTS "\": %s", strerror(errno));
        return false;
    }
    describe(image, description, sizeof(description));
    done = (is_mounted(place) && is_this_file(place, description)) ||
           mount_new(image, place, description, why);
    (void)snprintf(marker, sizeof(marker), "%.4000s/%lu", place->jobs, job);
    if (done && !(done = write_file(marker, "")))
        (void)snprintf(why, WHY_SIZE, "\"%.150s\": %s", marker, strerror(errno));
    (void)close(lock);
    return done;
}

bool mount_entry(const char *image, uid_t account, unsigned long job, char path[PATH_MAX],
                 char why[WHY_SIZE])
{
    char tickets[64];
    struct place place;
    bool done;
    int fd;

    why[0] = '\0';
    (void)snprintf(tickets, sizeof(tickets), TICKETS "/%lu", job);
    if (access(tickets, F_OK) < 0 || !name_place(image, &place)) {
        (void)snprintf(why, WHY_SIZE,
                       "hpcimg's prolog did not run for this job, or the image's "
                       "path is not that of an entry");
        return false;
    }
    if ((fd = open_image(image, account, why)) < 0)
        return false;
    done = mount_once(fd, &place, job, why);
    (void)close(fd);
    (void)snprintf(path, PATH_MAX, "%s", place.path);
    return done;
}
