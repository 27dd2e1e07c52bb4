/* The client stands in for srun, sbatch and Slurm's other commands inside a container: it becomes
 * the host's, where the site has bound it, and says so where not. It must not know Slurm.
 *
 * An image may have an older libc than the host, another one or none, so the host's program is run
 * by the host's own loader, with the host's libraries alone. It is static for the same reason. */
#define _GNU_SOURCE
#include "client.h"

#include "common.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__aarch64__)
#define LOADER  "ld-linux-aarch64.so.1"
#define TRIPLET "aarch64-linux-gnu"
#else
#define LOADER  "ld-linux-x86-64.so.2"
#define TRIPLET "x86_64-linux-gnu"
#endif

#define NOT_FOUND 127 /* as shells have it */

/* First that of Debian's kind, where the other's link may lead out of what is bound. */
static const char *const loaders[] = {HOST_USR "/lib/" TRIPLET "/" LOADER,
                                      HOST_USR "/lib64/" LOADER, HOST_USR "/lib/" LOADER, NULL};
static const char *const places[] = {HOST_SLURM "/bin/", HOST_USR "/bin/", HOST_USR "/local/bin/",
                                     NULL};
#define LIBRARIES                                                                                  \
    HOST_USR "/lib/" TRIPLET ":" HOST_USR "/lib64:" HOST_USR "/lib:" HOST_SLURM "/lib:" HOST_SLURM \
             "/lib64"

/* The first of these, with the command's name after it, that is there; NULL for none. */
static const char *find(const char *const *known, const char *name)
{
    static char path[PATH_MAX];

    for (; *known != NULL; known++) {
        (void)snprintf(path, sizeof(path), "%s%s", *known, name);
        if (access(path, X_OK) == 0)
            return strdup(path);
    }
    return NULL;
}

static int refuse(const char *name, const char *what)
{
    (void)fprintf(stderr, "hpcimg: could not run \"%s\" in this container: %s\n", name, what);
    (void)fprintf(stderr, "hpcimg: hint: have the script run on the host, with --container=NAME in "
                          "place of --container-image=NAME, or ask the site to bind Slurm's client "
                          "into containers\n");
    return NOT_FOUND;
}

int main(int argc, char **argv)
{
    const char *name = program_invocation_short_name;
    const char *loader = find(loaders, ""), *program = find(places, name);
    const char **words = calloc((size_t)argc + 6, sizeof(char *));
    size_t next = 0;

    if (words == NULL)
        return LAUNCH_FAILED;
    if (access(HOST_USR, F_OK) < 0)
        return refuse(name, "the site binds no Slurm into it (" HOST_USR ")");
    if (loader == NULL)
        return refuse(name, "what is bound at " HOST_USR " has no " LOADER);
    if (program == NULL)
        return refuse(name, "what is bound at " HOST_USR " does not have it");
    words[next++] = loader;
    words[next++] = "--inhibit-cache"; /* the image's */
    words[next++] = "--library-path";
    words[next++] = LIBRARIES;
    words[next++] = program;
    for (int i = 1; i < argc; i++)
        words[next++] = argv[i];
    (void)unsetenv("LD_PRELOAD"); /* made for the image's libc */
    (void)unsetenv("LD_AUDIT");
    execv(loader, (char *const *)words);
    return refuse(name, strerror(errno));
}
