/* See request.h. Slurm owns the word --container since 21.08, for OCI bundle directories; with it
 * set, a step gets no PMIx. So srun is started again with --container-image in its place. */
#define _GNU_SOURCE
#include "request.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND_LINE_SIZE (4 << 20) /* more than the kernel lets a command line be */

extern char **environ;
extern int optind; /* where srun's own parsing stopped, in the component at hand */

static char **first_environment; /* as the user's shell gave it to this command */
static int component_start;      /* where the component at hand begins in the whole line */

bool is_image_name(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= NAME_LENGTH &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/@#[]") ==
               length;
}

/* Paths are Slurm's own bundles; they stay with Slurm. */
static bool is_bundle(const char *value)
{
    return value[0] == '/' || strncmp(value, "./", 2) == 0 || strncmp(value, "../", 3) == 0;
}

void request_init(void)
{
    size_t count = 0;

    while (environ[count] != NULL)
        count++;
    first_environment = calloc(count + 1, sizeof(char *));
    for (size_t i = 0, kept = 0; first_environment != NULL && i < count; i++) {
        if (strncmp(environ[i], "SLURM_CONTAINER=", 16) != 0 &&
            strncmp(environ[i], "SRUN_CONTAINER=", 15) != 0)
            first_environment[kept++] = strdup(environ[i]);
    }
    (void)unsetenv("SLURM_CONTAINER");
}

static char **read_command_line(size_t *count)
{
    char *text = malloc(COMMAND_LINE_SIZE);
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = -1;
    char **words = NULL;

    if (fd >= 0 && text != NULL)
        size = read_all(fd, text, COMMAND_LINE_SIZE);
    if (fd >= 0)
        (void)close(fd);
    *count = 0;
    for (ssize_t i = 0; i < size; i++)
        *count += text[i] == '\0';
    if (size > 0)
        words = calloc(*count + 2, sizeof(char *)); /* room for one more option */
    for (size_t i = 0; words != NULL && i < *count; i++) {
        words[i] = text;
        text += strlen(text) + 1;
    }
    return words; /* kept: this process is about to be replaced */
}

/* Write our option over Slurm's, between the words `first` and `last` that srun took as options. */
static bool replace_option(char **words, size_t first, size_t last, const char *value)
{
    bool replaced = false;

    for (size_t i = first; i < last; i++) {
        if (strcmp(words[i], "--container") == 0 && i + 1 < last &&
            strcmp(words[i + 1], value) == 0) {
            words[i] = strdup("--container-image");
            replaced = true;
            i++;
        } else if (strncmp(words[i], "--container=", 12) == 0 && strcmp(words[i] + 12, value) == 0) {
            if (asprintf(&words[i], "--container-image=%s", value) < 0)
                return false;
            replaced = true;
        }
    }
    return replaced;
}

/* SRUN_CONTAINER has no word on the line to replace: add ours as the first option. */
static void insert_option(char **words, size_t count, const char *value)
{
    memmove(words + 2, words + 1, count * sizeof(char *));
    if (asprintf(&words[1], "--container-image=%s", value) < 0)
        words[1] = NULL;
}

static void exec_again(char **words)
{
    /* srun blocks these while it parses; its successor must start as the first one did. */
    static const int blocked[] = {SIGINT,  SIGQUIT, SIGCONT, SIGTERM, SIGHUP,
                                  SIGALRM, SIGUSR1, SIGUSR2, SIGPIPE, SIGWINCH};
    char program[4096];
    ssize_t size = readlink("/proc/self/exe", program, sizeof(program) - 1);
    sigset_t signals;

    if (size <= 0)
        return;
    program[size] = '\0';
    sigemptyset(&signals);
    for (size_t i = 0; i < sizeof(blocked) / sizeof(*blocked); i++)
        sigaddset(&signals, blocked[i]);
    (void)sigprocmask(SIG_UNBLOCK, &signals, NULL);
    execve(program, words, first_environment);
}

static int start_again(const char *value)
{
    size_t count = 0, last;
    char **words = read_command_line(&count);
    bool from_environment = getenv("SRUN_CONTAINER") != NULL;

    if (words != NULL && first_environment != NULL) {
        last = (size_t)component_start + (size_t)optind;
        if (replace_option(words, (size_t)component_start, last < count ? last : count, value))
            exec_again(words);
        else if (from_environment && component_start == 0) {
            insert_option(words, count, value);
            exec_again(words);
        }
    }
    slurm_error("hpcimg: could not take \"--container %s\" from the command line", value);
    slurm_error("hpcimg: hint: write --container-image=%s", value);
    return -1;
}

/* srun parses a heterogeneous step one component after the other; the next begins at the ":". */
static void note_component(void)
{
    size_t count = 0;
    char **words = read_command_line(&count);

    for (size_t i = (size_t)component_start + (size_t)optind; words != NULL && i < count; i++) {
        if (strcmp(words[i], ":") == 0) {
            component_start = (int)i;
            break;
        }
    }
}

static int carry(spank_t spank, const char *name)
{
    if (!is_image_name(name)) {
        slurm_error("hpcimg: \"%.64s\" is not an image name (1 to %d characters of a reference)",
                    name, NAME_LENGTH);
        slurm_error("hpcimg: hint: write [REGISTRY/]REPOSITORY[:TAG][@DIGEST]");
        return -1;
    }
    if (setenv(IMAGE_VARIABLE, name, 1) != 0)
        return -1;
    /* Refused inside an existing job, which has no prolog to come. */
    (void)spank_job_control_setenv(spank, PROLOG_VARIABLE, name, 1);
    return 0;
}

int request_complete(spank_t spank, const char *option)
{
    const char *container = getenv("SLURM_CONTAINER");
    const char *inherited = getenv(IMAGE_VARIABLE);
    bool is_srun = spank_context() == S_CTX_LOCAL;

    if (container != NULL && !is_bundle(container)) {
        if (is_srun)
            return start_again(container);
        if (option == NULL)
            return carry(spank, container);
    }
    if (is_srun)
        note_component();
    if (option != NULL)
        return carry(spank, option);
    return inherited != NULL ? carry(spank, inherited) : 0;
}
