/* See stage.h. slurmstepd has threads: between fork and exec only async-signal-safe calls. */
#define _GNU_SOURCE
#include "stage.h"

#include "asker.h"
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <slurm/spank.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
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
    /* What fetches has no purpose without the step; children of its own are its to end. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
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

/* Take what one pipe has; false when there is no room for it. */
static bool take(struct pollfd *polled, struct line *line, char *output, size_t *size)
{
    char chunk[4096];
    ssize_t count = read(polled->fd, chunk, sizeof(chunk));

    if (count < 0 && errno == EINTR)
        return true;
    if (count <= 0)
        polled->fd = -1;
    else if (line != NULL)
        say(line, chunk, (size_t)count);
    else if (*size + (size_t)count >= STAGE_OUTPUT)
        return false;
    else {
        memcpy(output + *size, chunk, (size_t)count);
        *size += (size_t)count;
    }
    return true;
}

/* Drain both pipes until both ended; false when the result is too large, or nobody wants it. */
static bool drain(int result, int messages, uint32_t job, char *output, size_t *size)
{
    struct pollfd polled[2 + ASKERS] = {{.fd = result, .events = POLLIN},
                                        {.fd = messages, .events = POLLIN}};
    struct line line = {.used = 0};
    size_t askers = find_askers(polled + 2);
    bool wanted = true;

    *size = 0;
    while (wanted && (polled[0].fd >= 0 || polled[1].fd >= 0)) {
        int ready = poll(polled, 2 + askers, askers > 0 ? -1 : ASK_MILLISECONDS);
        if (ready < 0 && errno != EINTR)
            return false;
        if (ready == 0)
            wanted = !is_job_over(job);
        if (ready <= 0)
            continue;
        if (polled[0].fd >= 0 && polled[0].revents != 0)
            wanted = take(&polled[0], NULL, output, size);
        if (polled[1].fd >= 0 && polled[1].revents != 0)
            (void)take(&polled[1], &line, NULL, NULL);
        wanted = wanted && !have_all_gone(polled + 2, askers);
    }
    say(&line, "\n", 1);
    output[*size] = '\0';
    return wanted;
}

/* In user_init only a child can be root again, and so may kill what is another account's. */
static void kill_stage(pid_t pid)
{
    pid_t killer = fork();

    if (killer == 0) {
        if (syscall(SYS_setresuid, 0, 0, 0) == 0)
            (void)kill(pid, SIGKILL);
        _exit(0);
    }
    while (killer > 0 && waitpid(killer, NULL, 0) < 0 && errno == EINTR)
        continue;
}

int run_stage(const struct identity *who, char *const argv[], int input, uint32_t job, char *output,
              size_t *size)
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
    drained = pid > 0 && drain(result[0], messages[0], job, output, size);
    if (pid > 0 && !drained)
        kill_stage(pid);
    (void)close(result[0]);
    (void)close(messages[0]);
    if (pid < 0)
        return -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return drained && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
