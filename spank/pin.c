/* See pin.h. sbatch waits for it, so it is given a few seconds. */
#define _GNU_SOURCE
#include "pin.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <slurm/slurm.h>
#include <slurm/spank.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIN_MILLISECONDS 5000

extern char **environ;

static pid_t start(const char *python, const char *image, int result, int messages)
{
    char *argv[] = {(char *)python, "-I", "-m", "hpcimg", "pin", "--", (char *)image, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    if (posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, result, STDOUT_FILENO) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, messages, STDERR_FILENO) != 0 ||
        posix_spawn(&pid, python, &actions, NULL, argv, environ) != 0)
        pid = -1;
    (void)posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static long milliseconds(void)
{
    struct timespec now = {.tv_sec = 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Read to the end of the pipe; false when it does not end in time. */
static bool read_in_time(int fd, char *text, size_t size)
{
    long until = milliseconds() + PIN_MILLISECONDS, left;
    size_t used = 0;

    while ((left = until - milliseconds()) > 0) {
        struct pollfd polled = {.fd = fd, .events = POLLIN};
        ssize_t count;

        if (poll(&polled, 1, (int)left) <= 0)
            continue;
        count = read(fd, text + used, size - 1 - used);
        if (count > 0) {
            used += (size_t)count;
            continue;
        }
        text[used] = '\0';
        return count == 0;
    }
    return false;
}

/* The first line of what was said, of characters that a terminal shows. */
static void warn(int messages, const char *why)
{
    char text[512] = "";
    ssize_t size = pread(messages, text, sizeof(text) - 1, 0);

    text[size > 0 ? size : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    keep_shown(text);
    if (strncmp(text, "hpcimg: ", 8) == 0)
        memmove(text, text + 8, strlen(text + 8) + 1);
    slurm_spank_log("hpcimg: warning: the tag is read when the job starts: %s",
                    text[0] != '\0' ? text : why);
}

bool pin_name(const char *python, const char *image, char *pinned, size_t size)
{
    int result[2], messages, status = -1;
    bool in_time;
    pid_t pid;

    if (access(python, X_OK) != 0 || (messages = memfd_create("hpcimg-pin", MFD_CLOEXEC)) < 0)
        return false; /* a host that only submits: nothing is wrong with it */
    if (pipe2(result, O_CLOEXEC) < 0) {
        (void)close(messages);
        return false;
    }
    pid = start(python, image, result[1], messages);
    (void)close(result[1]);
    in_time = pid > 0 && read_in_time(result[0], pinned, size);
    (void)close(result[0]);
    if (pid > 0 && !in_time)
        (void)kill(pid, SIGKILL);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    in_time = in_time && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!in_time)
        warn(messages, "`hpcimg pin` did not end in time");
    (void)close(messages);
    return in_time && pinned[0] != '\0';
}
