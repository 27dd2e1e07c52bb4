/* The SPANK plugin: its options, and which hook does what. It starts programs and hands descriptors
 * on; it never parses a manifest, picks an image or touches the store. Built for the Slurm release
 * whose headers it was compiled with.
 *
 * plugstack.conf: required /usr/local/lib/hpcimg/hpcimg.so [account=hpcimg] [prefix=container]
 *                 [python=/opt/hpcimg/bin/python] [apptainer=/usr/bin/apptainer] [libexec=DIR]
 *                 [pin=submit|start] */
#define _GNU_SOURCE
#include "request.h"
#include "step.h"

#include <slurm/slurm.h>
#include <slurm/spank.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC visibility push(default)
SPANK_PLUGIN(hpcimg, 1)
#pragma GCC visibility pop

#define EXPORT __attribute__((visibility("default")))

/* `hpcimg doctor` reads it in the file: which release this is of, and what counts unless
 * plugstack.conf says more. */
__attribute__((used)) static const char built[] =
    "hpcimg-built version=" VERSION " python=" PYTHON " apptainer=" APPTAINER " libexec=" LIBEXEC;

static struct site site = {"hpcimg", "container", PYTHON, APPTAINER, LIBEXEC, "submit"};

/* Our options; the names begin with the site's prefix, and `value` is of this component or step. */
static struct {
    const char *word, *argument, *usage;
    char name[64], variable[128], *value;
} options[] = {
    {.word = "image",
     .argument = "NAME",
     .usage = "[hpcimg] run in the build of image NAME that fits the node; \"none\" for the host"},
    {.word = "match",
     .argument = "WORD",
     .usage = "[hpcimg] how a job's nodes choose their builds: " MATCH_WORDS},
    {.word = "pull",
     .argument = "WORD",
     .usage = "[hpcimg] when a registry is asked what a tag stands for: " PULL_WORDS},
};
enum { IMAGE, MATCH, PULL, OPTIONS };
_Static_assert(sizeof(options) / sizeof(*options) == OPTIONS, "each option has a number");

static int take_option(int number, const char *argument, int remote)
{
    (void)remote;
    free(options[number].value);
    options[number].value = strdup(argument);
    return options[number].value != NULL ? 0 : -1;
}

static int register_options(spank_t spank)
{
    for (int i = 0; i < OPTIONS; i++) {
        struct spank_option option = {
            .name = options[i].name,
            .arginfo = (char *)options[i].argument,
            .usage = (char *)options[i].usage,
            .has_arg = 1,
            .val = i,
            .cb = take_option,
        };
        (void)snprintf(options[i].name, sizeof(options[i].name), "%s-%s", site.prefix,
                       options[i].word);
        write_option_variable(options[i].name, options[i].variable, sizeof(options[i].variable));
        if (spank_option_register(spank, &option) == ESPANK_SUCCESS)
            continue;
        slurm_error("hpcimg: could not register --%s: is Pyxis loaded too? see prefix=",
                    options[i].name);
        return -1;
    }
    return 0;
}

static bool read_argument(const char *argument)
{
    const struct {
        const char *key;
        char *value;
        size_t size;
    } known[] = {
        {"account=", site.account, sizeof(site.account)},
        {"prefix=", site.prefix, sizeof(site.prefix)},
        {"python=", site.python, sizeof(site.python)},
        {"apptainer=", site.apptainer, sizeof(site.apptainer)},
        {"libexec=", site.libexec, sizeof(site.libexec)},
        {"pin=", site.pin, sizeof(site.pin)},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        size_t length = strlen(known[i].key);
        if (strncmp(argument, known[i].key, length) != 0)
            continue;
        return snprintf(known[i].value, known[i].size, "%s", argument + length) <
                   (int)known[i].size &&
               (strcmp(site.pin, "submit") == 0 || strcmp(site.pin, "start") == 0);
    }
    return false;
}

static bool is_submit_side(void)
{
    return spank_context() == S_CTX_LOCAL || spank_context() == S_CTX_ALLOCATOR;
}

EXPORT int slurm_spank_init(spank_t spank, int argc, char **argv)
{
    const struct asked variables = {options[IMAGE].variable, options[MATCH].variable,
                                    options[PULL].variable};

    for (int i = 0; i < argc; i++) {
        if (!read_argument(argv[i])) {
            slurm_error("hpcimg: plugstack.conf: unknown or wrong argument \"%s\"", argv[i]);
            return -1;
        }
    }
    if (register_options(spank) != 0)
        return -1;
    if (is_submit_side())
        request_init(&variables);
    return 0;
}

EXPORT int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
    const struct asked asked = {options[IMAGE].value, options[MATCH].value, options[PULL].value};
    const struct asked variables = {options[IMAGE].variable, options[MATCH].variable,
                                    options[PULL].variable};
    int code = 0;

    (void)argc;
    (void)argv;
    if (is_submit_side())
        code = request_complete(spank, &site, &asked);
    else if (spank_context() == S_CTX_REMOTE)
        step_request(spank, &asked, &variables);
    /* The next component of a heterogeneous command has options of its own. */
    for (int i = 0; i < OPTIONS; i++) {
        free(options[i].value);
        options[i].value = NULL;
    }
    /* Nothing is allocated yet, and an error would add two lines of Slurm's own to ours. */
    if (code != 0 && is_submit_side())
        exit(1);
    return code;
}

EXPORT int slurm_spank_user_init(spank_t spank, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    step_start(spank, &site);
    return 0; /* the joiner refuses: an error here would add Slurm's own lines to ours */
}

EXPORT int slurm_spank_task_init_privileged(spank_t spank, int argc, char **argv)
{
    (void)spank;
    (void)argc;
    (void)argv;
    step_open();
    return 0;
}

EXPORT int slurm_spank_task_post_fork(spank_t spank, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    step_adopt(spank);
    return 0;
}

EXPORT int slurm_spank_task_init(spank_t spank, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    step_join(spank, &site);
    return 0;
}

EXPORT int slurm_spank_task_exit(spank_t spank, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    step_task_ended(spank);
    return 0;
}
