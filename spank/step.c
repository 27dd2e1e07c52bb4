/* See step.h. */
#define _GNU_SOURCE
#include "step.h"

#include "common.h"
#include "container.h"
#include "get.h"
#include "identity.h"
#include "job.h"
#include "join.h"
#include "request.h"
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
    char image[NAME_LENGTH + 2]; /* empty: on the host; one more than allowed: refused later */
    bool refused;                /* asked for, but it could not start: nothing may run */
    bool is_fetch;               /* nothing was to run: `cache warm` only wants the image there */
    int lifeline[2];
    uint32_t id;
    struct job job;
    char node[HOST_NAME_MAX + 1];
    struct entry entry;
    struct start start;
    char *ticket; /* to be written by root once the container stands */
    struct container container;
    int descriptors[3];
} step = {.lifeline = {-1, -1}};

/* For a step the environment goes first: it holds what was settled on the submit side, where the
 * option may only be the default of an outer command. For a batch script the option goes alone,
 * which sbatch --export-file leaves only in `variable`. A name that is too long is cut, and found
 * to be none when the step starts. */
static void read_name(spank_t spank, const char *option, const char *variable)
{
    const size_t size = sizeof(step.image);

    if (step.id != SLURM_BATCH_SCRIPT)
        (void)spank_getenv(spank, IMAGE_VARIABLE, step.image, size);
    if (step.image[0] == '\0' && option != NULL)
        (void)snprintf(step.image, size, "%s", option);
    if (step.image[0] == '\0')
        (void)spank_getenv(spank, variable, step.image, size);
    if (strcmp(step.image, NO_IMAGE) == 0)
        step.image[0] = '\0';
}

/* As settled on the submit side; sbatch --export-file leaves it only where Slurm itself carries it.
 * A word that is too long is cut, and found to be none when the step starts. */
static void read_word(spank_t spank, const char *variable, const char *option, char *word,
                      size_t size)
{
    char carried[64];

    (void)snprintf(carried, sizeof(carried), "SLURM_SPANK_%s", variable + strlen("SLURM_"));
    (void)spank_getenv(spank, variable, word, (int)size);
    if (word[0] == '\0')
        (void)spank_getenv(spank, carried, word, (int)size);
    if (word[0] == '\0' && option != NULL)
        (void)snprintf(word, size, "%s", option);
}

/* What this step's own commands get by default is its image. Slurm keeps the option of salloc or
 * sbatch in their environment all the same, and with it gone stale, a command that names just that
 * image could not be told from one that names none. */
static void renew_default(spank_t spank, const char *variable)
{
    char image[sizeof(step.image)], stale[sizeof(step.image)];

    if (spank_getenv(spank, IMAGE_VARIABLE, image, sizeof(image)) == ESPANK_SUCCESS &&
        spank_getenv(spank, variable, stale, sizeof(stale)) == ESPANK_SUCCESS)
        (void)spank_setenv(spank, variable, image, 1);
}

/* Batch scripts, salloc's shell and the extern step stay on the host, unless `sbatch
 * --container-image` asks for the script itself. */
void step_request(spank_t spank, const struct asked *options, const struct asked *variables)
{
    if (spank_get_item(spank, S_JOB_STEPID, &step.id) != ESPANK_SUCCESS ||
        step.id == SLURM_EXTERN_CONT || step.id == SLURM_INTERACTIVE_STEP ||
        step.id == SLURM_PENDING_STEP)
        return;
    read_name(spank, options->image, variables->image);
    renew_default(spank, variables->image);
    read_word(spank, MATCH_VARIABLE, options->match, step.job.match, sizeof(step.job.match));
    read_word(spank, PULL_VARIABLE, options->pull, step.job.pull, sizeof(step.job.pull));
    read_word(spank, PIN_VARIABLE, NULL, step.job.pinned, sizeof(step.job.pinned));
    if (!is_image_name(step.job.pinned))
        step.job.pinned[0] = '\0';
    /* Made here and not in user_init, which with contain_spank runs in a process of its own. */
    if (step.image[0] != '\0')
        step.refused = pipe2(step.lifeline, O_CLOEXEC) < 0;
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

static int ensure_entry(const struct identity *user, const struct site *site, char *output)
{
    struct identity account = {.uid = 0};
    int code;

    step.start.name = step.image;
    step.start.scope = "site";

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
        code = get_entry(user, "own", site->python, &step.job, step.image, step.node, output,
                         &step.entry);
        step.entry.by_kernel = false; /* whatever it printed: it is the user's process */
    }
    if (code == -1)
        return refuse("the image could not be fetched: hpcimg get did not run to its end",
                      "look at the node's syslog, and try there: hpcimg node show");
    return code; /* any other failure was said by what failed */
}

/* With contain_spank this is a clone whose working directory is /: the parent has the step's. */
static void read_workdir(char *path, size_t size)
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
static const char *batch_script(spank_t spank)
{
    char **command = NULL;
    int count = 0;

    if (step.id != SLURM_BATCH_SCRIPT ||
        spank_get_item(spank, S_JOB_ARGV, &count, &command) != ESPANK_SUCCESS || count < 1)
        return NULL;
    return command[0];
}

/* Only what the store's account has written may be given to the kernel. */
static void write_account(const struct site *site, char *text, size_t size)
{
    struct identity account = {.uid = 0};

    if (step.entry.by_kernel)
        step.entry.by_kernel = find_identity(site->account, 0, &account);
    (void)snprintf(text, size, "%u", account.uid);
}

static int start_container(spank_t spank, const struct identity *user, const struct site *site,
                           char *output)
{
    static char groups[1 << 16];
    char uid[16], gid[16], job[16], account[16];
    char workdir[PATH_MAX], starter[PATH_MAX], holder[PATH_MAX];
    const char *script = batch_script(spank);
    char *argv[32] = {starter,
                      "--uid",
                      uid,
                      "--gid",
                      gid,
                      "--groups",
                      groups,
                      "--job",
                      job,
                      "--image",
                      step.entry.image,
                      "--name",
                      step.image,
                      "--node",
                      step.node,
                      "--workdir",
                      workdir,
                      "--apptainer",
                      (char *)site->apptainer,
                      "--holder",
                      holder};
    size_t next = 21, size = 0;

    (void)snprintf(uid, sizeof(uid), "%u", user->uid);
    (void)snprintf(gid, sizeof(gid), "%u", user->gid);
    (void)snprintf(job, sizeof(job), "%u", step.job.id);
    (void)snprintf(starter, sizeof(starter), "%.4000s/starter", site->libexec);
    (void)snprintf(holder, sizeof(holder), "%.4000s/holder", site->libexec);
    read_workdir(workdir, sizeof(workdir));
    if (!write_groups(user, groups, sizeof(groups)))
        return refuse("the user is in too many groups", "ask the site");
    write_account(site, account, sizeof(account));
    if (step.entry.has_gpu)
        argv[next++] = "--gpu";
    if (step.entry.by_kernel) {
        argv[next++] = "--kernel";
        argv[next++] = account;
    }
    if (script != NULL) {
        argv[next++] = "--script";
        argv[next++] = (char *)script;
    }
    if (run_stage(NULL, argv, step.lifeline[0], output, &size) != 0)
        return -1;
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

void step_start(spank_t spank, const struct site *site)
{
    struct identity user = {.uid = 0};
    struct timespec began, ended;
    char *output;

    if (step.image[0] == '\0')
        return;
    step.refused = true;
    (void)gethostname(step.node, sizeof(step.node) - 1);
    step.node[strcspn(step.node, ".")] = '\0';
    if (!is_image_name(step.image)) {
        keep_shown(step.image); /* a step's environment may hold anything */
        (void)refuse("that is not an image name", "write [REGISTRY/]REPOSITORY[:TAG][@DIGEST]");
        return;
    }
    if (step.job.match[0] != '\0' && !is_match(step.job.match)) {
        (void)refuse("the step's way to match its nodes is none", "write " MATCH_WORDS);
        return;
    }
    if (step.job.pull[0] != '\0' && !is_pull(step.job.pull)) {
        (void)refuse("the step's way to pull its image is none", "write " PULL_WORDS);
        return;
    }
    /* Kept for the life of the step: the image's environment stays in it. */
    output = malloc(STAGE_OUTPUT + 1);
    if (output == NULL || step.lifeline[0] < 0 || !read_user(spank, &user) ||
        !read_job(spank, step.id == SLURM_BATCH_SCRIPT, &step.job)) {
        (void)refuse("this step's request is not in order", "look at the slurmd log");
        return;
    }
    step.job.user = user.uid;
    (void)clock_gettime(CLOCK_MONOTONIC, &began);
    if (!check_programs(site) || ensure_entry(&user, site, output) != 0)
        return;
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    step.start.millis =
        (long)(ended.tv_sec - began.tv_sec) * 1000 + (ended.tv_nsec - began.tv_nsec) / 1000000;
    tell_warnings();
    /* Of an image that somebody warms no line is run, which would be as its user, with all files.
     */
    step.is_fetch = step.job.reports && step.id != SLURM_BATCH_SCRIPT;
    if (!step.is_fetch)
        step.refused = start_container(spank, &user, site, output) != 0;
}

void step_open(void)
{
    if (step.image[0] == '\0' || step.refused)
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

    if (step.image[0] == '\0' || step.refused || adopted)
        return;
    adopted = true;
    if (spank_get_item(spank, S_TASK_PID, &task) == ESPANK_SUCCESS)
        adopt_container(&step.container, task);
    note_start(&step.job, &step.start, &step.entry);
    if (step.ticket != NULL)
        write_ticket(&step.job, step.image, step.ticket);
}

void step_task_ended(spank_t spank)
{
    static uint32_t ended;
    uint32_t count = 0;

    if (step.image[0] == '\0' || step.refused)
        return;
    if (spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &count) == ESPANK_SUCCESS && ++ended == count)
        end_container(&step.container);
}

/* Put the joiner before the user's command, whatever has happened: it is what refuses. */
void step_join(spank_t spank, const struct site *site)
{
    char joiner[PATH_MAX];

    if (step.image[0] == '\0')
        return;
    (void)snprintf(joiner, sizeof(joiner), "%.4000s/joiner", site->libexec);
    if (access(joiner, X_OK) == 0 &&
        put_joiner(spank, joiner, step.refused ? NULL : step.descriptors, !step.is_fetch))
        return;
    if (!step.refused)
        slurm_spank_log("hpcimg: could not put \"%s\" before the command; nothing runs", joiner);
    _exit(LAUNCH_FAILED); /* an optional plugin's error is swallowed, and the host would run it */
}
