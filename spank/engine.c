/* See engine.h. Apptainer gets none of the job's environment, so nothing of it can change the
 * container; what then shows up beside the image's own variables is filtered by the joiner. */
#define _GNU_SOURCE
#include "engine.h"

#include "client.h"
#include "common.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOLDER_INSIDE "/.hpcimg-holder"

/* A field of comma separated ones, with quotes around it. */
static void write_field(FILE *file, const char *key, const char *value)
{
    (void)fprintf(file, ",\"%s=", key);
    for (; *value != '\0'; value++)
        (void)fprintf(file, *value == '"' ? "\"\"" : "%c", *value);
    (void)fputc('"', file);
}

static void add_mount(struct argv *argv, const char *source, const char *target, bool is_read_only)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    if (file == NULL) {
        argv->is_short = true;
        return;
    }
    (void)fputs("type=bind", file);
    write_field(file, "source", source);
    write_field(file, "destination", target);
    if (is_read_only)
        (void)fputs(",ro", file);
    if (fclose(file) == 0)
        add_words(argv, "--mount", text, NULL);
    else
        argv->is_short = true;
    free(text);
}

static bool add_bind(struct argv *argv, const struct bind *bind, size_t number)
{
    char memory[64];
    const char *source = bind->source;
    struct stat status;

    if (bind->kind == BIND_UMOUNT)
        return true;
    if (bind->kind == BIND_TMPFS) {
        (void)snprintf(memory, sizeof(memory), MEMORY "/%zu", number);
        source = memory;
    }
    if (stat(source, &status) == 0) {
        add_mount(argv, source, bind->target, bind->is_read_only);
        return true;
    }
    if (!bind->is_optional)
        (void)fprintf(stderr, "the source \"%s\" of a mount cannot be used: %s\n", source,
                      strerror(errno));
    return bind->is_optional;
}

/* Apptainer also shows the working directory, which may be the home directory, or be around it. */
static void add_no_home(struct argv *argv, const char *home)
{
    char here[PATH_MAX];
    size_t length = getcwd(here, sizeof(here)) != NULL ? strlen(here) : 0;
    bool is_around =
        length > 1 && strncmp(home, here, length) == 0 && strchr("/", home[length]) != NULL;

    add_words(argv, "--no-mount", is_around ? "home,cwd" : "home", NULL);
}

static void add_command(struct argv *argv, const struct request *request)
{
    char *words = request->entrypoint != NULL ? strdup(request->entrypoint) : NULL, *rest = words;

    for (char *word; (word = strsep(&rest, "\t")) != NULL;)
        add_words(argv, word, NULL);
    free(words);
    add_words(argv, HOLDER_INSIDE, request->start_in, NULL);
}

/* They lie beside the holder; a node that has none yet was installed by an older make. */
static void add_commands(struct argv *argv, const char *holder)
{
    char folder[PATH_MAX];
    const char *end = strrchr(holder, '/');

    (void)snprintf(folder, sizeof(folder), "%.*s/commands", end != NULL ? (int)(end - holder) : 0,
                   holder);
    if (access(folder, F_OK) == 0)
        add_mount(argv, folder, COMMANDS, true);
}

static bool write_command(const struct request *request, const char *home, struct argv *argv)
{
    add_words(argv, request->apptainer, "--quiet", "exec", "--userns", NULL);
    if (request->has_no_home)
        add_no_home(argv, home);
    if (request->overlay != NULL)
        add_words(argv, "--overlay", request->overlay, NULL);
    add_mount(argv, request->holder, HOLDER_INSIDE, true);
    add_commands(argv, request->holder);
    if (request->script != NULL)
        add_mount(argv, request->script, request->script, true);
    for (size_t i = 0; i < request->bind_count; i++)
        if (!add_bind(argv, &request->binds[i], i))
            return false;
    add_words(argv, request->image, NULL);
    add_command(argv, request);
    return !argv->is_short;
}

void exec_engine(const struct request *request)
{
    struct passwd *account = getpwuid(request->user.uid);
    const char *home = account != NULL ? account->pw_dir : "/";
    char variable[PATH_MAX];
    char *environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
                           variable, NULL};
    struct argv argv = {.words = NULL};

    (void)snprintf(variable, sizeof(variable), "HOME=%s", home);
    if (!write_command(request, home, &argv))
        _exit(LAUNCH_FAILED);
    execve(request->apptainer, argv.words, environment);
    (void)fprintf(stderr, "%s: %s\n", request->apptainer, strerror(errno));
    _exit(LAUNCH_FAILED);
}
