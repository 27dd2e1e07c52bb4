/* The SPANK plugin: which hook does what. It starts programs and hands descriptors on; it never
 * parses a manifest, picks an image or touches the store. Built for the Slurm release whose headers
 * it was compiled with.
 *
 * plugstack.conf: required /usr/local/lib/hpcimg/hpcimg.so [account=hpcimg] [prefix=container]
 *                 [python=/opt/hpcimg/bin/python] [apptainer=/usr/bin/apptainer] [libexec=DIR] */
#define _GNU_SOURCE
#include "common.h"
#include "container.h"
#include "request.h"
#include "stage.h"
#include "ticket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <slurm/slurm.h>
#include <slurm/spank.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#pragma GCC visibility push(default)
SPANK_PLUGIN(hpcimg, 1)
#pragma GCC visibility pop

#define EXPORT __attribute__((visibility("default")))

static struct {
    char account[64], prefix[32], python[PATH_MAX], apptainer[PATH_MAX], libexec[PATH_MAX];
} site = {"hpcimg", "container", PYTHON, APPTAINER, LIBEXEC};

static char option_name[64], *option_image; /* --container-image of this command or step */

static struct {
    char image[NAME_LENGTH + 1]; /* empty: this step runs on the host, as every step does */
    bool refused;                /* asked for, but it could not start: nothing may run */
    int lifeline[2];
    uint32_t job;
    char gpus[256];
    struct entry entry;
    char *ticket; /* to be written by root once the container stands */
    struct container container;
    int descriptors[3];
} step = {.lifeline = {-1, -1}};

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

EXPORT int slurm_spank_init(spank_t spank, int argc, char **argv)
{
    static struct spank_option option = {
        .arginfo = "NAME",
        .usage = "[hpcimg] run in the build of image NAME that fits the node; \"none\" for the host",
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
    if (spank_option_register(spank, &option) != ESPANK_SUCCESS) {
        slurm_error("hpcimg: could not register --%s: is Pyxis loaded too? see prefix=", option_name);
        return -1;
    }
    if (spank_context() == S_CTX_LOCAL || spank_context() == S_CTX_ALLOCATOR)
        request_init();
    return 0;
}

/* Batch scripts, salloc's shell and the extern step stay on the host, unless `sbatch
 * --container-image` asks for the script itself. */
static bool is_container_step(spank_t spank)
{
    uint32_t id = 0;

    if (spank_get_item(spank, S_JOB_STEPID, &id) != ESPANK_SUCCESS)
        return false;
    if (id == SLURM_BATCH_SCRIPT)
        return option_image != NULL;
    return id != SLURM_EXTERN_CONT && id != SLURM_INTERACTIVE_STEP && id != SLURM_PENDING_STEP;
}

EXPORT int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (spank_context() != S_CTX_REMOTE)
        return request_complete(spank, option_image);
    if (!is_container_step(spank))
        return 0;
    if (option_image != NULL)
        (void)snprintf(step.image, sizeof(step.image), "%s", option_image);
    else if (spank_getenv(spank, IMAGE_VARIABLE, step.image, sizeof(step.image)) != ESPANK_SUCCESS)
        step.image[0] = '\0';
    if (strcmp(step.image, NO_IMAGE) == 0)
        step.image[0] = '\0';
    if (step.image[0] == '\0')
        return 0;
    /* Made here and not in user_init, which with contain_spank runs in a process of its own. */
    step.refused = pipe2(step.lifeline, O_CLOEXEC) < 0;
    return 0;
}

static int refuse(const char *node, const char *what, const char *why)
{
    slurm_spank_log("hpcimg: %s: could not run \"%.200s\": %s", node, step.image, what);
    slurm_spank_log("hpcimg: %s: hint: %s", node, why);
    return -1;
}

/* GPUs of the step as Slurm gave them to this node, "none" when it gave none. */
static void read_gpus(spank_t spank)
{
    char text[sizeof(step.gpus)];

    (void)snprintf(step.gpus, sizeof(step.gpus), "none");
    if (spank_getenv(spank, "SLURM_STEP_GPUS", text, sizeof(text)) != ESPANK_SUCCESS &&
        spank_getenv(spank, "SLURM_JOB_GPUS", text, sizeof(text)) != ESPANK_SUCCESS)
        return;
    if (text[0] != '\0' && strspn(text, "0123456789,-abcdefGPUMIG/") == strlen(text))
        memcpy(step.gpus, text, sizeof(text));
}

/* `hpcimg get` as `who`: its exit code, and in `step` what to run. */
static int get_entry(const struct identity *who, const char *scope, uid_t uid, const char *node,
                     char *output)
{
    char job[16], user[16];
    size_t size = 0;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), code;
    char *argv[] = {site.python, "-I",       "-m",    "hpcimg",   "get",   "--store",
                    (char *)scope, "--job",  job,     "--uid",    user,    "--gpus",
                    step.gpus,   "--node",   (char *)node, "--",  step.image, NULL};

    (void)snprintf(job, sizeof(job), "%u", step.job);
    (void)snprintf(user, sizeof(user), "%u", uid);
    code = run_stage(who, argv, null, output, &size);
    (void)close(null);
    if (code == 0 && !parse_entry(output, &step.entry))
        code = -1;
    return code;
}

static int ensure_entry(const struct identity *user, const char *node, char *output)
{
    enum { NOT_FOR_THE_SITE = 80 }; /* `get --store site`: only the user's credentials may help */
    struct identity account = {.uid = 0};
    int code;

    if (read_ticket(step.job, step.image, step.gpus, &step.entry))
        return 0;
    if (find_identity(site.account, 0, &account) != 0 || account.uid == 0)
        return refuse(node, "the store's account does not exist on this node",
                      "create it, or name it in plugstack.conf: account=NAME");
    code = get_entry(&account, "site", user->uid, node, output);
    if (code == 0)
        step.ticket = strdup(output);
    else if (code == NOT_FOR_THE_SITE)
        code = get_entry(user, "own", user->uid, node, output);
    if (code == -1 || code == LAUNCH_FAILED)
        return refuse(node, "the image could not be fetched: hpcimg get did not run to its end",
                      "is the hpcimg package on this node? try: hpcimg doctor");
    return code;
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

static bool write_groups(const struct identity *user, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < user->group_count; i++) {
        int length = snprintf(text + used, size - used, "%s%u", i ? "," : "", user->groups[i]);
        if (length < 0 || (size_t)length >= size - used)
            return false;
        used += (size_t)length;
    }
    return true;
}

static int start_container(spank_t spank, const struct identity *user, const char *node,
                           char *output)
{
    static char groups[1 << 16];
    char uid[16], gid[16], job[16], workdir[PATH_MAX], starter[PATH_MAX], holder[PATH_MAX];
    char *argv[32] = {starter,   "--uid",      uid,     "--gid",     gid,      "--groups",
                      groups,    "--job",      job,     "--image",   step.entry.image,
                      "--name",  step.image,   "--node", (char *)node, "--workdir", workdir,
                      "--apptainer", site.apptainer, "--holder", holder};
    size_t next = 21, size = 0;
    uint32_t id = 0;
    int count = 0;
    char **command = NULL;

    (void)snprintf(uid, sizeof(uid), "%u", user->uid);
    (void)snprintf(gid, sizeof(gid), "%u", user->gid);
    (void)snprintf(job, sizeof(job), "%u", step.job);
    (void)snprintf(starter, sizeof(starter), "%.4000s/starter", site.libexec);
    (void)snprintf(holder, sizeof(holder), "%.4000s/holder", site.libexec);
    read_workdir(workdir, sizeof(workdir));
    if (!write_groups(user, groups, sizeof(groups)))
        return refuse(node, "the user is in too many groups", "ask the site");
    if (step.entry.has_gpu)
        argv[next++] = "--gpu";
    if (spank_get_item(spank, S_JOB_STEPID, &id) == ESPANK_SUCCESS && id == SLURM_BATCH_SCRIPT &&
        spank_get_item(spank, S_JOB_ARGV, &count, &command) == ESPANK_SUCCESS && count > 0) {
        argv[next++] = "--script";
        argv[next++] = command[0];
    }
    if (run_stage(NULL, argv, step.lifeline[0], output, &size) != 0)
        return -1;
    return parse_container(output, size, &step.container)
               ? 0
               : refuse(node, "the starter's report is wrong", "reinstall hpcimg on this node");
}

EXPORT int slurm_spank_user_init(spank_t spank, int argc, char **argv)
{
    struct identity user = {.uid = 0};
    gid_t *groups = NULL, gid = 0;
    int group_count = 0;
    uid_t uid = 0;
    char node[HOST_NAME_MAX + 1] = "", *output;

    (void)argc;
    (void)argv;
    if (step.image[0] == '\0')
        return 0;
    (void)gethostname(node, sizeof(node) - 1);
    node[strcspn(node, ".")] = '\0';
    /* Kept for the life of the step: the image's environment stays in it. */
    output = malloc(STAGE_OUTPUT + 1);
    step.refused = true;
    if (output == NULL || step.lifeline[0] < 0 || !is_image_name(step.image) ||
        spank_get_item(spank, S_JOB_ID, &step.job) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_UID, &uid) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_GID, &gid) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &groups, &group_count) != ESPANK_SUCCESS) {
        (void)refuse(node, "this step's request is not in order", "look at the slurmd log");
        return 0;
    }
    (void)find_identity(NULL, uid, &user);
    user.uid = uid;
    user.gid = gid;
    user.groups = groups;
    user.group_count = (size_t)group_count;
    read_gpus(spank);
    step.refused = ensure_entry(&user, node, output) != 0 ||
                   start_container(spank, &user, node, output) != 0;
    return 0; /* the joiner refuses: an error here would add Slurm's own lines to ours */
}

EXPORT int slurm_spank_task_init_privileged(spank_t spank, int argc, char **argv)
{
    (void)spank;
    (void)argc;
    (void)argv;
    if (step.image[0] == '\0' || step.refused)
        return 0;
    if (!open_container(&step.container, step.descriptors)) {
        slurm_spank_log("hpcimg: the container of \"%s\" ended before its tasks: %s", step.image,
                        strerror(errno));
        step.refused = true;
    }
    return 0;
}

EXPORT int slurm_spank_task_post_fork(spank_t spank, int argc, char **argv)
{
    static bool adopted;
    pid_t task = 0;

    (void)argc;
    (void)argv;
    if (step.image[0] == '\0' || step.refused || adopted)
        return 0;
    adopted = true;
    if (spank_get_item(spank, S_TASK_PID, &task) == ESPANK_SUCCESS)
        adopt_container(&step.container, task);
    if (step.ticket != NULL)
        write_ticket(step.job, step.image, step.gpus, step.ticket);
    return 0;
}

EXPORT int slurm_spank_task_exit(spank_t spank, int argc, char **argv)
{
    static uint32_t ended;
    uint32_t count = 0;

    (void)argc;
    (void)argv;
    if (step.image[0] == '\0' || step.refused)
        return 0;
    if (spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &count) == ESPANK_SUCCESS && ++ended == count)
        end_container(&step.container);
    return 0;
}

#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
static int prepend(spank_t spank, const char *joiner)
{
    char text[3][16];
    const char *join[] = {joiner, text[0], text[1], text[2], "--"};
    const char *refusal[] = {joiner, "--refuse", "--"};

    for (int i = 0; i < 3; i++)
        (void)snprintf(text[i], sizeof(text[i]), "%d", step.descriptors[i]);
    if (step.refused)
        return spank_prepend_task_argv(spank, 3, refusal) == ESPANK_SUCCESS ? 0 : -1;
    return spank_prepend_task_argv(spank, 5, join) == ESPANK_SUCCESS ? 0 : -1;
}
#else
/* Before 23.11 Slurm has no call for it: argv[0] is replaced in place, and the descriptors and the
 * command travel in the environment. --multi-prog has an argv of its own there and is refused. */
static int prepend(spank_t spank, const char *joiner)
{
    char value[PATH_MAX + 64], **command = NULL;
    int count = 0;

    if (spank_get_item(spank, S_JOB_ARGV, &count, &command) != ESPANK_SUCCESS || count < 1)
        return -1;
    (void)snprintf(value, sizeof(value), "%d %d %d %s", step.refused ? -1 : step.descriptors[0],
                   step.descriptors[1], step.descriptors[2], command[0]);
    if (spank_setenv(spank, "SLURM_HPCIMG_JOIN", value, 1) != ESPANK_SUCCESS)
        return -1;
    command[0] = strdup(joiner);
    return command[0] != NULL ? 0 : -1;
}
#endif

/* Put the joiner before the user's command, whatever has happened: it is what refuses. */
EXPORT int slurm_spank_task_init(spank_t spank, int argc, char **argv)
{
    char joiner[PATH_MAX];

    (void)argc;
    (void)argv;
    if (step.image[0] == '\0')
        return 0;
    (void)snprintf(joiner, sizeof(joiner), "%.4000s/joiner", site.libexec);
    if (access(joiner, X_OK) == 0 && prepend(spank, joiner) == 0)
        return 0;
    slurm_spank_log("hpcimg: could not put \"%s\" before the command; nothing runs", joiner);
    _exit(LAUNCH_FAILED); /* an optional plugin's error is swallowed, and the host would run it */
}
