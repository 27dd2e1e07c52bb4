/* The finder knows what of named containers there is on this node.
 *
 *     finder running --uid UID --key KEY [--key KEY]
 *         print what runs under the first key that is in use
 *     finder look --uid UID --gid GID --groups LIST --path PATH --folder FOLDER
 *         print what a layer lies on, if one is kept there
 *     finder make … --job JOB       an empty layer, in place of what never ran
 *     finder note … --about TEXT    what it lies on, once it has run
 *     finder remove --uid UID --path PATH --folder FOLDER
 *
 * Root starts it, to read root's files and to have a directory for the user; what is in there it
 * does as the user, for good. */
#define _GNU_SOURCE
#include "common.h"
#include "layers.h"
#include "running.h"
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS   2
#define MARKER ".containers" /* of a job's tickets: where its epilog finds its containers */

struct request {
    struct user user;
    unsigned long job;
    const char *keys[KEYS], *path, *folder, *about;
    size_t key_count;
};

static int refuse(const char *what, const char *value)
{
    int reason = errno;

    (void)fprintf(stderr, "hpcimg: could not %s \"%s\": %s\n", what, value, strerror(reason));
    (void)fprintf(stderr, "hpcimg: hint: %s\n",
                  reason == EPERM ? "the site's directory for containers must be root's, and a "
                                    "user's in it the user's alone"
                                  : "look at \"containers\" in the site's settings, and at its "
                                    "disk");
    return LAUNCH_FAILED;
}

/* Fixed words, numbers and container names. */
static bool is_folder(const char *text)
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

static bool parse_request(int argc, char **argv, struct request *request)
{
    static const struct option options[] = {
        {"uid", 1, NULL, 'u'},   {"gid", 1, NULL, 'g'},    {"groups", 1, NULL, 'G'},
        {"job", 1, NULL, 'j'},   {"key", 1, NULL, 'k'},    {"path", 1, NULL, 'p'},
        {"about", 1, NULL, 'a'}, {"folder", 1, NULL, 'f'}, {NULL, 0, NULL, 0},
    };
    const char *uid = NULL, *gid = "0", *job = "0";
    char none[] = "", *groups = none;

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'u': uid = optarg; break;
        case 'g': gid = optarg; break;
        case 'G': groups = optarg; break;
        case 'j': job = optarg; break;
        case 'p': request->path = optarg; break;
        case 'f': request->folder = optarg; break;
        case 'a': request->about = optarg; break;
        case 'k':
            if (request->key_count == KEYS || strchr(optarg, '/') != NULL)
                return false;
            request->keys[request->key_count++] = optarg;
            break;
        default: return false;
        }
    }
    return parse_user(uid, gid, groups, &request->user) && request->user.uid != 0 &&
           parse_number(job, UINT_MAX, &request->job) &&
           (request->folder == NULL || is_folder(request->folder));
}

static int print_running(const struct request *request)
{
    static char text[RUNNING_LIMIT];

    for (size_t i = 0; i < request->key_count; i++) {
        ssize_t size = read_running(request->keys[i], request->user.uid, text, sizeof(text));
        if (size > 0)
            return write_all(STDOUT_FILENO, text, (size_t)size) ? 0 : LAUNCH_FAILED;
    }
    return FINDER_NOTHING;
}

/* The epilog knows neither the settings nor the user's groups. */
static void leave_marker(const struct request *request)
{
    char folder[64];
    struct stat status;
    int directory, fd = -1;

    (void)snprintf(folder, sizeof(folder), TICKETS "/%lu", request->job);
    directory = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory >= 0 && fstat(directory, &status) == 0 && status.st_uid == 0)
        fd = openat(directory, MARKER, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)write_all(fd, request->path, strlen(request->path));
        (void)close(fd);
    }
    if (directory >= 0)
        (void)close(directory);
}

/* The user's directory, as the user. The owner's group is as good as any to remove something. */
static bool enter(struct request *request, bool make)
{
    struct stat status;
    int fd = open_layers(request->path, request->user.uid, request->user.gid, make);
    gid_t gid = request->user.gid;

    if (fd < 0)
        return false;
    if (gid == 0 && fstat(fd, &status) == 0)
        gid = status.st_gid;
    umask(077);
    return become(request->user.uid, gid, request->user.groups, request->user.group_count) &&
           fchdir(fd) == 0;
}

static int look(const struct request *request)
{
    char text[ABOUT_LIMIT];
    ssize_t size = read_about(request->folder, text, sizeof(text));

    if (size < 0)
        return FINDER_NOTHING;
    return write_all(STDOUT_FILENO, text, (size_t)size) ? 0 : LAUNCH_FAILED;
}

/* Out of the way at once: the next job of this number may be here before all is gone. */
static int drop(const struct request *request)
{
    char gone[64];

    (void)snprintf(gone, sizeof(gone), "gone-%d", (int)getpid());
    if (rename(request->folder, gone) < 0)
        return errno == ENOENT ? 0 : refuse("remove", request->folder);
    return remove_layer(gone) ? 0 : refuse("remove", request->folder);
}

static int run(const char *action, struct request *request)
{
    bool is_make = strcmp(action, "make") == 0;

    if (strcmp(action, "running") == 0)
        return print_running(request);
    if (request->path == NULL || request->folder == NULL)
        return LAUNCH_FAILED;
    if (is_make)
        leave_marker(request);
    if (!enter(request, is_make))
        return !is_make && errno == ENOENT ? FINDER_NOTHING : refuse("use", request->path);
    if (strcmp(action, "look") == 0)
        return look(request);
    if (strcmp(action, "remove") == 0)
        return drop(request);
    if (strcmp(action, "note") == 0 && request->about != NULL)
        return write_about(request->folder, request->about) ? 0 : refuse("write", request->folder);
    if (!is_make)
        return LAUNCH_FAILED;
    sweep_layers(request->job);
    return make_layer(request->folder) ? 0 : refuse("make", request->folder);
}

int main(int argc, char **argv)
{
    static struct request request;

    reset_signals();
    close_on_exec_from(3);
    umask(022);
    if (argc < 2 || !parse_request(argc - 1, argv + 1, &request)) {
        (void)fprintf(stderr, "hpcimg: finder: wrong arguments\n");
        return LAUNCH_FAILED;
    }
    return run(argv[1], &request);
}
