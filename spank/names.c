/* See names.h. */
#define _GNU_SOURCE
#include "names.h"

#include "common.h"
#include "options.h"
#include "stage.h"
#include "ticket.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGUMENTS 24
#define NODES_OWN "the node" /* and no platform that was named */

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

__attribute__((format(printf, 3, 4))) static enum found
refuse(struct named *named, const char *hint, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    (void)vsnprintf(named->what, sizeof(named->what), format, list);
    va_end(list);
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

/* Of one image there is a build for each platform. */
static enum found check_image(struct named *named, const char *const *asked, const char *output,
                              enum found found)
{
    const char *image = asked[IMAGE], *platform = asked[PLATFORM];

    if (image != NULL && !is_same_image(image, named->image))
        return refuse(named, "leave the image out, or take another name",
                      "the container of that name is of \"%.400s\", not of \"%.400s\"",
                      named->image, image);
    (void)parse_line(output, "platform=", named->platform, sizeof(named->platform));
    if ((image == NULL && platform == NULL) ||
        strcmp(platform != NULL ? platform : "", named->platform) == 0)
        return found;
    return refuse(named, "take another name, or the platform that it was created with",
                  "the container of that name has the build for \"%s\", not for \"%.159s\"",
                  named->platform[0] != '\0' ? named->platform : NODES_OWN,
                  platform != NULL ? platform : NODES_OWN);
}

static enum found join(struct named *named, const char *name, enum flag flag,
                       const char *const *asked, const char *output)
{
    if (flag == CREATE)
        return refuse(named, "join it with :exec, or take another name",
                      "a container \"%s\" runs on this node already", name);
    if (flag == NO_EXEC)
        return refuse(named, "join it with :exec, or wait until it has ended",
                      "the container \"%s\" runs, and what it has can be used by one alone", name);
    if (!parse_line(output, "asked=", named->image, sizeof(named->image)))
        return refuse(named, "tell the site", "what runs as \"%s\" is not in order", name);
    return check_image(named, asked, output, FOUND_RUNNING);
}

static enum found read_kept(struct named *named, const char *name, enum flag flag,
                            const char *const *asked, const char *output)
{
    if (flag == CREATE)
        return refuse(named, "start it again with :no_exec, or take another name",
                      "there is a container \"%s\" on this node already", name);
    if (!parse_line(output, "image=", named->image, sizeof(named->image)) ||
        !parse_line(output, "reference=", named->reference, sizeof(named->reference)) ||
        !parse_line(output, "stamp=", named->stamp, sizeof(named->stamp)) ||
        words[IMAGE].find_wrong(named->image) != NULL ||
        (named->reference[0] != '\0' && words[IMAGE].find_wrong(named->reference) != NULL))
        return refuse(named, "take another name", "what the container \"%s\" left is damaged",
                      name);
    return check_image(named, asked, output, FOUND_KEPT);
}

static enum found find_named(struct named *named, const char *const *asked,
                             const struct identity *user, const struct site *site,
                             const struct job *job, char *output, size_t *size)
{
    const char *word = asked[NAME];
    char name[KEY_SIZE], other[KEY_SIZE];
    const char *const more[] = {"--path", named->place, "--folder", named->folder, NULL};
    enum flag flag;
    int code;

    if (!parse_word(word, name, &flag))
        return refuse(named, NAME_HINT, "\"%.64s\" is no " NAME_FORM, word);
    write_key(named->key, user->uid, name, job->id, true);
    write_key(other, user->uid, name, 0, false);
    if (is_step(name))
        write_step_key(other, user->uid, name);
    if (find_running(named, other, user, site, output, size))
        return join(named, name, flag, asked, output);
    if (flag == EXEC || is_step(name))
        return refuse(named, "start it first, or look with squeue --steps where it runs",
                      "no container \"%s\" of yours runs on this node", name);
    if (!read_place(named, name, site, job, output))
        return refuse(named, "look at the node's syslog, and try there: hpcimg containers",
                      "where containers are kept is not known: \"%s\"", name);
    code = run_finder("look", user, site, more, output, size);
    if (code == 0)
        return read_kept(named, name, flag, asked, output);
    if (code != FINDER_NOTHING)
        return refuse(named, "see the line before", "the container \"%s\" was not found", name);
    if (flag == NO_EXEC || asked[IMAGE] == NULL)
        return refuse(named, "create it with --container-image=NAME",
                      "there is no container \"%s\" on this node", name);
    named->is_new = true;
    return FOUND_NOTHING;
}

static enum found find_unnamed(struct named *named, bool wants_layer, bool is_batch,
                               const struct identity *user, const struct site *site,
                               const struct job *job, char *output)
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
                      "where containers are kept is not known");
    named->is_new = named->is_brief = true;
    return FOUND_NOTHING;
}

/* What is joined is as it is. */
static void warn_idle(const char *const *asked, const char *node)
{
    static const enum word idle[] = {MOUNTS, HOME, WRITABLE, UNSHARE, ROOT};

    for (size_t i = 0; i < sizeof(idle) / sizeof(*idle); i++)
        if (asked[idle[i]] != NULL)
            slurm_spank_log("hpcimg: %s: warning: %s changes nothing in a container that runs",
                            node, option_name(idle[i]));
}

static bool is_no(const char *word)
{
    return word != NULL && strcmp(word, "no") == 0;
}

enum found find_container(struct named *named, const char *const *asked, bool is_batch,
                          const struct identity *user, const struct site *site,
                          const struct job *job, const char *node, char *output, size_t *size)
{
    bool wants_layer = asked[SAVE] != NULL && !is_no(asked[WRITABLE]);
    enum found found;

    *named = (struct named){.has_name = asked[NAME] != NULL};
    if (!named->has_name)
        return find_unnamed(named, wants_layer, is_batch, user, site, job, output);
    found = find_named(named, asked, user, site, job, output, size);
    if (found == FOUND_RUNNING)
        warn_idle(asked, node);
    return found;
}

/* A word of the step that started it, whose tasks the joining ones are to be like. */
static const char *read_kept_word(const char *text, const char *key)
{
    char value[64];

    return parse_line(text, key, value, sizeof(value)) && value[0] != '\0' ? strdup(value) : NULL;
}

bool join_running(char *output, size_t size, const char **asked, struct container *container)
{
    char *result = strstr(output, "\nanchor ");

    asked[ROOT] = read_kept_word(output, "root=");
    asked[UNSHARE] = read_kept_word(output, "unshare=");
    if (result == NULL ||
        !parse_container(result + 1, size - (size_t)(result + 1 - output), container))
        return false;
    container->keeper_count = 0;
    return true;
}

/* A tag may move and a layer may not: it lies on the very image that the tag was. */
static void describe_layer(const char *image, const char *platform, const char *text, char *about,
                           size_t size)
{
    char reference[NAME_LENGTH + 160] = "", digest[160] = "", stamp[64] = "", *at;

    (void)parse_line(text, "digest=", digest, sizeof(digest));
    (void)parse_line(text, "stamp=", stamp, sizeof(stamp));
    if (digest[0] != '\0' && parse_line(text, "reference=", reference, NAME_LENGTH)) {
        if ((at = strstr(reference, "@sha")) != NULL)
            *at = '\0';
        (void)snprintf(reference + strlen(reference), sizeof(reference) - strlen(reference), "@%s",
                       digest);
    }
    (void)snprintf(about, size, "image=%s\nreference=%s\nstamp=%s\nplatform=%s\n", image, reference,
                   stamp, platform);
}

void add_named(const struct named *named, const char *const *asked, const char *text,
               struct argv *argv)
{
    const char *platform = asked[PLATFORM] != NULL ? asked[PLATFORM] : named->platform;
    char about[PATH_MAX + NAME_LENGTH + 768];

    add_words(argv, "--key", named->key, "--told", NULL);
    add_word(argv, "root=%s\nunshare=%s\nplatform=%s\n%s", asked[ROOT] != NULL ? asked[ROOT] : "",
             asked[UNSHARE] != NULL ? asked[UNSHARE] : "", platform, text);
    if (named->has_name)
        add_words(argv, "--named", NULL);
    if (named->folder[0] == '\0')
        return;
    add_words(argv, "--layers", named->place, "--folder", named->folder, NULL);
    if (is_no(asked[WRITABLE]))
        add_words(argv, "--frozen", NULL);
    if (named->is_new)
        add_words(argv, "--new", NULL);
    if (!named->is_new || named->is_brief)
        return;
    describe_layer(asked[IMAGE], platform, text, about, sizeof(about));
    add_words(argv, "--about", about, NULL);
}

bool is_unchanged(const struct named *named, const char *text)
{
    char stamp[64] = "";

    (void)parse_line(text, "stamp=", stamp, sizeof(stamp));
    return strcmp(stamp, named->stamp) == 0;
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
