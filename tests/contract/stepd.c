/* Stands for Slurm around the plugin, for a release that this machine has the headers of but not
 * the programs: it has the symbols that a SPANK plugin looks up, and calls the plugin's hooks in
 * slurmstepd's order, or in srun's.
 *
 *     stepd slurmstepd PLUGIN [ARGUMENT...] -- COMMAND...    two tasks of COMMAND, as nobody
 *     stepd srun       PLUGIN [ARGUMENT...] -- OPTION...     MULTI_PROG says that srun was told so
 *
 * The job's environment is its own. Nothing here knows what the plugin does with any of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <grp.h>
#include <slurm/slurm.h>
#include <slurm/spank.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TASKS 2
#define USER  65534

char opt[1]; /* srun's options, which only the functions below look at */
char *slurm_option_get(void *options, const char *name);
bool slurm_option_reset(void *options, const char *name);
bool slurm_option_isset(void *options, const char *name);

static spank_context_t context;
static gid_t groups[] = {100, USER};
static char **command;
static pid_t task;
static void *plugin;

char *slurm_option_get(void *options, const char *name)
{
    (void)options;
    return strcmp(name, "container") == 0 ? getenv("CONTAINER") : NULL;
}

bool slurm_option_reset(void *options, const char *name)
{
    (void)options;
    return unsetenv(strcmp(name, "container") == 0 ? "CONTAINER" : name) == 0;
}

bool slurm_option_isset(void *options, const char *name)
{
    (void)options;
    return strcmp(name, "multi-prog") == 0 && getenv("MULTI_PROG") != NULL;
}

spank_context_t spank_context(void)
{
    return context;
}

int spank_remote(spank_t spank)
{
    (void)spank;
    return context == S_CTX_REMOTE;
}

spank_err_t spank_option_register(spank_t spank, struct spank_option *option)
{
    (void)spank;
    (void)option;
    return ESPANK_SUCCESS;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
    spank_err_t code = ESPANK_SUCCESS;
    va_list to;

    (void)spank;
    va_start(to, item);
    switch (item) {
    case S_JOB_UID: *va_arg(to, uid_t *) = USER; break;
    case S_JOB_GID: *va_arg(to, gid_t *) = USER; break;
    case S_JOB_SUPPLEMENTARY_GIDS:
        *va_arg(to, gid_t **) = groups;
        *va_arg(to, int *) = sizeof(groups) / sizeof(*groups);
        break;
    case S_JOB_ID: *va_arg(to, uint32_t *) = 4000000001U; break;
    case S_JOB_STEPID: *va_arg(to, uint32_t *) = 0; break;
    case S_JOB_NNODES: *va_arg(to, uint32_t *) = 1; break;
    case S_JOB_NODEID: *va_arg(to, uint32_t *) = 0; break;
    case S_JOB_LOCAL_TASK_COUNT: *va_arg(to, uint32_t *) = TASKS; break;
    case S_JOB_ARGV:
        *va_arg(to, int *) = 1;
        *va_arg(to, char ***) = command;
        break;
    case S_TASK_PID: *va_arg(to, pid_t *) = task; break;
    default: code = ESPANK_BAD_ARG;
    }
    va_end(to);
    return code;
}

spank_err_t spank_getenv(spank_t spank, const char *name, char *value, int size)
{
    const char *found = getenv(name);

    (void)spank;
    if (found == NULL)
        return ESPANK_ENV_NOEXIST;
    return snprintf(value, (size_t)size, "%s", found) < size ? ESPANK_SUCCESS : ESPANK_NOSPACE;
}

spank_err_t spank_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
    (void)spank;
    return setenv(name, value, overwrite) == 0 ? ESPANK_SUCCESS : ESPANK_ERROR;
}

spank_err_t spank_unsetenv(spank_t spank, const char *name)
{
    (void)spank;
    return unsetenv(name) == 0 ? ESPANK_SUCCESS : ESPANK_ERROR;
}

spank_err_t spank_job_control_setenv(spank_t spank, const char *name, const char *value, int over)
{
    (void)spank;
    (void)fprintf(stderr, "for the prolog: %s=%s\n", name, over ? value : "");
    return ESPANK_SUCCESS;
}

static void say(const char *format, va_list words)
{
    (void)vfprintf(stderr, format, words);
    (void)fputc('\n', stderr);
}

#define LOG(name)                                                                                  \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list words;                                                                             \
        va_start(words, format);                                                                   \
        say(format, words);                                                                        \
        va_end(words);                                                                             \
    }
LOG(slurm_error)
LOG(slurm_info)
LOG(slurm_verbose)
LOG(slurm_debug)
LOG(slurm_spank_log)

static int call(const char *hook, int argc, char **argv)
{
    spank_f *function;

    *(void **)&function = dlsym(plugin, hook);
    return function != NULL ? function(NULL, argc, argv) : 0;
}

static void be_task(int argc, char **argv, const int go[2])
{
    char byte;

    if (call("slurm_spank_task_init_privileged", argc, argv) != 0)
        _exit(121);
    (void)close(go[1]);
    (void)!read(go[0], &byte, 1);
    if (setgroups(2, groups) != 0 || setgid(USER) != 0 || setuid(USER) != 0)
        _exit(122);
    (void)call("slurm_spank_task_init", argc, argv); /* of an optional plugin no error counts */
    execvp(command[0], command);
    perror(command[0]);
    _exit(123);
}

static int run_step(int argc, char **argv)
{
    int status, code = 0;

    if (seteuid(USER) != 0)
        return 120;
    (void)call("slurm_spank_user_init", argc, argv);
    if (seteuid(0) != 0)
        return 120;
    for (int i = 0; i < TASKS; i++) {
        int go[2];
        if (pipe(go) != 0)
            return 120;
        if ((task = fork()) == 0)
            be_task(argc, argv, go);
        (void)call("slurm_spank_task_post_fork", argc, argv);
        (void)close(go[1]);
        (void)close(go[0]);
        if (waitpid(task, &status, 0) == task && WIFEXITED(status) && WEXITSTATUS(status) > code)
            code = WEXITSTATUS(status);
        (void)call("slurm_spank_task_exit", argc, argv);
    }
    (void)call("slurm_spank_exit", argc, argv);
    return code;
}

int main(int argc, char **argv)
{
    int count = 0, code;

    if (argc < 4 || (plugin = dlopen(argv[2], RTLD_NOW)) == NULL) {
        (void)fprintf(stderr, "stepd: %s\n", argc < 4 ? "too few words" : dlerror());
        return 120;
    }
    context = strcmp(argv[1], "srun") == 0 ? S_CTX_LOCAL : S_CTX_REMOTE;
    argv += 3;
    while (argv[count] != NULL && strcmp(argv[count], "--") != 0)
        count++;
    command = argv + count + (argv[count] != NULL);
    if ((code = call("slurm_spank_init", count, argv)) != 0 ||
        (code = call("slurm_spank_init_post_opt", count, argv)) != 0)
        return 121;
    return context == S_CTX_LOCAL ? 0 : run_step(count, argv);
}
