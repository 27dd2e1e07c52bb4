/* Starts a program that parses a stranger's bytes, with as little as it needs.

confine PARENT OUTPUT FILE_BYTES MEMORY_BYTES PROGRAM [ARGUMENT...]
    It ends with its parent, the process PARENT; starts no process, has no network, reads nothing
    but the system's programs and libraries, and writes nothing but the file OUTPUT ("-": none).
confine --check
    Say what of this the kernel can do. What it cannot do is left out, the rest holds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filter.h"
#include "number.h"

#define NAMESPACES (CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC)

/* Landlock's numbers (linux/landlock.h); headers may be older than the kernel. */
enum { CREATE_RULESET = 444, ADD_RULE, RESTRICT_SELF };
enum { ASK_VERSION = 1, PATH_BENEATH = 1 };
enum {
    EXECUTE = 1 << 0,
    WRITE_FILE = 1 << 1,
    READ_FILE = 1 << 2,
    READ_DIR = 1 << 3,
    FIRST_RIGHTS = (1 << 13) - 1,
    REFER = 1 << 13,
    TRUNCATE = 1 << 14,
    DEVICES = 1 << 15,
};
enum { TCP = 3, SCOPES = 3 };

struct ruleset {
    uint64_t files, network, scopes;
};

struct __attribute__((packed)) beneath {
    uint64_t rights;
    int32_t parent;
};

struct limits {
    uint64_t file, memory;
};

static int landlock_version(void)
{
    return (int)syscall(CREATE_RULESET, NULL, 0, ASK_VERSION);
}

static uint64_t rights_of(int version)
{
    return (uint64_t)FIRST_RIGHTS | (version >= 2 ? REFER : 0) | (version >= 3 ? TRUNCATE : 0) |
           (version >= 5 ? DEVICES : 0);
}

static bool allow(int rules, const char *path, uint64_t rights)
{
    struct beneath rule = {rights, open(path, O_PATH | O_CLOEXEC)};
    bool done;

    if (rule.parent < 0)
        return false;
    done = syscall(ADD_RULE, rules, PATH_BENEATH, &rule, 0) == 0;
    (void)close(rule.parent);
    return done;
}

/* False when something that has to be reached cannot be. */
static bool close_files(const char *output, const char *program)
{
    static const char *const system[] = {"/usr", "/lib", "/lib64", "/bin", "/sbin"};
    int version = landlock_version(), rules;
    struct ruleset ruleset = {rights_of(version), version >= 4 ? TCP : 0,
                              version >= 6 ? SCOPES : 0};
    uint64_t written = WRITE_FILE | READ_FILE | (ruleset.files & TRUNCATE);
    char *folder;
    bool done;

    if (version < 1)
        return true;
    folder = strdup(program);
    rules = (int)syscall(CREATE_RULESET, &ruleset, sizeof(ruleset), 0);
    if (folder == NULL || rules < 0)
        return false;
    for (size_t i = 0; i < sizeof(system) / sizeof(*system); i++)
        (void)allow(rules, system[i], EXECUTE | READ_FILE | READ_DIR);
    (void)allow(rules, "/etc/ld.so.cache", READ_FILE);
    done = allow(rules, dirname(folder), EXECUTE | READ_FILE | READ_DIR) &&
           (strcmp(output, "-") == 0 || allow(rules, output, written)) &&
           syscall(RESTRICT_SELF, rules, 0) == 0;
    free(folder);
    (void)close(rules);
    return done;
}

static bool limit(int resource, uint64_t value)
{
    struct rlimit found;

    if (getrlimit((__rlimit_resource_t)resource, &found) < 0)
        return false;
    if (found.rlim_max == RLIM_INFINITY || value < found.rlim_max)
        found.rlim_max = value;
    found.rlim_cur = found.rlim_max;
    return setrlimit((__rlimit_resource_t)resource, &found) == 0;
}

/* Run one check in a child, which it may change. */
static bool holds(bool (*check)(void))
{
    int status = 1;
    pid_t child = fork();

    if (child == 0)
        _exit(check() ? 0 : 1);
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static bool can_unshare(void)
{
    return unshare(NAMESPACES) == 0;
}

static bool can_filter(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && filter_refuse();
}

static int check(void)
{
    int version = landlock_version();

    (void)printf("files=%s\nnetwork=%s\ncalls=%s\n", version >= 1 ? "yes" : "no",
                 holds(can_unshare) ? "yes" : "no", holds(can_filter) ? "yes" : "no");
    return 0;
}

static int fail(const char *what)
{
    (void)fprintf(stderr, "hpcimg: confine: %s: %s\n", what, strerror(errno));
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct limits limits = {0, 0};
    uint64_t parent = 0;

    if (argc == 2 && strcmp(argv[1], "--check") == 0)
        return check();
    errno = EINVAL;
    if (argc < 6 || !parse_number(argv[1], &parent) || !parse_number(argv[3], &limits.file) ||
        !parse_number(argv[4], &limits.memory) || argv[5][0] != '/')
        return fail("wrong arguments");
    (void)unshare(NAMESPACES);
    /* Set after the change of credentials, which would take it back; then look for the parent,
       which may have ended before. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || (uint64_t)getppid() != parent)
        return fail("the parent has ended");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return fail("could not give up new rights");
    /* No dump of what may be a private image's bytes. */
    if (!limit(RLIMIT_CORE, 0) || !limit(RLIMIT_FSIZE, limits.file) ||
        !limit(RLIMIT_DATA, limits.memory))
        return fail("could not set the limits");
    if (!close_files(argv[2], argv[5]))
        return fail("could not close the file system");
    (void)filter_refuse();
    (void)execv(argv[5], argv + 5);
    return fail(argv[5]);
}
