/* See options.h. */
#define _GNU_SOURCE
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <slurm/slurm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Our options; what they are called begins with the site's prefix. */
static struct option {
    const char *name, *argument, *usage;
    enum word word;
    const char *value; /* what one without an argument says */
    char typed[48], variable[128];
} options[] = {
    {"image", "NAME|PATH",
     "run in the build of image NAME that fits the node; \"none\" for the host", IMAGE, NULL, "",
     ""},
    {"mounts", "SRC:DST[:FLAG+FLAG]", "show files of the host in the container, a list", MOUNTS,
     NULL, "", ""},
    {"workdir", "DIR", "start in this directory of the container", WORKDIR, NULL, "", ""},
    {"name", "NAME[:FLAG]", "name the container, so that other steps can use it", NAME, NULL, "",
     ""},
    {"save", "FILE", "write the container to FILE when the step has ended", SAVE, NULL, "", ""},
    {"mount-home", NULL, "show the home directory in the container", HOME, "yes", "", ""},
    {"no-mount-home", NULL, "do not show it", HOME, "no", "", ""},
    {"remap-root", NULL, "be root in the container, with no more rights on the host", ROOT, "yes",
     "", ""},
    {"no-remap-root", NULL, "be oneself in the container", ROOT, "no", "", ""},
    {"entrypoint", NULL, "run the image's entrypoint, once a node, before the tasks", ENTRYPOINT,
     "yes", "", ""},
    {"no-entrypoint", NULL, "do not run it", ENTRYPOINT, "no", "", ""},
    {"entrypoint-log", NULL, "show what the entrypoint prints", ENTRYPOINT_LOG, "yes", "", ""},
    {"writable", NULL, "let tasks change the image's files, until the step ends", WRITABLE, "yes",
     "", ""},
    {"readonly", NULL, "let nothing change them", WRITABLE, "no", "", ""},
    {"env", "NAME,NAME", "variables that are the job's where the image sets them too", ENV, NULL,
     "", ""},
    {"unshare", "net,ipc,uts", "namespaces that the container has of its own, a list", UNSHARE,
     NULL, "", ""},
    {"match", "WORD", "how a job's nodes choose: per-node, uniform or uniform-or-fail", MATCH, NULL,
     "", ""},
    {"pull", "WORD", "when a registry is asked what a tag means: missing, newer or always", PULL,
     NULL, "", ""},
    {"platform", "WORDS", "take the build for these words, as linux/amd64:broadwell", PLATFORM,
     NULL, "", ""},
};
#define OPTIONS (sizeof(options) / sizeof(*options))

/* What was said of a word, and of which option last; `other` is what contradicts it. */
static struct {
    char *value, *other;
    const struct option *by, *other_by;
} said[WORDS];

static bool holds_item(const char *list, const char *item)
{
    size_t length = strlen(item);

    for (const char *at = list; (at = strstr(at, item)) != NULL; at++)
        if ((at == list || at[-1] == ',') && (at[length] == '\0' || at[length] == ','))
            return true;
    return false;
}

static bool add_items(char **list, const char *items)
{
    char *more = NULL;

    if (holds_item(*list, items))
        return true;
    if (asprintf(&more, "%s,%s", *list, items) < 0)
        return false;
    free(*list);
    *list = more;
    return true;
}

/* Also sbatch calls this for what the script says, and after it for the command line, which wins
 * there as for all of Slurm's options. */
static int take_option(int number, const char *argument, int remote)
{
    const struct option *option = &options[number];
    const char *value = option->value != NULL ? option->value : argument;
    enum word word = option->word;
    bool replaces = strcmp(program_invocation_short_name, "sbatch") == 0;

    (void)remote;
    if (value == NULL)
        return -1;
    if (said[word].value != NULL && words[word].is_list && value[0] != '\0')
        return add_items(&said[word].value, value) ? 0 : -1;
    if (said[word].value != NULL && !replaces && strcmp(said[word].value, value) != 0) {
        free(said[word].other);
        said[word].other = said[word].value;
        said[word].other_by = said[word].by;
        said[word].value = NULL;
    }
    free(said[word].value);
    said[word].value = strdup(value);
    said[word].by = option;
    return said[word].value != NULL ? 0 : -1;
}

/* `no-` stands before the prefix. */
static void name_option(struct option *option, const char *prefix)
{
    bool is_no = strncmp(option->name, "no-", 3) == 0;

    (void)snprintf(option->typed, sizeof(option->typed), "--%s%s-%s", is_no ? "no-" : "", prefix,
                   option->name + (is_no ? 3 : 0));
    (void)snprintf(option->variable, sizeof(option->variable),
                   "SLURM_SPANK__SLURM_SPANK_OPTION_hpcimg_%s", option->typed + 2);
    for (char *c = option->variable; *c != '\0'; c++)
        if (*c == '-')
            *c = '_';
}

bool register_options(spank_t spank, const char *prefix)
{
    char usage[128];

    for (size_t i = 0; i < OPTIONS; i++) {
        struct option *option = &options[i];
        struct spank_option slurms = {
            .arginfo = (char *)option->argument,
            .usage = usage,
            .has_arg = option->argument != NULL,
            .val = (int)i,
            .cb = take_option,
        };
        name_option(option, prefix);
        slurms.name = option->typed + 2;
        (void)snprintf(usage, sizeof(usage), "[hpcimg] %s", option->usage);
        if (spank_option_register(spank, &slurms) == ESPANK_SUCCESS)
            continue;
        slurm_error("hpcimg: could not register %s: is Pyxis loaded too? see prefix=",
                    option->typed);
        return false;
    }
    return true;
}

const char *option_value(enum word word)
{
    return said[word].value;
}

static void write_typed(const struct option *option, const char *value, char *text, size_t size)
{
    if (option->value != NULL)
        (void)snprintf(text, size, "%s", option->typed);
    else
        (void)snprintf(text, size, "%s=%.64s", option->typed, value);
}

bool find_contradiction(enum word *word, char text[256])
{
    for (size_t i = 0; i < WORDS; i++) {
        char one[120], other[120];
        if (said[i].other == NULL)
            continue;
        *word = (enum word)i;
        write_typed(said[i].other_by, said[i].other, one, sizeof(one));
        write_typed(said[i].by, said[i].value, other, sizeof(other));
        (void)snprintf(text, 256, "\"%s\" and \"%s\"", one, other);
        return true;
    }
    return false;
}

void forget_options(void)
{
    for (size_t i = 0; i < WORDS; i++) {
        free(said[i].value);
        free(said[i].other);
        said[i].value = said[i].other = NULL;
    }
}

const char *option_name(enum word word)
{
    for (size_t i = 0; i < OPTIONS; i++)
        if (options[i].word == word)
            return options[i].typed;
    return "";
}

static bool is_any_of(const char *value, const char *const *known)
{
    for (; *known != NULL; known++)
        if (strcasecmp(value, *known) == 0)
            return true;
    return false;
}

/* A switch's twin says yes or no of its own option. */
static const char *read_switch(const struct option *option, const char *value)
{
    static const char *const yes[] = {"1", "yes", "true", "on", NULL};
    static const char *const no[] = {"0", "no", "false", "off", NULL};
    bool is_yes = strcmp(option->value, "yes") == 0;

    if (is_any_of(value, yes))
        return is_yes ? "yes" : "no";
    if (is_any_of(value, no))
        return is_yes ? "no" : "yes";
    return value;
}

static void name_twin(const struct option *option, const char *whose, char *name, size_t size)
{
    (void)snprintf(name, size, "%s_CONTAINER_%s", whose, option->name);
    for (char *c = name; *c != '\0'; c++)
        *c = (char)(*c == '-' ? '_' : toupper((unsigned char)*c));
}

static bool has_twin(const struct option *option)
{
    return strncmp(option->name, "no-", 3) != 0;
}

/* Two that contradict each other (writable and readonly) are put side by side, which is no value
 * that a word may have. */
static bool read_twins_of(const char *whose, enum word word, char *text, size_t size, char *name,
                          size_t name_size)
{
    text[0] = '\0';
    for (size_t i = 0; i < OPTIONS; i++) {
        char twin[64];
        const char *value;
        if (options[i].word != word || !has_twin(&options[i]))
            continue;
        name_twin(&options[i], whose, twin, sizeof(twin));
        value = getenv(twin);
        if (value == NULL || value[0] == '\0')
            continue;
        if (options[i].value != NULL)
            value = read_switch(&options[i], value);
        if (text[0] != '\0' && strcmp(text, value) == 0)
            continue;
        (void)snprintf(name, name_size, "%s", twin);
        (void)snprintf(text + strlen(text), size - strlen(text), "%s%s",
                       text[0] != '\0' ? " and " : "", value);
    }
    return text[0] != '\0';
}

bool read_twins(enum word word, char *text, size_t size, char *name, size_t name_size)
{
    return read_twins_of("HPCIMG", word, text, size, name, name_size) ||
           read_twins_of("PYXIS", word, text, size, name, name_size);
}

void clear_twins(void)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        char twin[64];
        name_twin(&options[i], "HPCIMG", twin, sizeof(twin));
        (void)unsetenv(twin);
        name_twin(&options[i], "PYXIS", twin, sizeof(twin));
        (void)unsetenv(twin);
        (void)unsetenv(options[i].variable);
    }
}

bool read_left_option(spank_t spank, enum word word, char *text, size_t size)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        if (options[i].word != word ||
            spank_getenv(spank, options[i].variable, text, (int)size) != ESPANK_SUCCESS)
            continue;
        if (options[i].value != NULL)
            (void)snprintf(text, size, "%s", options[i].value);
        return true;
    }
    return false;
}

/* A word as it was settled on the submit side; sbatch --export-file leaves only what Slurm itself
 * carries. An option may be the default of an outer command, so it goes last; but whether a batch
 * script itself goes into an image is said by the option alone. One that is too long is cut, and
 * found to be none when the step starts. */
const char *read_word(spank_t spank, enum word number, bool is_batch)
{
    static char value[VALUE_SIZE + 1];
    const struct wording *word = &words[number];
    bool is_settled = number != IMAGE || !is_batch;
    const char *option = option_value(number);

    value[0] = '\0';
    if (is_settled)
        (void)spank_getenv(spank, word->variable, value, sizeof(value));
    if (is_settled && value[0] == '\0' && word->carried != NULL)
        (void)spank_getenv(spank, word->carried, value, sizeof(value));
    if (value[0] == '\0' && option != NULL)
        (void)snprintf(value, sizeof(value), "%s", option);
    if (value[0] == '\0')
        (void)read_left_option(spank, number, value, sizeof(value));
    return value[0] != '\0' ? strdup(value) : NULL;
}
