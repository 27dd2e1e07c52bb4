/* See request.h. Slurm owns the word --container since 21.08, for OCI bundle directories; with it
 * set, a step gets no PMIx. So an image's name is taken out of Slurm's options before it acts. */
#define _GNU_SOURCE
#include "request.h"

#include "common.h"
#include "pin.h"

#include <errno.h>
#include <limits.h>
#include <slurm/slurm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Slurm's own parsed options and their accessors, as its cli_filter plugins use them; the same from
 * 22.05 to 26.05. Weak, since they are no promise: without them --container-image still works. */
extern char slurm_options[] __asm__("opt") __attribute__((weak));
extern char *slurm_option_get(void *options, const char *name) __attribute__((weak));
extern bool slurm_option_reset(void *options, const char *name) __attribute__((weak));
extern bool slurm_option_isset(void *options, const char *name) __attribute__((weak));

static struct {
    const char *container; /* SLURM_CONTAINER: a bundle that an outer command runs in */
    const char *image;     /* what an outer command asked for, for all its steps */
    const char *option;    /* the same as the value that Slurm gives our option by default */
} outer;

/* A word of the request that goes on to the steps and the prolog beside the image. */
static struct word {
    const char *variable, *prolog_variable, *twin;
    const char *wrong, *differ, *words; /* what a refusal says */
    bool (*is_valid)(const char *word);
    const char *outer; /* what an outer command said */
    const char *own;   /* what this command's own environment says, in `twin` */
    const char *first; /* what a component said; they share one environment */
} match = {.variable = MATCH_VARIABLE,
           .prolog_variable = "SLURM_SPANK_" MATCH_PROLOG_VARIABLE,
           .twin = MATCH_TWIN,
           .wrong = "this is no way to match the nodes of a job:",
           .differ = "the components of one command match differently, one of them",
           .words = "write " MATCH_WORDS,
           .is_valid = is_match},
  pull = {.variable = PULL_VARIABLE,
          .prolog_variable = "SLURM_SPANK_" PULL_PROLOG_VARIABLE,
          .twin = PULL_TWIN,
          .wrong = "this is no way to pull an image:",
          .differ = "the components of one command pull differently, one of them",
          .words = "write " PULL_WORDS,
          .is_valid = is_pull};

bool is_image_name(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= NAME_LENGTH &&
           strspn(name,
                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/@#[]") ==
               length;
}

bool is_match(const char *word)
{
    return strcmp(word, "per-node") == 0 || strcmp(word, "uniform") == 0 ||
           strcmp(word, "uniform-or-fail") == 0;
}

bool is_pull(const char *word)
{
    return strcmp(word, "missing") == 0 || strcmp(word, "newer") == 0 ||
           strcmp(word, "always") == 0;
}

/* Paths are Slurm's own bundles; they stay with Slurm. */
static bool is_bundle(const char *value)
{
    return value[0] == '/' || strncmp(value, "./", 2) == 0 || strncmp(value, "../", 3) == 0;
}

/* A bundle is a directory. With an image file, as Apptainer and Pyxis take them, Slurm would run
 * the command on the host. */
static bool is_file(const char *path)
{
    static const char *const suffixes[] = {".sif", ".sqsh", ".squashfs", ".img"};
    const char *suffix = strrchr(path, '.');
    struct stat status;

    for (size_t i = 0; suffix != NULL && i < sizeof(suffixes) / sizeof(*suffixes); i++)
        if (strcmp(suffix, suffixes[i]) == 0)
            return true;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static bool is_beside(const char *slurm_conf)
{
    const char *end = strrchr(slurm_conf, '/');
    char path[PATH_MAX];
    int length =
        snprintf(path, sizeof(path), "%.*s/oci.conf", end != NULL ? (int)(end - slurm_conf) : 1,
                 end != NULL ? slurm_conf : ".");

    return length > 0 && (size_t)length < sizeof(path) && access(path, F_OK) == 0;
}

/* Without an oci.conf Slurm takes no notice of --container, and runs the command on the host. */
static bool runs_bundles(void)
{
    const char *named = getenv("SLURM_CONF");

    return (named != NULL && is_beside(named)) || is_beside("/etc/slurm/slurm.conf") ||
           is_beside("/run/slurm/conf/slurm.conf");
}

static const char *remember(const char *name)
{
    const char *value = getenv(name);

    return value != NULL ? strdup(value) : NULL;
}

void write_option_variable(const char *option, char *name, size_t size)
{
    (void)snprintf(name, size, "SLURM_SPANK__SLURM_SPANK_OPTION_hpcimg_%s", option);
    for (char *c = name; *c != '\0'; c++)
        if (*c == '-')
            *c = '_';
}

/* What is settled goes on in the word's variable. Left in place, the option's would give it an
 * outer command's word as if this one had said it, the twin would overrule this command's word in
 * the commands of its job. */
static void init_word(struct word *word, const char *option_variable)
{
    word->outer = remember(word->variable);
    if (word->outer == NULL)
        word->outer = remember(word->prolog_variable);
    word->own = remember(word->twin);
    (void)unsetenv(option_variable);
    (void)unsetenv(word->twin);
}

void request_init(const struct asked *variables)
{
    outer.option = remember(variables->image);
    outer.container = remember("SLURM_CONTAINER");
    outer.image = remember(IMAGE_VARIABLE);
    /* sbatch --export-file drops all but what Slurm itself carries for the prolog. */
    if (outer.image == NULL)
        outer.image = remember("SLURM_SPANK_" PROLOG_VARIABLE);
    init_word(&match, variables->match);
    init_word(&pull, variables->pull);
    /* A job's own pin, which is none of another job that one of its commands submits. */
    if (spank_context() == S_CTX_ALLOCATOR) {
        (void)unsetenv(PIN_VARIABLE);
        (void)unsetenv("SLURM_SPANK_" PIN_PROLOG_VARIABLE);
    }
}

static int refuse(const char *what, const char *value, const char *hint)
{
    slurm_error("hpcimg: %s \"%.64s\"", what, value);
    slurm_error("hpcimg: hint: %s", hint);
    return -1;
}

static int refuse_path(const char *path)
{
    return refuse(is_file(path) ? "image files cannot be run yet:" : "a path is no image's name:",
                  path, "name an image of a registry, or run: apptainer exec FILE COMMAND");
}

static int check_bundle(const char *path)
{
    if (is_file(path))
        return refuse_path(path);
    if (runs_bundles())
        return 0;
    return refuse("Slurm runs no OCI bundles here, but the command on the host:", path,
                  "name an image of a registry, or set up Slurm's oci.conf");
}

/* The image that --container names, NULL when it names none; after it Slurm knows no container. */
static int take_container(char **image)
{
    const char *variable = getenv("SLURM_CONTAINER");

    *image = NULL;
    if (slurm_options == NULL || slurm_option_get == NULL || slurm_option_reset == NULL) {
        if (variable == NULL || outer.container != NULL)
            return 0;
        if (is_bundle(variable))
            return check_bundle(variable);
        return refuse("this Slurm does not let go of --container", variable,
                      "write --container-image=NAME");
    }
    *image = slurm_option_get(slurm_options, "container");
    if (*image != NULL && is_bundle(*image)) {
        if (check_bundle(*image) != 0)
            return -1;
        *image = NULL;
    }
    if (*image == NULL)
        return 0;
    (void)slurm_option_reset(slurm_options, "container");
    return outer.container != NULL ? setenv("SLURM_CONTAINER", outer.container, 1)
                                   : unsetenv("SLURM_CONTAINER");
}

/* The image of the component at hand, NULL for none: this command's words go before its
 * environment, and that before what an outer command asked for. */
static int settle(const char *option, const char **image)
{
    const char *variable = getenv("SRUN_CONTAINER");
    bool by_outer = option != NULL && outer.option != NULL && strcmp(option, outer.option) == 0;
    char *container = NULL;

    if (take_container(&container) != 0)
        return -1;
    if (option != NULL && !by_outer && container != NULL && strcmp(option, container) != 0 &&
        (variable == NULL || strcmp(variable, container) != 0))
        return refuse("two images in one command, with --container", container,
                      "leave out --container or --container-image");
    if (option != NULL && !by_outer)
        *image = option;
    else if (container != NULL)
        *image = container;
    else
        *image = outer.image != NULL ? outer.image : option;
    return 0;
}

/* Slurm gives all components of a heterogeneous command one environment and one value of our
 * option: they get the same image, or would get the wrong one. */
static bool is_same_for_all(const char *image)
{
    static char *first;

    if (first == NULL)
        return (first = strdup(image)) != NULL;
    return strcmp(first, image) == 0;
}

/* Carried on also without an image, which a later step may name. */
static int complete_word(spank_t spank, struct word *word, const char *option, bool has_image)
{
    const char *said = option != NULL ? option : word->own;

    if (said == NULL)
        said = word->outer;
    if (said == NULL || said[0] == '\0')
        return 0;
    if (!word->is_valid(said)) {
        /* Only who asks for an image is held up by what an environment says of it. */
        if (option == NULL && !has_image)
            return 0;
        return refuse(word->wrong, said, word->words);
    }
    if (option != NULL && word->first != NULL && strcmp(word->first, option) != 0)
        return refuse(word->differ, option, "say it once, or the same in each component");
    if (option != NULL && word->first == NULL && (word->first = strdup(option)) == NULL)
        return -1;
    said = word->first != NULL ? word->first : said;
    if (setenv(word->variable, said, 1) != 0)
        return -1;
    (void)spank_job_control_setenv(spank, word->prolog_variable + strlen("SLURM_SPANK_"), said, 1);
    return 0;
}

/* What the tag stands for now, for a batch job, which may wait long; and all tasks of an array, and
 * whatever starts again, have the same. Where it cannot be known the job reads it when it starts.
 */
static void pin_for_batch(spank_t spank, const struct site *site, const char *image)
{
    static bool done; /* components have the same image */
    char pinned[NAME_LENGTH + 1];

    if (done || strcmp(program_invocation_short_name, "sbatch") != 0 ||
        strcmp(site->pin, "submit") != 0 || strcmp(image, NO_IMAGE) == 0 ||
        strchr(image, '@') != NULL)
        return;
    done = true;
    if (slurm_options != NULL && slurm_option_isset != NULL &&
        slurm_option_isset(slurm_options, "test-only"))
        return;
    if (!pin_name(site->python, image, pinned, sizeof(pinned)) || !is_image_name(pinned))
        return;
    if (setenv(PIN_VARIABLE, pinned, 1) == 0)
        (void)spank_job_control_setenv(spank, PIN_PROLOG_VARIABLE, pinned, 1);
}

/* Before 23.11 the joiner is put into the job's argv, and --multi-prog's tasks have others: they
 * would run on the host. On the node nothing tells them apart. */
static bool would_miss_joiner(void)
{
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
    return false;
#else
    return slurm_options != NULL && slurm_option_isset != NULL &&
           slurm_option_isset(slurm_options, "multi-prog");
#endif
}

int request_complete(spank_t spank, const struct site *site, const struct asked *options)
{
    const char *image = NULL;

    if (settle(options->image, &image) != 0 ||
        complete_word(spank, &match, options->match, image != NULL) != 0 ||
        complete_word(spank, &pull, options->pull, image != NULL) != 0)
        return -1;
    if (!is_same_for_all(image != NULL ? image : NO_IMAGE))
        return refuse("the components of one command ask for different images, one of them for",
                      image != NULL ? image : NO_IMAGE,
                      "name the same image in each component, or start them as steps of their own");
    if (image == NULL)
        return 0;
    if (is_bundle(image))
        return refuse_path(image);
    if (!is_image_name(image))
        return refuse("this is not an image name:", image,
                      "write [REGISTRY/]REPOSITORY[:TAG][@DIGEST]");
    if (strcmp(image, NO_IMAGE) != 0 && spank_context() == S_CTX_LOCAL && would_miss_joiner())
        return refuse("this release of Slurm cannot start --multi-prog in", image,
                      "start the programs as components: srun -n1 A : -n3 B");
    if (setenv(IMAGE_VARIABLE, image, 1) != 0)
        return -1;
    /* Refused inside an existing job, which has no prolog to come. */
    (void)spank_job_control_setenv(spank, PROLOG_VARIABLE, image, 1);
    pin_for_batch(spank, site, image);
    return 0;
}
