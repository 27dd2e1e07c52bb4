/* See names.h. */
#define _GNU_SOURCE
#include "names.h"

#include "common.h"
#include "layers.h"
#include "stage.h"
#include "ticket.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGUMENTS 24

enum flag { AUTO, CREATE, EXEC, NO_EXEC, FLAGS };

static const char *const flags[FLAGS] = {"auto", "create", "exec", "no_exec"};

static bool parse_word(const char *word, char name[KEY_SIZE], enum flag *flag)
{
    const char *end = strchr(word, ':');
    int length = end != NULL ? (int)(end - word) : (int)strlen(word);

    *flag = AUTO;
    if (length >= KEY_SIZE)
        return false;
    (void)snprintf(name, KEY_SIZE, "%.*s", length, word);
    for (int i = 0; end != NULL && i <= FLAGS; i++) {
        if (i == FLAGS)
            return false;
        *flag = (enum flag)i;
        if (strcmp(end + 1, flags[i]) == 0)
            break;
    }
    return is_container_name(name);
}

const char *find_wrong_name(const char *word)
{
    char name[KEY_SIZE];
    enum flag flag;

    return parse_word(word, name, &flag) ? NULL : word;
}

/* JOB.STEP, as a container without a name of its own is called. */
static bool is_step(const char *name)
{
    const char *step = name + strspn(name, "0123456789");

    if (step == name || *step != '.' || step[1] == '\0')
        return false;
    return step[1 + strspn(step + 1, "0123456789")] == '\0' || strcmp(step, ".batch") == 0;
}

static enum found refuse(struct named *named, const char *hint, const char *format,
                         const char *value, const char *other)
{
    (void)snprintf(named->what, sizeof(named->what), format, value, other);
    keep_shown(named->what);
    named->hint = hint;
    return FOUND_WRONG;
}

/* Start the finder as root; its exit code, -1 when it did not run to its end. */
static int run_finder(const char *action, const struct identity *user, const struct site *site,
                      const char *const more[], char *output, size_t *size)
{
    static char groups[1 << 16];
    char finder[PATH_MAX], uid[16], gid[16];
    const char *argv[ARGUMENTS] = {finder, action, "--uid", uid, "--gid", gid, "--groups", groups};
    size_t count = 8;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), code;

    (void)snprintf(finder, sizeof(finder), "%.4000s/finder", site->libexec);
    (void)snprintf(uid, sizeof(uid), "%u", user->uid);
    (void)snprintf(gid, sizeof(gid), "%u", user->gid);
    if (!write_groups(user, groups, sizeof(groups)))
        return -1;
    while (*more != NULL && count < ARGUMENTS - 1)
        argv[count++] = *more++;
    code = run_stage(NULL, (char *const *)argv, null, output, size);
    (void)close(null);
    return code;
}

static bool find_running(const struct named *named, const char *other, const struct identity *user,
                         const struct site *site, char *output, size_t *size)
{
    const char *const more[] = {"--key", named->key, "--key", other, NULL};

    return run_finder("running", user, site, more, output, size) == 0 && *size > 0;
}

/* The node's settings say where layers are kept, and how long. */
static bool read_place(struct named *named, const char *name, const struct site *site,
                       const struct job *job, char *output)
{
    struct identity account = {.uid = 0};
    const char *const argv[] = {site->python, "-I", "-m", "hpcimg", "containers", NULL};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), code = -1;
    size_t size = 0;
    char keep[16] = "";

    if (find_identity(site->account, 0, &account) && account.uid != 0)
        code = run_stage(&account, (char *const *)argv, null, output, &size);
    (void)close(null);
    if (code != 0 || !parse_line(output, "path=", named->place, sizeof(named->place)) ||
        !parse_line(output, "keep=", keep, sizeof(keep)))
        return false;
    if (strcmp(keep, "always") == 0 && name[0] != '.')
        (void)snprintf(named->folder, sizeof(named->folder), "always/%.128s", name);
    else
        (void)snprintf(named->folder, sizeof(named->folder), "jobs/%u/%.128s", job->id, name);
    (void)snprintf(named->layer, sizeof(named->layer), "%.3600s/%u/%s", named->place, job->user,
                   named->folder);
    if (name[0] != '.')
        write_key(named->key, job->user, name, job->id, strcmp(keep, "always") != 0);
    return true;
}

/* Other spellings of one image are not known to be one. */
static bool is_same_image(const char *one, const char *other)
{
    static const char scheme[] = "docker://";

    if (strncmp(one, scheme, strlen(scheme)) == 0)
        one += strlen(scheme);
    if (strncmp(other, scheme, strlen(scheme)) == 0)
        other += strlen(scheme);
    return strcmp(one, other) == 0;
}

static enum found check_image(struct named *named, const char *image, enum found found)
{
    if (image == NULL || is_same_image(image, named->image))
        return found;
    return refuse(named, "leave the image out, or take another name",
                  "the container of that name is of \"%.400s\", not of \"%.400s\"", named->image,
                  image);
}

static enum found join(struct named *named, const char *name, enum flag flag, const char *image,
                       const char *output)
{
    if (flag == CREATE)
        return refuse(named, "join it with :exec, or take another name",
                      "a container \"%s\" runs on this node already%s", name, "");
    if (flag == NO_EXEC)
        return refuse(named, "join it with :exec, or wait until it has ended",
                      "the container \"%s\" runs, and what it has can be used by one alone%s", name,
                      "");
    if (!parse_line(output, "image=", named->image, sizeof(named->image)))
        return refuse(named, "tell the site", "what runs as \"%s\" is not in order%s", name, "");
    named->layer[0] = '\0';
    return check_image(named, image, FOUND_RUNNING);
}

static enum found read_kept(struct named *named, const char *name, enum flag flag,
                            const char *image, const char *output)
{
    if (flag == CREATE)
        return refuse(named, "start it again with :no_exec, or take another name",
                      "there is a container \"%s\" on this node already%s", name, "");
    if (!parse_line(output, "image=", named->image, sizeof(named->image)) ||
        !parse_line(output, "reference=", named->reference, sizeof(named->reference)) ||
        !parse_line(output, "stamp=", named->stamp, sizeof(named->stamp)))
        return refuse(named, "take another name", "what the container \"%s\" left is damaged%s",
                      name, "");
    return check_image(named, image, FOUND_KEPT);
}

enum found find_named(struct named *named, const char *word, const char *image,
                      const struct identity *user, const struct site *site, const struct job *job,
                      char *output, size_t *size)
{
    char name[KEY_SIZE], other[KEY_SIZE];
    const char *const more[] = {"--path", named->place, "--folder", named->folder, NULL};
    enum flag flag;
    int code;

    if (!parse_word(word, name, &flag))
        return refuse(named, NAME_HINT, "\"%.64s\" is no " NAME_FORM "%s", word, "");
    write_key(named->key, user->uid, name, job->id, true);
    write_key(other, user->uid, name, 0, false);
    if (is_step(name))
        write_step_key(other, user->uid, name);
    if (find_running(named, other, user, site, output, size))
        return join(named, name, flag, image, output);
    if (flag == EXEC || is_step(name))
        return refuse(named, "start it first, or look with squeue --steps where it runs",
                      "no container \"%s\" of yours runs on this node%s", name, "");
    if (!read_place(named, name, site, job, output))
        return refuse(named, "look at the node's syslog, and try there: hpcimg containers",
                      "where containers are kept is not known: \"%s\"%s", name, "");
    code = run_finder("look", user, site, more, output, size);
    if (code == 0)
        return read_kept(named, name, flag, image, output);
    if (code != FINDER_NOTHING)
        return refuse(named, "see the line before", "the container \"%s\" was not found%s", name,
                      "");
    if (flag == NO_EXEC || image == NULL)
        return refuse(named, "create it with --container-image=NAME",
                      "there is no container \"%s\" on this node%s", name, "");
    named->is_new = true;
    return FOUND_NOTHING;
}

enum found find_unnamed(struct named *named, bool wants_layer, bool is_batch,
                        const struct identity *user, const struct site *site, const struct job *job,
                        char *output)
{
    char step[64], folder[80];

    if (is_batch)
        (void)snprintf(step, sizeof(step), "%u.batch", job->id);
    else
        (void)snprintf(step, sizeof(step), "%u.%u", job->id, job->step);
    write_step_key(named->key, user->uid, step);
    if (!wants_layer)
        return FOUND_NOTHING;
    (void)snprintf(folder, sizeof(folder), ".%s", step);
    if (!read_place(named, folder, site, job, output))
        return refuse(named, "look at the node's syslog, and try there: hpcimg containers",
                      "where containers are kept is not known%s%s", "", "");
    named->is_new = named->is_brief = true;
    return FOUND_NOTHING;
}

bool make_named(struct named *named, const struct identity *user, const struct site *site,
                const struct job *job, char *output)
{
    char number[16];
    const char *const more[] = {"--path", named->place, "--folder", named->folder,
                                "--job",  number,       NULL};
    size_t size = 0;

    (void)snprintf(number, sizeof(number), "%u", job->id);
    return !named->is_new || run_finder("make", user, site, more, output, &size) == 0;
}

void note_named(const struct named *named, const char *image, const char *reference,
                const char *stamp, const struct identity *user, const struct site *site,
                char *output)
{
    static char about[ABOUT_LIMIT];
    const char *const more[] = {"--path",  named->place, "--folder", named->folder,
                                "--about", about,        NULL};
    size_t size = 0;

    if (!named->is_new || named->is_brief)
        return;
    (void)snprintf(about, sizeof(about), "image=%s\nreference=%s\nstamp=%s\n", image, reference,
                   stamp);
    (void)run_finder("note", user, site, more, output, &size);
}

void drop_named(const struct named *named, const struct identity *user, const struct site *site)
{
    const char *const more[] = {"--path", named->place, "--folder", named->folder, NULL};
    char *output = named->is_brief ? malloc(STAGE_OUTPUT + 1) : NULL;
    size_t size = 0;

    if (output != NULL)
        (void)run_finder("remove", user, site, more, output, &size);
    free(output);
}
