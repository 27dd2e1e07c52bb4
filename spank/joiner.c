/* The joiner puts one task into the container of its step, then becomes the user's command.
 *
 *     joiner PIDFD ROOTFD ENVFD -- COMMAND [ARGUMENT...]
 *
 * PIDFD is the anchor, a process that is in the container's namespaces, or where the kernel cannot
 * follow a pidfd, the anchor's mount namespace; ROOTFD is the root directory there; ENVFD holds,
 * NUL-separated, what the task gets of its request (see `told`), an empty text, and the variables
 * that the image and the node set.
 *     joiner --refuse -- COMMAND...
 * ends at once: the plugin has said why, and the command must not run on the host.
 *     joiner --end -- COMMAND...
 * ends too, and well: the step only had to have its image fetched.
 * Where Slurm cannot put words before a command (before 23.11), the same words and the command
 * come in SLURM_HPCIMG_JOIN, and argv[1] is the command's first argument already. */
#define _GNU_SOURCE
#include "as_root.h"
#include "client.h"
#include "common.h"
#include "gpu_numbers.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* The joiner's part of the request. */
struct told {
    const char *workdir;    /* start here and nowhere else */
    const char *own;        /* the image's own directory, where the step's is not inside */
    const char *kept;       /* variables that are the job's also where the image sets them */
    const char *namespaces; /* beside the usual ones */
    const char *order;      /* Slurm's numbers of the GPUs that are seen, which count from 0 */
    bool as_root;
    char *variables, *end; /* what follows */
};

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

static const char *value_of(const char *entry, const char *key)
{
    size_t length = strlen(key);

    return strncmp(entry, key, length) == 0 ? entry + length : NULL;
}

static void take(struct told *told, const char *entry)
{
    const struct {
        const char *key, **place;
    } known[] = {{"workdir=", &told->workdir},
                 {"own=", &told->own},
                 {"env=", &told->kept},
                 {"unshare=", &told->namespaces},
                 {"renumber=", &told->order}};

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (value_of(entry, known[i].key) != NULL)
            *known[i].place = value_of(entry, known[i].key);
    told->as_root = told->as_root || value_of(entry, "root=yes") != NULL;
}

/* The texts stay mapped: putenv keeps what it is given. */
static bool read_told(int fd, struct told *told)
{
    struct stat status;
    char *entry;

    if (fstat(fd, &status) < 0)
        return false;
    errno = EINVAL;
    if (status.st_size <= 0 || status.st_size > ENVIRONMENT_SIZE)
        return false;
    entry = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (entry == MAP_FAILED)
        return false;
    told->end = entry + status.st_size;
    if (told->end[-1] != '\0')
        return false;
    for (; entry < told->end && *entry != '\0'; entry += strlen(entry) + 1)
        take(told, entry);
    told->variables = entry + 1;
    return entry < told->end;
}

/* Whether a list of names has that of a variable, and the job has a value for it. */
static bool is_kept(const char *list, const char *entry)
{
    size_t length = strcspn(entry, "=");
    char name[256];

    for (; list != NULL && *list != '\0'; list += strcspn(list, ","), list += *list == ',')
        if (strcspn(list, ",") == length && strncmp(list, entry, length) == 0 &&
            snprintf(name, sizeof(name), "%.*s", (int)length, entry) < (int)sizeof(name))
            return getenv(name) != NULL;
    return false;
}

/* Lay the image's variables, and the node's, over the job's. */
static bool set_environment(const struct told *told)
{
    for (char *entry = told->variables; entry < told->end; entry += strlen(entry) + 1) {
        if (strchr(entry, '=') == NULL || belongs_to_job(entry) || is_kept(told->kept, entry))
            continue;
        if (putenv(entry) != 0)
            return false;
    }
    if (told->order != NULL)
        renumber_gpus(told->order);
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

static int namespaces(const struct told *told)
{
    const char *list = told->namespaces != NULL ? told->namespaces : "";

    return CLONE_NEWUSER | CLONE_NEWNS | (strstr(list, "net") != NULL ? CLONE_NEWNET : 0) |
           (strstr(list, "ipc") != NULL ? CLONE_NEWIPC : 0) |
           (strstr(list, "uts") != NULL ? CLONE_NEWUTS : 0);
}

/* Before Linux 5.8 `fd` is the mount namespace, and the user namespace that owns it, Apptainer's,
 * must be entered first. There, groups but the primary one have no name and no number; nobody may
 * be root there, since more hangs on it than the task; and it has no other namespaces. */
static bool enter_in_turn(int fd, const struct told *told)
{
    int owner = ioctl(fd, NS_GET_USERNS);
    bool can = !told->as_root && namespaces(told) == (CLONE_NEWUSER | CLONE_NEWNS);
    bool entered =
        can && owner >= 0 && setns(owner, CLONE_NEWUSER) == 0 && setns(fd, CLONE_NEWNS) == 0;

    if (owner >= 0)
        (void)close(owner);
    if (!can)
        errno = ENOSYS;
    return entered;
}

/* One call for all namespaces: the tasks' user namespace and the mount namespace's own one are
 * siblings, so neither can be entered from within the other. */
static bool enter(int fd, int rootfd, const struct told *told)
{
    bool entered = setns(fd, namespaces(told)) == 0 || (errno == EINVAL && enter_in_turn(fd, told));

    return entered && fchdir(rootfd) == 0 && chroot(".") == 0;
}

/* Where the step was started, if that is inside too; else where the image wants to start. */
static bool change_directory(const struct told *told, const char *workdir)
{
    const char *home = getenv("HOME");

    if (told->workdir != NULL)
        return chdir(told->workdir) == 0;
    return (workdir[0] != '\0' && chdir(workdir) == 0) ||
           (told->own != NULL && chdir(told->own) == 0) || (home != NULL && chdir(home) == 0) ||
           chdir("/") == 0;
}

/* Who is root inside keeps what root may in a namespace that owns nothing but the task. */
static bool drop_capabilities(const struct told *told)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return false;
    if (told->as_root)
        return pretend_owners();
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
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

static int join(unsigned long fd[3], char **command)
{
    struct told told = {.workdir = NULL};
    char workdir[PATH_MAX];

    if (getcwd(workdir, sizeof(workdir)) == NULL)
        workdir[0] = '\0';
    if (!read_told((int)fd[2], &told))
        return fail("read what was asked for to run", command[0]);
    if (!enter((int)fd[0], (int)fd[1], &told))
        return fail("enter the container to run", command[0]);
    if (!change_directory(&told, workdir))
        return fail("start in the directory", told.workdir != NULL ? told.workdir : "/");
    if (!drop_capabilities(&told))
        return fail("drop capabilities before running", command[0]);
    if (!set_environment(&told) || !offer_commands())
        return fail("set the image's environment for", command[0]);
    close_descriptors();
    command[0] = complete_broadcast(command[0]);
    execvp(command[0], command);
    return explain(command[0], errno);
}

int main(int argc, char **argv)
{
    unsigned long fd[3];

    if (is_told("--refuse", argc, argv))
        return LAUNCH_FAILED;
    if (is_told("--end", argc, argv))
        return 0;
    argv = parse_words(argc, argv, fd);
    if (argv == NULL) {
        (void)fprintf(stderr, "usage: joiner PIDFD ROOTFD ENVFD -- COMMAND [ARGUMENT...]\n");
        return LAUNCH_FAILED;
    }
    return join(fd, argv);
}
