/* See ticket.h. The file's name is IMAGE~GPUS~NODES, and ~MATCH and ~PLATFORM where the job says
 * them, with "+" for "/": a step with other GPUs than its job may need another image, and so may
 * one that knows of more nodes than the prolog, which is told of one component of a heterogeneous
 * job. */
#define _GNU_SOURCE
#include "ticket.h"

#include "common.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PREFETCH_MILLISECONDS 2000 /* a warm prefetch takes a quarter of it, a cold one minutes */
#define FACTS_SIZE            (1 << 14)
#define STEPS_SIZE            (1 << 20) /* of the list of starts: as hpcimg/store/steps.py has it */

bool parse_line(const char *text, const char *key, char *value, size_t size)
{
    const char *found = strstr(text, key);
    size_t length;

    while (found != NULL && found != text && found[-1] != '\n')
        found = strstr(found + 1, key);
    if (found == NULL)
        return false;
    found += strlen(key);
    length = strcspn(found, "\n");
    if (length >= size)
        return false;
    memcpy(value, found, length);
    value[length] = '\0';
    return true;
}

bool parse_entry(const char *text, struct entry *entry)
{
    if (!parse_line(text, "image=", entry->image, sizeof(entry->image)) || entry->image[0] != '/')
        return false;
    if (!parse_line(text, "warning=", entry->warning, sizeof(entry->warning)))
        entry->warning[0] = '\0';
    if (!parse_line(text, "once=", entry->once, sizeof(entry->once)))
        entry->once[0] = '\0';
    /* Of one that is cut a mount, or what is to be hidden, would be missing without a word. */
    if (snprintf(entry->text, sizeof(entry->text), "%s", text) >= (int)sizeof(entry->text))
        return false;
    entry->is_for_once = strstr(text, "\nticket=no\n") != NULL;
    entry->by_kernel = strstr(text, "\nmount=kernel\n") != NULL;
    return true;
}

static bool ticket_name(const struct job *job, const char *name, char *text, size_t size)
{
    bool is_placed = job->platform[0] != '\0';
    int length = snprintf(text, size, "%s~%s~%u%s%s%s%s", name, job->gpus, job->node_count,
                          is_placed || job->match[0] != '\0' ? "~" : "", job->match,
                          is_placed ? "~" : "", job->platform);

    if (length <= 0 || length >= NAME_MAX || (size_t)length >= size ||
        strchr(job->gpus, '/') != NULL)
        return false;
    for (char *c = text; *c != '\0'; c++)
        if (*c == '/')
            *c = '+';
    return true;
}

/* The job's directory, opened without following a link; -1 unless it is root's alone. */
static int open_tickets(uint32_t job)
{
    char path[64];
    struct stat status;
    int fd;

    (void)snprintf(path, sizeof(path), TICKETS "/%u", job);
    if ((fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        return -1;
    if (fstat(fd, &status) == 0 && status.st_uid == 0 && (status.st_mode & 022) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

/* A file of the job's directory that is root's alone, as text; false when there is none. */
static bool read_own(uint32_t job, const char *file, char *text, size_t limit)
{
    ssize_t size = -1;
    int directory = open_tickets(job), fd;

    if (directory < 0)
        return false;
    fd = openat(directory, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && is_guarded(fd, 0, false))
        size = read_all(fd, text, limit - 1);
    if (fd >= 0)
        (void)close(fd);
    (void)close(directory);
    if (size <= 0 || (size_t)size == limit - 1)
        return false;
    text[size] = '\0';
    return true;
}

bool read_job_file(uint32_t job, char *text, size_t size)
{
    return read_own(job, ".job", text, size);
}

/* Open the image of a ticket, which O_NONBLOCK does also where a pipe stands now. An open asks a
 * server for what it has, where lstat may still be told what this node has seen of the file. */
static int open_entry(const char *image, uid_t owner)
{
    char folder[PATH_MAX];
    const char *file = strrchr(image, '/') + 1;
    int directory, fd = -1;

    (void)snprintf(folder, sizeof(folder), "%.*s", (int)(file - 1 - image), image);
    directory = open(folder, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory >= 0 && is_guarded(directory, owner, true))
        fd = openat(directory, file, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
    if (directory >= 0)
        (void)close(directory);
    return fd;
}

/* Whether the image is still what the store's account had made; its content is not read. Where it
 * is not, or the file system cannot say (ESTALE), the step asks `hpcimg get`, which looks again,
 * says what is wrong and has the entry built anew. */
static bool is_as_made(const struct entry *entry)
{
    char word[32];
    unsigned long size, owner;
    struct stat status;
    bool same;
    int fd;

    if (!parse_line(entry->text, "size=", word, sizeof(word)) ||
        !parse_number(word, LONG_MAX, &size) ||
        !parse_line(entry->text, "owner=", word, sizeof(word)) ||
        !parse_number(word, UINT_MAX - 1, &owner) ||
        (fd = open_entry(entry->image, (uid_t)owner)) < 0)
        return false;
    same = is_guarded(fd, (uid_t)owner, false) && fstat(fd, &status) == 0 &&
           (unsigned long)status.st_size == size;
    (void)close(fd);
    return same;
}

bool read_ticket(const struct job *job, const char *name, struct entry *entry)
{
    char file[NAME_MAX + 1], text[TICKET_SIZE];

    return ticket_name(job, name, file, sizeof(file)) &&
           read_own(job->id, file, text, sizeof(text)) && parse_entry(text, entry) &&
           !entry->is_for_once && is_as_made(entry);
}

bool await_ticket(const struct job *job, const char *name)
{
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    char file[NAME_MAX + 1] = ".";
    int directory, lock = -1;
    bool done = false;

    if (!ticket_name(job, name, file + 1, sizeof(file) - 1) ||
        (directory = open_tickets(job->id)) < 0)
        return false;
    lock = openat(directory, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    (void)close(directory);
    if (lock < 0)
        return false;
    for (int left = PREFETCH_MILLISECONDS; !done && left > 0; left -= 5) {
        done = flock(lock, LOCK_SH | LOCK_NB) == 0;
        if (!done)
            (void)nanosleep(&pause, NULL);
    }
    (void)close(lock);
    return done;
}

void write_ticket(const struct job *job, const char *name, const char *text)
{
    char file[NAME_MAX + 1], temporary[64];
    int directory, fd;

    if (!ticket_name(job, name, file, sizeof(file)) || (directory = open_tickets(job->id)) < 0)
        return;
    (void)snprintf(temporary, sizeof(temporary), ".new-%d", (int)getpid());
    fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd >= 0) {
        if (!write_all(fd, text, strlen(text)) ||
            renameat(directory, temporary, directory, file) < 0)
            (void)unlinkat(directory, temporary, 0);
        (void)close(fd);
    }
    (void)close(directory);
}

bool was_told(const struct job *job)
{
    struct stat status;
    int directory = open_tickets(job->id);
    bool told = directory >= 0 && fstatat(directory, ".told", &status, AT_SYMLINK_NOFOLLOW) == 0;

    if (directory >= 0)
        (void)close(directory);
    return told;
}

/* What is put around the image is much, and no part of what was started. */
static bool is_around(const char *line)
{
    static const char *const keys[] = {"bind=", "setenv=", "hide=", "workdir=", "entrypoint="};

    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        if (strncmp(line, keys[i], strlen(keys[i])) == 0)
            return true;
    return false;
}

/* The first text of each key counts, and an empty line ends a start: what a user's own `hpcimg get`
 * printed can change neither. */
static void copy_facts(const char *text, char *facts, size_t size)
{
    size_t used = 0;

    for (text += strspn(text, "\n"); *text != '\0' && *text != '\n'; text += *text == '\n') {
        size_t length = strcspn(text, "\n");
        if (!is_around(text) && used + length + 2 < size) {
            memcpy(facts + used, text, length);
            used += length;
            facts[used++] = '\n';
        }
        text += length;
    }
    facts[used] = '\0';
}

void note_start(const struct job *job, const struct start *start, const struct entry *entry)
{
    char facts[FACTS_SIZE], text[FACTS_SIZE + NAME_LENGTH + 256];
    struct stat status;
    int directory, fd, length;

    if ((directory = open_tickets(job->id)) < 0)
        return;
    copy_facts(entry->text, facts, sizeof(facts));
    length =
        snprintf(text, sizeof(text), "step=%u\nat=%lld\nname=%s\nscope=%s\nby=%s\nwait=%ld\n%s\n",
                 job->step, (long long)time(NULL), start->name, start->scope,
                 start->by_ticket ? "ticket" : "get", start->millis, facts);
    fd = openat(directory, ".steps", O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 && length > 0 && (size_t)length < sizeof(text) && fstat(fd, &status) == 0 &&
        status.st_size < STEPS_SIZE)
        (void)!write(fd, text, (size_t)length);
    if (fd >= 0)
        (void)close(fd);
    if (start->was_told &&
        (fd = openat(directory, ".told", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644)) >= 0)
        (void)close(fd);
    (void)close(directory);
}
