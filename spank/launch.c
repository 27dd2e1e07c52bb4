/* See launch.h. */
#define _GNU_SOURCE
#include "launch.h"

#include "common.h"

#include <limits.h>
#include <slurm/slurm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The next line of `text` that begins with `key`, as a copy of what follows; NULL after the last.
 * `text` moves on. */
static char *next_line(const char **text, const char *key)
{
    while (**text != '\0') {
        size_t length = strcspn(*text, "\n");
        const char *line = *text;
        *text += length + (line[length] == '\n');
        if (strncmp(line, key, strlen(key)) == 0)
            return strndup(line + strlen(key), length - strlen(key));
    }
    return NULL;
}

static void add_lines(struct argv *argv, const char *text, const char *key, const char *option)
{
    for (char *value; (value = next_line(&text, key)) != NULL; free(value))
        add_words(argv, option, value, NULL);
}

static bool is_yes(const struct launch *launch, enum word word)
{
    return launch->words[word] != NULL && strcmp(launch->words[word], "yes") == 0;
}

/* The user's word goes before the site's. */
static bool has_home(const struct launch *launch)
{
    return launch->words[HOME] != NULL ? is_yes(launch, HOME)
                                       : strstr(launch->entry->text, "\nhome=no\n") == NULL;
}

static void add_switches(const struct launch *launch, struct argv *argv)
{
    if (!has_home(launch))
        add_words(argv, "--no-home", NULL);
    if (is_yes(launch, ROOT))
        add_words(argv, "--root", NULL);
    if (is_yes(launch, WRITABLE))
        add_words(argv, "--writable", NULL);
    if (is_yes(launch, ENTRYPOINT))
        add_lines(argv, launch->entry->text, "entrypoint=", "--entrypoint");
    if (is_yes(launch, ENTRYPOINT_LOG))
        add_words(argv, "--entrypoint-log", NULL);
}

static void add_account(const struct launch *launch, struct argv *argv)
{
    struct identity account = {.uid = 0};

    /* Only what the store's account has written may be given to the kernel. */
    if (launch->entry->by_kernel && find_identity(launch->site->account, 0, &account)) {
        add_words(argv, "--kernel", NULL);
        add_word(argv, "%u", account.uid);
    }
}

static void add_asked(const struct launch *launch, struct argv *argv)
{
    const struct {
        const char *option, *value;
    } asked[] = {{"--mounts", launch->words[MOUNTS]},
                 {"--start-in", launch->words[WORKDIR]},
                 {"--unshare", launch->words[UNSHARE]},
                 {"--script", launch->script}};

    for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++)
        if (asked[i].value != NULL)
            add_words(argv, asked[i].option, asked[i].value, NULL);
}

bool write_launch(const struct launch *launch, struct argv *argv, const char **why)
{
    static char groups[1 << 16];

    if (!write_groups(launch->user, groups, sizeof(groups))) {
        *why = "the user is in too many groups";
        return false;
    }
    add_word(argv, "%s/starter", launch->site->libexec);
    add_words(argv, "--groups", groups, "--image", launch->entry->image, "--name",
              launch->words[IMAGE], "--node", launch->node, "--workdir", launch->workdir,
              "--apptainer", launch->site->apptainer, "--uid", NULL);
    add_word(argv, "%u", launch->user->uid);
    add_words(argv, "--gid", NULL);
    add_word(argv, "%u", launch->user->gid);
    add_words(argv, "--job", NULL);
    add_word(argv, "%u", launch->job->id);
    add_words(argv, "--step", launch->script != NULL ? "batch" : NULL, NULL);
    if (launch->script == NULL)
        add_word(argv, "%u", launch->job->step);
    add_words(argv, "--holder", NULL);
    add_word(argv, "%s/holder", launch->site->libexec);
    add_switches(launch, argv);
    add_account(launch, argv);
    add_lines(argv, launch->entry->text, "bind=", "--bind");
    add_lines(argv, launch->entry->text, "hide=", "--hide");
    add_asked(launch, argv);
    *why = "there is no memory";
    return !argv->is_short;
}

/* With contain_spank this is a clone whose working directory is /: the parent has the step's. */
void read_workdir(char *path, size_t size)
{
    char link[64];
    ssize_t length;

    if (getcwd(path, size) != NULL && strcmp(path, "/") != 0)
        return;
    (void)snprintf(link, sizeof(link), "/proc/%d/cwd", (int)getppid());
    if ((length = readlink(link, path, size - 1)) > 0)
        path[length] = '\0';
    if (length <= 0 || getppid() == 1)
        (void)snprintf(path, size, "/");
}

/* The batch script that a `sbatch --container-image` wants inside: Slurm's own copy of it. */
const char *batch_script(spank_t spank)
{
    char **command = NULL;
    uint32_t step = 0;
    int count = 0;

    if (spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS ||
        step != SLURM_BATCH_SCRIPT ||
        spank_get_item(spank, S_JOB_ARGV, &count, &command) != ESPANK_SUCCESS || count < 1)
        return NULL;
    return command[0];
}

static void tell(FILE *file, const char *key, const char *value)
{
    if (value != NULL && value[0] != '\0')
        (void)fprintf(file, "%s%s%c", key, value, '\0');
}

/* One entry after the other, NUL-separated: what the joiner is told, an empty one, the image's
 * variables, those of the node. */
bool complete_environment(const struct launch *launch, struct container *container)
{
    const char *text = launch->entry->text;
    char *blob = NULL, *own = next_line(&(const char *){text}, "workdir=");
    char *order = next_line(&(const char *){text}, "renumber=");
    size_t size = 0;
    FILE *file = open_memstream(&blob, &size);
    bool is_whole;

    if (file == NULL)
        return false;
    tell(file, "workdir=", launch->words[WORKDIR]);
    tell(file, "own=", own);
    tell(file, "env=", launch->words[ENV]);
    tell(file, "unshare=", launch->words[UNSHARE]);
    tell(file, "renumber=", launch->job->has_node_numbers ? order : NULL);
    tell(file, "root=", is_yes(launch, ROOT) ? "yes" : NULL);
    (void)fputc('\0', file);
    (void)fwrite(container->environment, 1, container->environment_size, file);
    for (char *value; (value = next_line(&text, "setenv=")) != NULL; free(value))
        tell(file, "", value);
    free(own);
    free(order);
    is_whole = !ferror(file);
    is_whole = fclose(file) == 0 && is_whole && size <= ENVIRONMENT_SIZE;
    container->environment = blob;
    container->environment_size = size;
    return is_whole;
}
