/* See step.h. */
#define _GNU_SOURCE
#include "step.h"

#include "cancel.h"
#include "common.h"
#include "container.h"
#include "forms.h"
#include "get.h"
#include "identity.h"
#include "job.h"
#include "join.h"
#include "launch.h"
#include "names.h"
#include "off.h"
#include "options.h"
#include "request.h"
#include "running.h"
#include "save.h"
#include "stage.h"
#include "ticket.h"

#include <errno.h>
#include <fcntl.h>
#include <slurm/slurm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    const char *words[WORDS]; /* what was asked for, NULL where nothing was */
    const char *image;        /* of the words; NULL: on the host */
    bool refused;             /* asked for, but it could not start: nothing may run */
    bool is_fetch;            /* nothing was to run: `cache warm` only wants the image there */
    int lifeline[2];
    uint32_t id;
    struct job job;
    char node[HOST_NAME_MAX + 1];
    struct entry entry;
    struct start start;
    char *ticket; /* to be written by root once the container stands */
    struct container container;
    struct identity user;
    struct named named; /* how other steps find it, and what it keeps */
    struct save save;
    bool is_joined; /* another step's */
    int descriptors[3];
} step = {.lifeline = {-1, -1}};

/* Batch scripts, salloc's shell and the extern step stay on the host, unless `sbatch
 * --container-image` asks for the script itself. */
void step_request(spank_t spank)
{
    if (spank_get_item(spank, S_JOB_STEPID, &step.id) != ESPANK_SUCCESS ||
        step.id == SLURM_EXTERN_CONT || step.id == SLURM_INTERACTIVE_STEP ||
        step.id == SLURM_PENDING_STEP)
        return;
    for (size_t i = 0; i < WORDS; i++)
        step.words[i] = read_word(spank, (enum word)i, step.id == SLURM_BATCH_SCRIPT);
    if (step.words[IMAGE] != NULL && strcmp(step.words[IMAGE], NO_IMAGE) != 0)
        step.image = step.words[IMAGE];
    /* A batch script goes into an image when it is told to, and by that word alone. */
    if (step.words[IMAGE] == NULL && step.id != SLURM_BATCH_SCRIPT)
        step.image = step.words[NAME]; /* the name of a container stands for its image */
    read_pin(spank, &step.job);
    /* Made here and not in user_init, which with contain_spank runs in a process of its own. */
    if (step.image != NULL)
        step.refused = pipe2(step.lifeline, O_CLOEXEC) < 0;
    if (step.image != NULL && step.words[SAVE] != NULL)
        open_save(&step.save);
}

static int refuse(const char *what, const char *why)
{
    slurm_spank_log("hpcimg: %s: could not run \"%.200s\": %s", step.node, step.image, what);
    slurm_spank_log("hpcimg: %s: hint: %s", step.node, why);
    return -1;
}

static bool check_programs(const struct site *site)
{
    char what[PATH_MAX + 128];

    if (have_programs(site, what, sizeof(what)))
        return true;
    (void)refuse(what, "install all of hpcimg on this node, or correct the path in plugstack.conf");
    return false;
}

static int check_get(int code)
{
    if (code == GET_TOO_MUCH)
        return refuse("this node puts more files around an image than a launch can carry",
                      "ask the site to mount directories in place of files");
    if (code == -1)
        return refuse("the image could not be fetched: hpcimg get did not run to its end",
                      "look at the node's syslog, and try there: hpcimg node show");
    return code; /* any other failure was said by what failed */
}

static int get_own(const struct identity *user, const struct site *site, char *output)
{
    int code =
        get_entry(user, "own", site->python, &step.job, step.image, step.node, output, &step.entry);

    step.entry.by_kernel = false; /* whatever it printed: it is the user's process */
    return check_get(code);
}

/* What the container's name means here, or what an unnamed one is found by. */
static int find(const struct identity *user, const struct site *site, char *output)
{
    bool is_batch = step.id == SLURM_BATCH_SCRIPT;
    size_t size = 0;
    enum found found = find_container(&step.named, step.words, is_batch, user, site, &step.job,
                                      step.node, output, &size);

    if (found == FOUND_WRONG)
        return refuse(step.named.what, step.named.hint);
    if (found == FOUND_NOTHING)
        return 0;
    step.words[IMAGE] = step.image = strdup(step.named.image);
    if (found == FOUND_KEPT && step.named.reference[0] != '\0')
        step.image = strdup(step.named.reference);
    step.is_joined = found == FOUND_RUNNING;
    if (step.is_joined && !(parse_entry(output, &step.entry) &&
                            join_running(output, size, step.words, &step.container)))
        return refuse("what the node says of that container is not in order", "tell the site");
    return 0;
}

static int ensure_entry(const struct identity *user, const struct site *site, char *output)
{
    struct identity account = {.uid = 0};
    int code;

    step.start.name = step.image;
    step.start.scope = "site";

    if (is_local_image(step.image)) {
        step.start.scope = "own";
        return get_own(user, site, output);
    }
    if (read_ticket(&step.job, step.image, &step.entry) ||
        (await_ticket(&step.job, step.image) && read_ticket(&step.job, step.image, &step.entry))) {
        step.start.by_ticket = true;
        return 0;
    }
    if (!find_identity(site->account, 0, &account) || account.uid == 0)
        return refuse("the store's account does not exist on this node",
                      "create it, or name it in plugstack.conf: account=NAME");
    code = get_entry(&account, "site", site->python, &step.job, step.image, step.node, output,
                     &step.entry);
    if (code == 0 && !step.entry.is_for_once)
        step.ticket = strdup(output);
    else if (code == GET_NOT_FOR_THE_SITE) {
        step.start.scope = "own";
        return get_own(user, site, output);
    }
    return check_get(code);
}

static int start_container(const struct launch *launch, char *output)
{
    struct argv argv = {.words = NULL};
    const char *why = NULL;
    size_t size = 0;
    int code;

    if (!write_launch(launch, &argv, &why))
        return refuse(why, "ask the site");
    add_named(&step.named, step.words, step.entry.text, &argv);
    code = run_stage(NULL, argv.words, step.lifeline[0], output, &size);
    free_words(&argv);
    if (code != 0)
        return code == STARTER_BUSY ? code : -1; /* said by the starter */
    return parse_container(output, size, &step.container)
               ? 0
               : refuse("the starter's report is wrong", "reinstall hpcimg on this node");
}

/* slurmd's log gets them too, and where the store is the user's, so are the words. */
static void tell_warnings(void)
{
    keep_shown(step.entry.once);
    keep_shown(step.entry.warning);
    if (step.entry.once[0] != '\0' && !was_told(&step.job)) {
        step.start.was_told = true;
        slurm_spank_log("hpcimg: %s: warning: %s", step.node, step.entry.once);
    }
    if (step.entry.warning[0] != '\0')
        slurm_spank_log("hpcimg: %s: warning: %s", step.node, step.entry.warning);
}

static void cut(char *text, size_t size, const char *whole)
{
    (void)snprintf(text, size, "%s", whole);
    keep_shown(text);
}

/* What the submit side sent may be forged, and a step's environment may hold anything. */
static bool check_words(void)
{
    static char image[65];
    char shown[65], what[160];

    for (size_t i = 0; i < WORDS; i++) {
        const char *part = step.words[i] != NULL ? words[i].find_wrong(step.words[i]) : NULL;
        if (part == NULL)
            continue;
        cut(shown, sizeof(shown), part);
        cut(image, sizeof(image), step.image);
        step.image = image;
        (void)snprintf(what, sizeof(what), "\"%s\" is no %s", shown, words[i].form);
        (void)refuse(i == IMAGE ? "that is not an image name" : what, words[i].hint);
        return false;
    }
    return true;
}

/* Those that are given on as they are. */
static void share_words(struct job *job)
{
    const struct {
        enum word word;
        char *text;
        size_t size;
    } shared[] = {{MATCH, job->match, sizeof(job->match)},
                  {PULL, job->pull, sizeof(job->pull)},
                  {PLATFORM, job->platform, sizeof(job->platform)}};

    for (size_t i = 0; i < sizeof(shared) / sizeof(*shared); i++)
        if (step.words[shared[i].word] != NULL)
            (void)snprintf(shared[i].text, shared[i].size, "%s", step.words[shared[i].word]);
}

static int prepare(spank_t spank)
{
    const char *what = NULL, *hint = NULL;
    uint32_t tasks = 0;

    if (step.words[SAVE] == NULL)
        return 0;
    (void)spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &tasks);
    return prepare_save(&step.save, step.words[SAVE], step.node, &step.job, tasks, &what, &hint)
               ? 0
               : refuse(what, hint);
}

static int have_image(const struct site *site, char *output)
{
    struct timespec began, ended;

    (void)clock_gettime(CLOCK_MONOTONIC, &began);
    if (ensure_entry(&step.user, site, output) != 0)
        return -1;
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    step.start.millis =
        (long)(ended.tv_sec - began.tv_sec) * 1000 + (ended.tv_nsec - began.tv_nsec) / 1000000;
    if (step.named.stamp[0] != '\0' && !is_unchanged(&step.named, step.entry.text))
        return refuse("the file has changed since the container was made of it",
                      "take another name, and bring what the container has over by hand");
    tell_warnings();
    return 0;
}

static int start_or_join(spank_t spank, const struct site *site, char *output)
{
    char workdir[PATH_MAX];
    const struct launch launch = {
        .site = site,
        .user = &step.user,
        .job = &step.job,
        .entry = &step.entry,
        .words = step.words,
        .node = step.node,
        .workdir = workdir,
        .script = batch_script(spank),
    };
    int code = find(&step.user, site, output);

    if (code == 0 && !step.is_joined)
        code = have_image(site, output);
    /* Of an image that somebody warms no line is run, which would be as its user, with all files.
     */
    step.is_fetch = step.job.reports && step.id != SLURM_BATCH_SCRIPT;
    if (code != 0 || step.is_fetch)
        return -1;
    read_workdir(workdir, sizeof(workdir));
    if (!step.is_joined && (code = start_container(&launch, output)) != 0)
        return code;
    return complete_environment(&launch, &step.container)
               ? 0
               : refuse("the variables of the image are too many", "ask who made the image");
}

void step_start(spank_t spank, const struct site *site)
{
    char *output, reason[200];
    int code;

    if (step.image == NULL)
        return;
    step.refused = true;
    (void)gethostname(step.node, sizeof(step.node) - 1);
    step.node[strcspn(step.node, ".")] = '\0';
    if (is_switched_off(reason, sizeof(reason))) {
        (void)refuse(reason, "hpcimg is switched off on this node; ask the site, or try another");
        return;
    }
    if (!check_words())
        return;
    /* Kept for the life of the step: the image's environment stays in it. */
    output = malloc(STAGE_OUTPUT + 1);
    if (output == NULL || step.lifeline[0] < 0 || !read_user(spank, &step.user) ||
        !read_job(spank, step.id == SLURM_BATCH_SCRIPT, &step.job)) {
        (void)refuse("this step's request is not in order", "look at the slurmd log");
        return;
    }
    step.job.user = step.user.uid;
    if (step.id == SLURM_BATCH_SCRIPT)
        watch_job(step.job.id);
    share_words(&step.job);
    if (!check_programs(site) || prepare(spank) != 0)
        return;
    /* Another step may start one of that name between the look and the start: then it is joined. */
    code = start_or_join(spank, site, output);
    if (code == STARTER_BUSY && (code = start_or_join(spank, site, output)) == STARTER_BUSY)
        (void)refuse("other steps start a container of that name", "try again");
    step.refused = code != 0;
}

void step_open(void)
{
    if (step.image == NULL || step.refused)
        return;
    if (!open_container(&step.container, step.descriptors)) {
        slurm_spank_log("hpcimg: the container of \"%s\" ended before its tasks: %s", step.image,
                        strerror(errno));
        step.refused = true;
    }
}

void step_adopt(spank_t spank)
{
    static bool adopted;
    pid_t task = 0;

    if (step.image == NULL || step.refused || adopted)
        return;
    adopted = true;
    if (step.is_joined)
        return;
    if (spank_get_item(spank, S_TASK_PID, &task) == ESPANK_SUCCESS)
        adopt_container(&step.container, task);
    note_start(&step.job, &step.start, &step.entry);
    if (step.ticket != NULL)
        write_ticket(&step.job, step.image, step.ticket);
}

void step_task_ended(spank_t spank, const struct site *site)
{
    static uint32_t ended;
    uint32_t count = 0;

    if (step.image == NULL || step.refused)
        return;
    if (spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &count) != ESPANK_SUCCESS || ++ended != count)
        return;
    if (!was_begun(&step.save))
        slurm_spank_log("hpcimg: %s: the container was not saved to \"%s\": a task was killed",
                        step.node, step.save.path);
    if (step.is_joined)
        return;
    end_container(&step.container, step.user.uid);
    forget_running(step.named.key, step.container.anchor, step.container.anchor_start);
    drop_named(&step.named, &step.user, site);
}

/* Put the joiner before the user's command, whatever has happened: it is what refuses. */
void step_join(spank_t spank, const struct site *site)
{
    char joiner[PATH_MAX];

    if (step.image == NULL)
        return;
    (void)snprintf(joiner, sizeof(joiner), "%.4000s/joiner", site->libexec);
    if (access(joiner, X_OK) == 0 &&
        put_joiner(spank, joiner, step.refused ? NULL : step.descriptors, !step.is_fetch) &&
        (step.refused || put_saver(spank, &step.save, &step.container, site, step.node)))
        return;
    if (!step.refused)
        slurm_spank_log("hpcimg: could not put \"%s\" before the command; nothing runs", joiner);
    _exit(LAUNCH_FAILED); /* an optional plugin's error is swallowed, and the host would run it */
}
