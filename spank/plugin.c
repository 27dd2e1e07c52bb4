/* The SPANK plugin: which hook does what. It starts programs and hands descriptors
 * on; it never parses a manifest, picks an image or touches the store. Built for the Slurm release
 * whose headers it was compiled with.
 *
 * plugstack.conf: required /usr/local/lib/hpcimg/hpcimg.so [account=hpcimg] [prefix=container]
 *                 [python=/opt/hpcimg/bin/python] [apptainer=/usr/bin/apptainer] [libexec=DIR]
 *                 [pin=submit|start|always] */
#define _GNU_SOURCE
#include "options.h"
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

static bool is_pin_time(const char *word)
{
    return strcmp(word, "submit") == 0 || strcmp(word, "start") == 0 || strcmp(word, "always") == 0;
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
               is_pin_time(site.pin);
    }
    return false;
}

static bool is_submit_side(void)
{
    return spank_context() == S_CTX_LOCAL || spank_context() == S_CTX_ALLOCATOR;
}

EXPORT int slurm_spank_init(spank_t spank, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (!read_argument(argv[i])) {
            slurm_error("hpcimg: plugstack.conf: unknown or wrong argument \"%s\"", argv[i]);
            return -1;
        }
    }
    if (!register_options(spank, site.prefix))
        return -1;
    if (is_submit_side())
        request_init();
    return 0;
}

EXPORT int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
    int code = 0;

    (void)argc;
    (void)argv;
    if (is_submit_side())
        code = request_complete(spank, &site);
    else if (spank_context() == S_CTX_REMOTE)
        step_request(spank);
    forget_options();
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
    step_task_ended(spank, &site);
    return 0;
}
