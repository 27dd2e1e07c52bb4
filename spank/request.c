/* See request.h. Slurm owns the word --container since 21.08, for OCI bundle directories; with it
 * set, a step gets no PMIx. So an image's name is taken out of Slurm's options before it acts. */
#define _GNU_SOURCE
#include "request.h"

#include "common.h"
#include "forms.h"
#include "off.h"
#include "options.h"
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

static const char *outer_bundle; /* SLURM_CONTAINER: what an outer command runs in */

/* What is said of a word beside this command's options. */
static struct {
    const char *outer;           /* by an outer command */
    const char *twin, *variable; /* by this command's own environment, and where */
    const char *first;           /* by a component; they share one environment */
} beside[WORDS];

/* Paths are Slurm's own bundles; they stay with Slurm. */
static bool is_bundle(const char *value)
{
    return value[0] == '/' || strncmp(value, "./", 2) == 0 || strncmp(value, "../", 3) == 0;
}

/* A bundle is a directory, so what is a file, or is called as one, is an image. */
static bool is_file(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 ? S_ISREG(status.st_mode) : ends_like_image(path);
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

static void init_word(enum word number)
{
    const struct wording *word = &words[number];
    static char text[VALUE_SIZE + 1], variable[64]; /* one that is cut is found to be too long */

    if (read_twins(number, text, sizeof(text), variable, sizeof(variable))) {
        beside[number].twin = strdup(text);
        beside[number].variable = strdup(variable);
    }
    if (word->carried == NULL)
        (void)unsetenv(word->variable);
    else if ((beside[number].outer = remember(word->variable)) == NULL)
        /* sbatch --export-file drops all but what Slurm itself carries for the prolog. */
        beside[number].outer = remember(word->carried);
}

void request_init(void)
{
    outer_bundle = remember("SLURM_CONTAINER");
    for (size_t i = 0; i < WORDS; i++)
        init_word((enum word)i);
    clear_twins();
    /* A job's own pin, which is none of another job that one of its commands submits. */
    if (spank_context() == S_CTX_ALLOCATOR) {
        (void)unsetenv(PIN_VARIABLE);
        (void)unsetenv("SLURM_SPANK_" PIN_PROLOG_VARIABLE);
    }
}

static int refuse(const char *what, const char *value, const char *hint)
{
    char shown[65];

    (void)snprintf(shown, sizeof(shown), "%s", value);
    keep_shown(shown);
    slurm_error("hpcimg: %s \"%s\"", what, shown);
    slurm_error("hpcimg: hint: %s", hint);
    return -1;
}

static int check_bundle(const char *path)
{
    if (runs_bundles())
        return 0;
    return refuse("Slurm runs no OCI bundles here, but the command on the host:", path,
                  "write --container-image=PATH for a directory with an image in it");
}

/* The image that --container names, NULL when it names none; after it Slurm knows no container. */
static int take_container(char **image)
{
    const char *variable = getenv("SLURM_CONTAINER");

    *image = NULL;
    if (slurm_options == NULL || slurm_option_get == NULL || slurm_option_reset == NULL) {
        if (variable == NULL || outer_bundle != NULL)
            return 0;
        if (is_bundle(variable) && !is_file(variable))
            return check_bundle(variable);
        return refuse("this Slurm does not let go of --container", variable,
                      "write --container-image=NAME");
    }
    *image = slurm_option_get(slurm_options, "container");
    if (*image != NULL && is_bundle(*image) && !is_file(*image)) {
        if (check_bundle(*image) != 0)
            return -1;
        *image = NULL;
    }
    if (*image == NULL)
        return 0;
    (void)slurm_option_reset(slurm_options, "container");
    return outer_bundle != NULL ? setenv("SLURM_CONTAINER", outer_bundle, 1)
                                : unsetenv("SLURM_CONTAINER");
}

/* A path counts from where the step begins to work, not from where its nested commands do. */
static const char *from_workdir(const char *value)
{
    char here[PATH_MAX], directory[2 * PATH_MAX], text[FORM_SIZE], *chosen = NULL;

    if (getcwd(here, sizeof(here)) == NULL)
        return value;
    if (slurm_options != NULL && slurm_option_get != NULL)
        chosen = slurm_option_get(slurm_options, "chdir");
    if (chosen != NULL && chosen[0] == '/')
        (void)snprintf(directory, sizeof(directory), "%s", chosen);
    else
        (void)snprintf(directory, sizeof(directory), "%s%s%s", here, chosen != NULL ? "/" : "",
                       chosen != NULL ? chosen : "");
    return make_absolute(value, directory, text) ? strdup(text) : value;
}

/* The image of the component at hand, NULL for none: this command's words go before its
 * environment, and that before what an outer command asked for. */
static int settle_image(const char **image)
{
    const char *option = option_value(IMAGE), *variable = getenv("SRUN_CONTAINER");
    char *container = NULL;

    if (take_container(&container) != 0)
        return -1;
    if (option != NULL && container != NULL && strcmp(option, container) != 0 &&
        (variable == NULL || strcmp(variable, container) != 0))
        return refuse("two images in one command, with --container", container,
                      "leave out --container or --container-image");
    *image = option != NULL ? option : container;
    if (*image == NULL)
        *image = beside[IMAGE].twin != NULL ? beside[IMAGE].twin : beside[IMAGE].outer;
    if (*image != NULL && is_local_image(*image))
        *image = from_workdir(*image);
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

static int refuse_word(enum word number, const char *part, bool is_by_option)
{
    char what[96], hint[200];
    bool is_by_twin = !is_by_option && beside[number].twin != NULL;

    (void)snprintf(what, sizeof(what), "this is no %s:", words[number].form);
    (void)snprintf(hint, sizeof(hint), "%s%s%s", words[number].hint, is_by_twin ? ", in " : "",
                   is_by_twin ? beside[number].variable : "");
    return refuse(what, part, hint);
}

static int carry(spank_t spank, const struct wording *word, const char *value)
{
    if (value == NULL || value[0] == '\0') {
        (void)unsetenv(word->variable);
        return word->carried != NULL ? unsetenv(word->carried) : 0;
    }
    if (setenv(word->variable, value, 1) != 0)
        return -1;
    /* Refused inside an existing job, which has no prolog to come. */
    if (word->carried != NULL)
        (void)spank_job_control_setenv(spank, word->carried + strlen("SLURM_SPANK_"), value, 1);
    return 0;
}

/* What is settled of a word for this component, `said` of it by its options or beside them. A word
 * of one component is for all. */
static int settle_word(enum word number, bool has_image, const char **settled)
{
    const char *option = option_value(number), *said = option, *part;

    if (said == NULL)
        said = beside[number].twin != NULL ? beside[number].twin : beside[number].outer;
    if (said != NULL && said[0] != '\0' && (part = words[number].find_wrong(said)) != NULL) {
        /* Only who asks for an image is held up by what an environment says of it. */
        if (option != NULL || has_image)
            return refuse_word(number, part, option != NULL);
        said = NULL;
    }
    if (option != NULL && beside[number].first == NULL)
        beside[number].first = strdup(option);
    else if (option != NULL && strcmp(beside[number].first, option) != 0) {
        char what[128];
        (void)snprintf(what, sizeof(what), "the components of one command differ in %s, one says",
                       option_name(number));
        return refuse(what, option, "say it once, or the same in each component");
    }
    *settled = beside[number].first != NULL ? beside[number].first : said;
    if (number == SAVE && *settled != NULL && (*settled)[0] != '\0')
        *settled = from_workdir(*settled);
    return 0;
}

/* sbatch and salloc may say ahead what the job's steps then get. */
static int refuse_alone(const char *image)
{
    bool has_script = strcmp(program_invocation_short_name, "sbatch") == 0;
    const char *own = option_value(NAME) != NULL ? option_value(NAME) : option_value(SAVE);

    /* Steps do not inherit them, and a batch script would run on the host. */
    if (spank_context() == S_CTX_ALLOCATOR && own != NULL &&
        (!has_script || option_value(IMAGE) == NULL))
        return refuse(option_value(NAME) != NULL ? "a container's name is for one command:"
                                                 : "what is to be saved is for one command:",
                      own,
                      has_script ? "add --container-image=NAME, or give it to srun"
                                 : "give it to the srun that it is for");
    for (size_t i = 0; i < WORDS; i++)
        if (i != IMAGE && image == NULL && spank_context() == S_CTX_LOCAL &&
            option_value((enum word)i) != NULL && option_value(NAME) == NULL)
            return refuse("there is no image for", option_name((enum word)i),
                          "name one: --container-image=NAME");
    return 0;
}

static int settle_words(spank_t spank, const char *image)
{
    bool has_image = image != NULL && strcmp(image, NO_IMAGE) != 0;
    char text[256];
    enum word twice;

    if (find_contradiction(&twice, text)) {
        slurm_error("hpcimg: %s exclude each other", text);
        slurm_error("hpcimg: hint: leave one of them out");
        return -1;
    }
    for (size_t i = 0; i < WORDS; i++) {
        const char *settled = NULL;
        if (i != IMAGE && (settle_word((enum word)i, has_image, &settled) != 0 ||
                           carry(spank, &words[i], settled) != 0))
            return -1;
    }
    return refuse_alone(image);
}

static bool is_test_only(void)
{
    return slurm_options != NULL && slurm_option_isset != NULL &&
           slurm_option_isset(slurm_options, "test-only");
}

/* A tag may come to mean another image; a digest or a file is what it is. */
static bool has_tag(const char *image)
{
    return strchr(image, '@') == NULL && !is_local_image(image);
}

/* What the tag stands for now, for a batch job, which may wait long; and all tasks of an array, and
 * whatever starts again, have the same. Where it cannot be known the job reads it when it starts.
 */
static void pin_for_batch(spank_t spank, const struct site *site, const char *image)
{
    static bool done; /* components have the same image */
    char pinned[NAME_LENGTH + 1];

    if (done || strcmp(site->pin, "start") == 0 || !has_tag(image) || is_test_only())
        return;
    done = true;
    if (!pin_name(site->python, image, pinned, sizeof(pinned)) || !is_image_name(pinned))
        return;
    if (setenv(PIN_VARIABLE, pinned, 1) == 0)
        (void)spank_job_control_setenv(spank, PIN_PROLOG_VARIABLE, pinned, 1);
}

/* Nodes that share no store cannot agree on what a tag is, so that such a site has srun and salloc
 * read it too: what they ask for is then the digest. Not again for the image of a batch job. */
static const char *pin_for_all(const struct site *site, const char *image)
{
    static char pinned[NAME_LENGTH + 1];
    const char *outer = beside[IMAGE].outer;

    if (strcmp(site->pin, "always") != 0 || !has_tag(image) || is_test_only() ||
        (getenv(PIN_VARIABLE) != NULL && outer != NULL && strcmp(outer, image) == 0))
        return image;
    if (pinned[0] == '\0' && !pin_name(site->python, image, pinned, sizeof(pinned)))
        return image;
    return is_image_name(pinned) ? pinned : image;
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

int request_complete(spank_t spank, const struct site *site)
{
    bool is_batch = strcmp(program_invocation_short_name, "sbatch") == 0;
    const char *image = NULL;
    char reason[65]; /* as much as a refusal shows */

    if (settle_image(&image) != 0 || settle_words(spank, image) != 0)
        return -1;
    if (!is_same_for_all(image != NULL ? image : NO_IMAGE))
        return refuse("the components of one command ask for different images, one of them for",
                      image != NULL ? image : NO_IMAGE,
                      "name the same image in each component, or start them as steps of their own");
    if (image == NULL)
        return 0;
    if (strcmp(image, NO_IMAGE) == 0)
        return carry(spank, &words[IMAGE], image);
    if (is_switched_off(reason, sizeof(reason)))
        return refuse("hpcimg is switched off on this machine:", reason,
                      "leave out --container, or ask the site");
    if (advise_scheme(image) != NULL)
        return refuse("this is no image of a registry, nor a file:", image, advise_scheme(image));
    if (words[IMAGE].find_wrong(image) != NULL)
        return refuse_word(IMAGE, image, option_value(IMAGE) != NULL);
    if (spank_context() == S_CTX_LOCAL && would_miss_joiner())
        return refuse("this release of Slurm cannot start --multi-prog in", image,
                      "start the programs as components: srun -n1 A : -n3 B");
    if (is_batch)
        pin_for_batch(spank, site, image);
    else
        image = pin_for_all(site, image);
    return carry(spank, &words[IMAGE], image);
}
