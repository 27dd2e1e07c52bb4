/* See stage.h. slurmstepd has threads: between fork and exec only async-signal-safe calls. */
#define _GNU_SOURCE
#include "stage.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <slurm/spank.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct line {
    char text[1024];
    size_t used;
};

static void be_stage(const struct identity *who, char *const argv[], const int descriptors[3],
                     char *const environment[])
{
    /* user_init runs with the user's effective uid; the real one is still root's. */
    if (syscall(SYS_setresuid, 0, 0, 0) != 0)
        _exit(LAUNCH_FAILED);
    for (int fd = 0; fd < 3; fd++)
        if (dup2(descriptors[fd], fd) < 0)
            _exit(LAUNCH_FAILED);
    close_on_exec_from(3);
    reset_signals();
    (void)umask(022);
    if (chdir("/") != 0)
        _exit(LAUNCH_FAILED);
    if (who != NULL && !become(who->uid, who->gid, who->groups, who->group_count))
        _exit(LAUNCH_FAILED);
    execve(argv[0], argv, environment);
    (void)dprintf(STDERR_FILENO, "hpcimg: could not start \"%s\": %s\n", argv[0], strerror(errno));
    _exit(LAUNCH_FAILED);
}

/* Only whole lines go out, of characters that a terminal shows. */
static void say(struct line *line, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte == '\n' || line->used == sizeof(line->text) - 1) {
            line->text[line->used] = '\0';
            if (line->used > 0)
                slurm_spank_log("%s", line->text);
            line->used = 0;
        }
        if (byte >= ' ' && byte != 0x7f)
            line->text[line->used++] = (char)byte;
    }
}

/* Drain both pipes until both ended. */
static bool drain(int result, int messages, char *output, size_t *size)
{
    struct pollfd polled[2] = {{.fd = result, .events = POLLIN},
                               {.fd = messages, .events = POLLIN}};
    struct line line = {.used = 0};
    char chunk[4096];
    bool fits = true;

    *size = 0;
    while (polled[0].fd >= 0 || polled[1].fd >= 0) {
        if (poll(polled, 2, -1) < 0 && errno != EINTR)
            return false;
        for (int i = 0; i < 2; i++) {
            ssize_t count;
            if (polled[i].fd < 0 || polled[i].revents == 0)
                continue;
            count = read(polled[i].fd, chunk, sizeof(chunk));
            if (count < 0 && errno == EINTR)
                continue;
            if (count <= 0) {
                polled[i].fd = -1;
            } else if (i == 1) {
                say(&line, chunk, (size_t)count);
            } else if (*size + (size_t)count < STAGE_OUTPUT) {
                memcpy(output + *size, chunk, (size_t)count);
                *size += (size_t)count;
            } else {
                fits = false;
            }
        }
    }
    say(&line, "\n", 1);
    output[*size] = '\0';
    return fits;
}

int run_stage(const struct identity *who, char *const argv[], int input, char *output, size_t *size)
{
    char *environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
                           "LC_ALL=C.UTF-8", who != NULL ? (char *)who->home : NULL,
                           who != NULL ? (char *)who->name : NULL, NULL};
    int result[2], messages[2], status = 0;
    bool drained;
    pid_t pid;

    if (pipe2(result, O_CLOEXEC) < 0)
        return -1;
    if (pipe2(messages, O_CLOEXEC) < 0) {
        (void)close(result[0]);
        (void)close(result[1]);
        return -1;
    }
    if ((pid = fork()) == 0) {
        int descriptors[3] = {input, result[1], messages[1]};
        be_stage(who, argv, descriptors, environment);
    }
    (void)close(result[1]);
    (void)close(messages[1]);
    drained = pid > 0 && drain(result[0], messages[0], output, size);
    (void)close(result[0]);
    (void)close(messages[0]);
    if (pid < 0)
        return -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return drained && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
