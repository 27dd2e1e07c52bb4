/* The joiner puts one task into the container of its step, then becomes the user's command.
 *
 *     joiner PIDFD ROOTFD ENVFD -- COMMAND [ARGUMENT...]
 *
 * PIDFD is the anchor, a process that is in the container's namespaces; ROOTFD is the root
 * directory there; ENVFD holds the environment that the image sets, NUL-separated.
 *     joiner --refuse -- COMMAND...
 * ends at once: the plugin has said why, and the command must not run on the host.
 *     joiner --end -- COMMAND...
 * ends too, and well: the step only had to have its image fetched.
 * Where Slurm cannot put words before a command (before 23.11), the same words and the command
 * come in SLURM_HPCIMG_JOIN, and argv[1] is the command's first argument already. */
#define _GNU_SOURCE
#include "client.h"
#include "common.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char *what, const char *value)
{
    (void)fprintf(stderr, "hpcimg: could not %s \"%s\": %s\n", what, value, strerror(errno));
    return LAUNCH_FAILED;
}

/* Variables that are the job's whatever the image says: who and where the user is, and the
 * wiring of Slurm, PMI and the allocated devices. */
static bool belongs_to_job(const char *entry)
{
    static const char *const names[] = {"HOME=",
                                        "PWD=",
                                        "OLDPWD=",
                                        "SHLVL=",
                                        "_=",
                                        "USER=",
                                        "LOGNAME=",
                                        "USER_PATH=",
                                        "PS1=",
                                        "PROMPT_COMMAND=",
                                        "TMPDIR=",
                                        "APPTAINER_BIND=",
                                        "SINGULARITY_BIND=",
                                        "CUDA_VISIBLE_DEVICES=",
                                        "NVIDIA_VISIBLE_DEVICES=",
                                        "ROCR_VISIBLE_DEVICES=",
                                        "HIP_VISIBLE_DEVICES=",
                                        "GPU_DEVICE_ORDINAL=",
                                        "ZE_AFFINITY_MASK=",
                                        "SLURM_",
                                        "SLURMD_",
                                        "PMI_",
                                        "PMI2_",
                                        "PMIX_",
                                        "SPANK_",
                                        NULL};

    for (size_t i = 0; names[i] != NULL; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* Lay the image's variables over the job's. The blob stays mapped: putenv keeps its strings. */
static bool set_environment(int fd)
{
    struct stat status;
    char *blob, *entry;

    if (fstat(fd, &status) < 0 || status.st_size < 0 || status.st_size > ENVIRONMENT_SIZE)
        return false;
    if (status.st_size == 0)
        return true;
    blob = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (blob == MAP_FAILED)
        return false;
    if (blob[status.st_size - 1] != '\0') {
        errno = EINVAL;
        return false;
    }
    for (entry = blob; entry < blob + status.st_size; entry += strlen(entry) + 1) {
        if (strchr(entry, '=') == NULL || belongs_to_job(entry))
            continue;
        if (putenv(entry) != 0)
            return false;
    }
    return true;
}

/* Slurm's commands go last in PATH, so that none of the image's own is hidden. They are offered
 * where they work, and to a batch script, whose author is told why not; elsewhere programs take an
 * srun that is there for one that works. */
static bool offer_commands(void)
{
    const char *path = getenv("PATH");
    bool is_batch = getenv("SLURM_STEP_ID") == NULL;
    char *longer = NULL;

    if (path == NULL || path[0] == '\0' || access(COMMANDS, F_OK) < 0 ||
        (!is_batch && access(HOST_USR, F_OK) < 0))
        return true;
    return asprintf(&longer, "PATH=%s:" COMMANDS, path) > 0 && putenv(longer) == 0;
}

/* One call for both namespaces: the tasks' user namespace and the mount namespace's own one are
 * siblings, so neither can be entered from within the other. */
static bool enter(int pidfd, int rootfd, const char *workdir)
{
    const char *home = getenv("HOME");

    if (setns(pidfd, CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return false;
    if (fchdir(rootfd) < 0 || chroot(".") < 0)
        return false;
    if (chdir(workdir) == 0 || (home != NULL && chdir(home) == 0))
        return true;
    return chdir("/") == 0;
}

static bool drop_capabilities(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return false;
    for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EINVAL)
            return false;
    return true;
}

/* PMI-1 and PMI-2 clients talk through an open descriptor that this variable names. */
static void close_descriptors(void)
{
    unsigned long number;
    int kept = -1;

    if (parse_number(getenv("PMI_FD"), INT_MAX, &number))
        kept = dup((int)number);
    close_on_exec_from(3);
    if (kept >= 0)
        (void)dup2(kept, (int)number); /* dup2 clears close-on-exec */
}

static bool is_told(const char *option, int argc, char **argv)
{
    const char *variable = getenv("SLURM_HPCIMG_JOIN");

    return variable != NULL ? strcmp(variable, option + 2) == 0
                            : argc >= 2 && strcmp(argv[1], option) == 0;
}

/* Read the descriptors, from the words or from the variable; the user's command, or NULL. */
static char **parse_words(int argc, char **argv, unsigned long fd[3])
{
    char *next = getenv("SLURM_HPCIMG_JOIN");

    if (next != NULL) {
        for (int i = 0; i < 3; i++)
            if (!parse_number(strsep(&next, " "), INT_MAX, &fd[i]) || next == NULL)
                return NULL;
        argv[0] = strdup(next);
        (void)unsetenv("SLURM_HPCIMG_JOIN");
        return argv;
    }
    if (argc < 6 || strcmp(argv[4], "--") != 0)
        return NULL;
    for (int i = 0; i < 3; i++)
        if (!parse_number(argv[i + 1], INT_MAX, &fd[i]))
            return NULL;
    return argv + 5;
}

/* `srun --bcast` may name a directory: then slurmstepd completes argv[0], which here is the
 * joiner's, by the name that its file was given there. */
static char *complete_broadcast(char *command)
{
    const char *job = getenv("SLURM_JOB_ID"), *step = getenv("SLURM_STEP_ID"),
               *node = getenv("SLURMD_NODENAME");
    size_t length = strlen(command);
    char *whole = NULL;

    if (length == 0 || command[length - 1] != '/' || job == NULL || step == NULL || node == NULL ||
        asprintf(&whole, "%sslurm_bcast_%s.%s_%s", command, job, step, node) < 0)
        return command;
    return whole;
}

/* Slurm says this once a task too, and its exit code is the errno as well. */
static int explain(const char *command, int reason)
{
    const char *node = getenv("SLURMD_NODENAME"), *image = getenv("SLURM_HPCIMG_IMAGE");
    /* The kernel says ENOENT of a script whose interpreter is missing. */
    bool is_script = reason == ENOENT && strchr(command, '/') != NULL && access(command, F_OK) == 0;

    (void)fprintf(stderr, "hpcimg: %s: could not run \"%s\" in \"%s\": %s%s\n",
                  node != NULL ? node : "?", command, image != NULL ? image : "?", strerror(reason),
                  is_script ? ": the image lacks the interpreter that its first line names" : "");
    return reason;
}

int main(int argc, char **argv)
{
    unsigned long fd[3];
    char workdir[PATH_MAX];

    if (is_told("--refuse", argc, argv))
        return LAUNCH_FAILED;
    if (is_told("--end", argc, argv))
        return 0;
    argv = parse_words(argc, argv, fd);
    if (argv == NULL) {
        (void)fprintf(stderr, "usage: joiner PIDFD ROOTFD ENVFD -- COMMAND [ARGUMENT...]\n");
        return LAUNCH_FAILED;
    }
    if (getcwd(workdir, sizeof(workdir)) == NULL)
        workdir[0] = '\0';
    if (!enter((int)fd[0], (int)fd[1], workdir))
        return fail("enter the container to run", argv[0]);
    if (!drop_capabilities())
        return fail("drop capabilities before running", argv[0]);
    if (!set_environment((int)fd[2]) || !offer_commands())
        return fail("set the image's environment for", argv[0]);
    close_descriptors();
    argv[0] = complete_broadcast(argv[0]);
    execvp(argv[0], argv);
    return explain(argv[0], errno);
}
