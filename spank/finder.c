/* The finder knows what of named containers there is on this node.
 *
 *     finder running --uid UID --key KEY [--key KEY]
 *         print what runs under the first key that is in use
 *     finder look --uid UID --gid GID --groups LIST --path PATH --folder FOLDER
 *         print what a layer lies on, if one is kept there
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
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS 2

struct request {
    struct user user;
    const char *keys[KEYS], *path, *folder;
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

static bool parse_request(int argc, char **argv, struct request *request)
{
    static const struct option options[] = {
        {"uid", 1, NULL, 'u'}, {"gid", 1, NULL, 'g'},  {"groups", 1, NULL, 'G'},
        {"key", 1, NULL, 'k'}, {"path", 1, NULL, 'p'}, {"folder", 1, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    const char *uid = NULL, *gid = "0";
    char none[] = "", *groups = none;

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'u': uid = optarg; break;
        case 'g': gid = optarg; break;
        case 'G': groups = optarg; break;
        case 'p': request->path = optarg; break;
        case 'f': request->folder = optarg; break;
        case 'k':
            if (request->key_count == KEYS || strchr(optarg, '/') != NULL)
                return false;
            request->keys[request->key_count++] = optarg;
            break;
        default: return false;
        }
    }
    return parse_user(uid, gid, groups, &request->user) &&
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
    if (strcmp(action, "running") == 0)
        return print_running(request);
    if (request->path == NULL || request->folder == NULL)
        return LAUNCH_FAILED;
    if (!enter_layers(request->path, &request->user, false))
        return errno == ENOENT ? FINDER_NOTHING : refuse("use", request->path);
    return strcmp(action, "remove") == 0 ? drop(request) : look(request);
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
