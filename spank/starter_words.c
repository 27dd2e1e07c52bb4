/* The starter's command line, see starter.h. */
#define _GNU_SOURCE
#include "common.h"
#include "layers.h"
#include "starter.h"
#include "users.h"

#include <getopt.h>
#include <limits.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Apptainer takes a quarter of a second, on a slow file system a few, and some entrypoints more.
 * slurmstepd waits and hears nothing meanwhile, not even that a batch job is cancelled. */
#define START_SECONDS 120

struct numbers {
    const char *uid, *gid, *job, *account, *seconds;
    char *groups;
};

/* A path is relative to where the step was started. No shell puts a home in place of the tilde in
 * the middle of a word. */
static const char *make_absolute(const struct request *request, const char *path)
{
    const char *here = request->workdir;
    struct passwd *account;
    char *text = NULL;

    if (path[0] == '/')
        return path;
    if (strncmp(path, "~/", 2) == 0 && (account = getpwuid(request->user.uid)) != NULL)
        return asprintf(&text, "%s%s", account->pw_dir, path + 1) >= 0 ? text : NULL;
    return asprintf(&text, "%s/%s", strcmp(here, "/") != 0 ? here : "", path) >= 0 ? text : NULL;
}

static bool add_bind(struct request *request, char *line)
{
    struct bind *bind = &request->binds[request->bind_count];

    return request->bind_count++ < MOST_AROUND && parse_bind_line(line, bind);
}

/* Apptainer makes the first of two mounts at one place: what a user wants there is the only one. */
static void drop_replaced(struct request *request, size_t first)
{
    size_t kept = 0;

    for (size_t i = 0; i < request->bind_count; i++) {
        bool is_replaced = false;
        for (size_t j = first; i < first && j < request->bind_count; j++)
            is_replaced =
                is_replaced || strcmp(request->binds[i].target, request->binds[j].target) == 0;
        if (!is_replaced)
            request->binds[kept++] = request->binds[i];
    }
    request->bind_count = kept;
}

/* The user's own come after the node's, and so on top of them. */
static bool add_mounts(struct request *request, char *list)
{
    size_t first = request->bind_count, left = MOST_AROUND - first;
    const char *wrong = NULL;

    if (list == NULL)
        return true;
    request->bind_count +=
        parse_binds(list, request->binds + first, left < MOST_BINDS ? left : MOST_BINDS, &wrong);
    for (size_t i = first; i < request->bind_count; i++) {
        struct bind *bind = &request->binds[i];
        if (bind->kind == BIND_PATH)
            bind->source = make_absolute(request, bind->source);
        bind->target = make_absolute(request, bind->target);
        if (bind->source == NULL || bind->target == NULL || strlen(bind->target) >= PATH_MAX)
            return false;
    }
    drop_replaced(request, first);
    return wrong == NULL;
}

static bool parse_namespaces(char *list, int *namespaces)
{
    for (char *word; (word = strsep(&list, ",")) != NULL;) {
        if (strcmp(word, "net") == 0)
            *namespaces |= CLONE_NEWNET;
        else if (strcmp(word, "ipc") == 0)
            *namespaces |= CLONE_NEWIPC;
        else if (strcmp(word, "uts") == 0)
            *namespaces |= CLONE_NEWUTS;
        else
            return false;
    }
    return true;
}

static bool parse_numbers(const struct numbers *numbers, struct request *request)
{
    unsigned long account;

    if (numbers->account != NULL) {
        if (!parse_number(numbers->account, UINT_MAX - 1, &account))
            return false;
        request->by_kernel = true;
        request->account = (uid_t)account;
    }
    request->seconds = START_SECONDS;
    return (numbers->seconds == NULL ||
            parse_number(numbers->seconds, INT_MAX / 1000, &request->seconds)) &&
           parse_number(numbers->job, UINT_MAX, &request->job) &&
           parse_user(numbers->uid, numbers->gid, numbers->groups, &request->user);
}

/* What is written to the image's files goes into the user's layer. */
static bool use_layer(struct request *request)
{
    const struct keep *keep = &request->keep;
    char *layer = NULL;

    request->keep.job = request->job;
    request->keep.claim = -1;
    if (keep->path == NULL)
        return true;
    if (keep->folder == NULL || !is_folder(keep->folder) ||
        asprintf(&layer, "%s/%u/%s%s", keep->path, request->user.uid, keep->folder,
                 request->is_frozen ? ":ro" : "") < 0)
        return false;
    request->overlay = layer;
    return true;
}

static const struct option OPTIONS[] = {
    {"uid", 1, NULL, 'u'},        {"gid", 1, NULL, 'g'},      {"groups", 1, NULL, 'G'},
    {"job", 1, NULL, 'j'},        {"step", 1, NULL, 'p'},     {"image", 1, NULL, 'i'},
    {"name", 1, NULL, 'n'},       {"node", 1, NULL, 'N'},     {"workdir", 1, NULL, 'w'},
    {"apptainer", 1, NULL, 'a'},  {"holder", 1, NULL, 'h'},   {"script", 1, NULL, 's'},
    {"kernel", 1, NULL, 'k'},     {"start-in", 1, NULL, 'd'}, {"overlay", 1, NULL, 'o'},
    {"writable", 0, NULL, 'W'},   {"no-home", 0, NULL, 'H'},  {"root", 0, NULL, 'r'},
    {"entrypoint", 1, NULL, 'e'}, {"bind", 1, NULL, 'b'},     {"hide", 1, NULL, 'x'},
    {"mounts", 1, NULL, 'm'},     {"unshare", 1, NULL, 'U'},  {"entrypoint-log", 0, NULL, 'l'},
    {"seconds", 1, NULL, 'S'},    {"key", 1, NULL, 'K'},      {"layers", 1, NULL, 'L'},
    {"folder", 1, NULL, 'F'},     {"about", 1, NULL, 'A'},    {"told", 1, NULL, 'T'},
    {"new", 0, NULL, 'E'},        {"named", 0, NULL, 'M'},    {"frozen", 0, NULL, 'z'},
    {NULL, 0, NULL, 0},
};

/* Where a word is put away as it is; NULL for an option that is no such word. */
static const char **place_of(int option, struct request *request, struct numbers *numbers)
{
    switch (option) {
    case 'u': return &numbers->uid;
    case 'g': return &numbers->gid;
    case 'j': return &numbers->job;
    case 'k': return &numbers->account;
    case 'S': return &numbers->seconds;
    case 'p': return &request->step;
    case 'i': return &request->image;
    case 'n': return &request->name;
    case 'N': return &request->node;
    case 'w': return &request->workdir;
    case 'a': return &request->apptainer;
    case 'h': return &request->holder;
    case 's': return &request->script;
    case 'd': return &request->start_in;
    case 'o': return &request->overlay;
    case 'K': return &request->keep.key;
    case 'L': return &request->keep.path;
    case 'F': return &request->keep.folder;
    case 'A': return &request->keep.about;
    case 'T': return &request->keep.told;
    default: return NULL;
    }
}

/* Where it is noted that an option without a word was given; NULL for one with a word. */
static bool *switch_of(int option, struct request *request)
{
    switch (option) {
    case 'W': return &request->is_writable;
    case 'H': return &request->has_no_home;
    case 'r': return &request->inside.as_root;
    case 'l': return &request->shows_entrypoint;
    case 'E': return &request->keep.is_new;
    case 'M': return &request->keep.must_claim;
    case 'z': return &request->is_frozen;
    default: return NULL;
    }
}

bool parse_starter(int argc, char **argv, struct request *request)
{
    struct numbers numbers = {.uid = NULL};
    char *mounts = NULL;
    bool is_right = true;

    for (int option; is_right && (option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
        const char **place = place_of(option, request, &numbers);
        bool *is_given = switch_of(option, request);
        if (place != NULL)
            *place = optarg;
        else if (is_given != NULL)
            *is_given = true;
        else
            switch (option) {
            case 'G': numbers.groups = optarg; break;
            case 'e': request->entrypoint = optarg; break;
            case 'm': mounts = optarg; break;
            case 'x': add_words(&request->hidden, optarg, NULL); break;
            case 'b': is_right = add_bind(request, optarg); break;
            case 'U': is_right = parse_namespaces(optarg, &request->inside.namespaces); break;
            default: is_right = false;
            }
    }
    return is_right && request->image && request->name && request->node && request->workdir &&
           request->apptainer && request->holder && parse_numbers(&numbers, request) &&
           add_mounts(request, mounts) && use_layer(request) && !request->hidden.is_short;
}
