/* See keep.h. */
#define _GNU_SOURCE
#include "keep.h"

#include "common.h"
#include "layers.h"
#include "running.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARKER ".containers" /* of a job's tickets: where its epilog finds what it kept */
#define FASTER 200           /* no errno */

/* The epilog does not read the settings. */
static void leave_marker(const struct keep *keep)
{
    char folder[64];
    struct stat status;
    int directory, fd = -1;

    (void)snprintf(folder, sizeof(folder), TICKETS "/%lu", keep->job);
    directory = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory >= 0 && fstat(directory, &status) == 0 && status.st_uid == 0)
        fd = openat(directory, MARKER, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)write_all(fd, keep->path, strlen(keep->path));
        (void)close(fd);
    }
    if (directory >= 0)
        (void)close(directory);
}

/* What only the user may do, in a process that is the user's: 0, or errno. */
static int as_user(const struct keep *keep, const struct user *user,
                   bool (*act)(const struct keep *keep))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        if (!enter_layers(keep->path, user, true) || !act(keep))
            _exit(errno ? errno : EIO);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

static bool make(const struct keep *keep)
{
    char about[ABOUT_LIMIT];

    if (read_about(keep->folder, about, sizeof(about)) >= 0)
        _exit(FASTER);
    sweep_layers(keep->job);
    errno = 0;
    return make_layer(keep->folder);
}

static bool note(const struct keep *keep)
{
    return write_about(keep->folder, keep->about);
}

enum kept claim_container(struct keep *keep, const struct user *user)
{
    int reason = 0;

    keep->claim = keep->key != NULL ? claim_running(keep->key, user->uid) : -1;
    if (keep->key != NULL && keep->claim < 0 && keep->must_claim)
        return errno == EBUSY ? KEPT_BUSY : KEPT_FAILED;
    if (keep->path == NULL || !keep->is_new)
        return KEPT_READY;
    leave_marker(keep);
    reason = as_user(keep, user, make);
    if (reason == 0)
        return KEPT_READY;
    give_up_container(keep);
    errno = reason;
    return reason == FASTER ? KEPT_BUSY : KEPT_FAILED;
}

static char *write_text(const struct keep *keep, const struct user *user, const char *image,
                        const char *processes, const char *environment, size_t size,
                        size_t *written)
{
    char *text = NULL;
    int length = asprintf(&text, "uid=%u\n%s\nasked=%s\n%s\nenvironment %zu\n", user->uid,
                          processes, image, keep->told != NULL ? keep->told : "", size);
    char *whole = length > 0 ? realloc(text, (size_t)length + size) : NULL;

    if (whole == NULL) {
        free(length > 0 ? text : NULL);
        return NULL;
    }
    memcpy(whole + length, environment, size);
    *written = (size_t)length + size;
    return whole;
}

bool keep_container(struct keep *keep, const struct user *user, const char *image,
                    const char *processes, const char *environment, size_t size)
{
    size_t written = 0;
    bool kept = false;
    char *text;
    int reason = 0;

    if (keep->path != NULL && keep->is_new && keep->about != NULL)
        reason = as_user(keep, user, note);
    if (reason != 0) {
        errno = reason;
        return false;
    }
    if (keep->claim < 0)
        return true;
    text = write_text(keep, user, image, processes, environment, size, &written);
    if (text != NULL)
        kept = settle_running(keep->claim, keep->key, text, written);
    keep->claim = text != NULL ? -1 : keep->claim;
    free(text);
    return kept || !keep->must_claim;
}

void give_up_container(struct keep *keep)
{
    if (keep->claim >= 0)
        (void)settle_running(keep->claim, keep->key, "", 0);
    keep->claim = -1;
}
