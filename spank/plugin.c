/* The SPANK plugin: its options, and which hook does what. It starts programs and hands descriptors
 * on; it never parses a manifest, picks an image or touches the store. Built for the Slurm release
 * whose headers it was compiled with.
 *
 * plugstack.conf: required /usr/local/lib/hpcimg/hpcimg.so [account=hpcimg] [prefix=container]
 *                 [python=/opt/hpcimg/bin/python] [apptainer=/usr/bin/apptainer] [libexec=DIR] */
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

static struct site site = {"hpcimg", "container", PYTHON, APPTAINER, LIBEXEC};

static char option_name[64], option_variable[128];
static char *option_image; /* --container-image of this component or step */

static int take_option(int value, const char *argument, int remote)
{
    (void)value;
    (void)remote;
    free(option_image);
    option_image = strdup(argument);
    return option_image != NULL ? 0 : -1;
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
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        size_t length = strlen(known[i].key);
        if (strncmp(argument, known[i].key, length) != 0)
            continue;
        return snprintf(known[i].value, known[i].size, "%s", argument + length) <
               (int)known[i].size;
    }
    return false;
}

static bool is_submit_side(void)
{
    return spank_context() == S_CTX_LOCAL || spank_context() == S_CTX_ALLOCATOR;
}

EXPORT int slurm_spank_init(spank_t spank, int argc, char **argv)
{
    static struct spank_option option = {
        .arginfo = "NAME",
        .usage =
            "[hpcimg] run in the build of image NAME that fits the node; \"none\" for the host",
        .has_arg = 1,
        .cb = take_option,
    };

    for (int i = 0; i < argc; i++) {
        if (!read_argument(argv[i])) {
            slurm_error("hpcimg: plugstack.conf: unknown or too long argument \"%s\"", argv[i]);
            return -1;
        }
    }
    (void)snprintf(option_name, sizeof(option_name), "%s-image", site.prefix);
    option.name = option_name;
    write_option_variable(option_name, option_variable, sizeof(option_variable));
    if (spank_option_register(spank, &option) != ESPANK_SUCCESS) {
        slurm_error("hpcimg: could not register --%s: is Pyxis loaded too? see prefix=",
                    option_name);
        return -1;
    }
    if (is_submit_side())
        request_init(option_variable);
    return 0;
}

EXPORT int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
    int code = 0;

    (void)argc;
    (void)argv;
    if (is_submit_side())
        code = request_complete(spank, option_image);
    else if (spank_context() == S_CTX_REMOTE)
        step_request(spank, option_image, option_variable);
    /* The next component of a heterogeneous command has an option of its own. */
    free(option_image);
    option_image = NULL;
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
