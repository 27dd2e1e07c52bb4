/* See stage.h. slurmstepd has threads: between fork and exec only async-signal-safe calls. */
#define _GNU_SOURCE
#include "stage.h"

#include "asker.h"
#include "cancel.h"
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
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* How a minder ends whose stage did not exit by itself: no exit code of any stage of ours. */
#define STAGE_DIED 124

/* Slurm's log is root's, and the words may be a user's: more of them in a second are dropped. */
#define MOST_LINES 200

struct line {
    char text[1024];
    size_t used;
    unsigned char before;
    time_t second;
    unsigned said; /* lines in that second */
};

/* slurmstepd keeps the kernel's out-of-memory killer off itself. Who inherits that cannot be killed
 * either, whatever it uses, and may keep it as a user: what root sets is then the lowest. */
static void be_mortal(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    (void)!write(fd, "0", 1);
    (void)close(fd);
}

/* In user_init all groups are the user's: what root makes is not to be theirs. */
static const struct identity root = {.uid = 0};

static void be_stage(const struct identity *who, char *const argv[], const int descriptors[3],
                     char *const environment[])
{
    for (int fd = 0; fd < 3; fd++)
        if (dup2(descriptors[fd], fd) < 0)
            _exit(LAUNCH_FAILED);
    close_on_exec_from(3);
    reset_signals();
    (void)umask(022);
    be_mortal();
    if (chdir("/") != 0)
        _exit(LAUNCH_FAILED);
    if (!become(who->uid, who->gid, who->groups, who->group_count))
        _exit(LAUNCH_FAILED);
    /* After the ids, whose change clears it: the minder may be killed as well. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    execve(argv[0], argv, environment);
    (void)dprintf(STDERR_FILENO, "hpcimg: could not start \"%s\": %s\n", argv[0], strerror(errno));
    _exit(LAUNCH_FAILED);
}

static bool may_say(struct line *line)
{
    time_t now = time(NULL);

    if (now != line->second)
        line->said = 0;
    line->second = now;
    return line->used > 0 && ++line->said <= MOST_LINES;
}

/* Only whole lines go out, of characters that a terminal shows. */
static void say(struct line *line, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte == '\n' || line->used == sizeof(line->text) - 1) {
            line->text[line->used] = '\0';
            if (may_say(line))
                slurm_spank_log("%s", line->text);
            line->used = 0;
        }
        if (is_shown(byte, line->before))
            line->text[line->used++] = (char)byte;
        line->before = byte;
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
static bool drain(int result, int messages, char *output, size_t *size)
{
    struct pollfd polled[2 + ASKERS] = {{.fd = result, .events = POLLIN},
                                        {.fd = messages, .events = POLLIN}};
    struct line line = {.used = 0};
    size_t askers = find_askers(polled + 2);
    bool wanted = true;

    *size = 0;
    while (wanted && (polled[0].fd >= 0 || polled[1].fd >= 0)) {
        if (poll(polled, 2 + askers, watch_pause()) < 0) {
            if (errno == EINTR)
                continue;
            return false;
        }
        if (polled[0].fd >= 0 && polled[0].revents != 0)
            wanted = take(&polled[0], NULL, output, size);
        if (polled[1].fd >= 0 && polled[1].revents != 0)
            (void)take(&polled[1], &line, NULL, NULL);
        wanted = wanted && !have_all_gone(polled + 2, askers) && !was_cancelled();
    }
    say(&line, "\n", 1);
    output[*size] = '\0';
    return wanted;
}

/* Until the stage has ended, which its parent has yet to reap, or somebody pulls the leash. Without
 * pidfds (before Linux 5.3) it is looked at twenty times a second. */
static void await_end(pid_t pid, struct pollfd polled[2])
{
    const int pause = polled[1].fd >= 0 ? -1 : 50;
    siginfo_t ended = {.si_pid = 0};
    int count;

    do {
        count = poll(polled, 2, pause);
        if (count == 0 && waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) < 0)
            return;
    } while (pid > 0 && (count == 0 || (count < 0 && errno == EINTR)) && ended.si_pid == 0);
}

/* The stage may be another account's, and user_init has not the rights to end it. So root minds it,
 * in a process between the two: when slurmstepd lets go of the leash, or ends, so does the stage.
 */
static void be_minder(const struct identity *who, char *const argv[], const int descriptors[3],
                      char *const environment[], const int leash[2])
{
    struct pollfd polled[2] = {{.fd = leash[0], .events = POLLIN}, {.events = POLLIN}};
    int status = 0;
    pid_t pid;

    (void)close(leash[1]);
    /* Here the effective uid is still the user's; the real one is root's. */
    if (syscall(SYS_setresuid, 0, 0, 0) != 0)
        _exit(LAUNCH_FAILED);
    if ((pid = fork()) == 0)
        be_stage(who != NULL ? who : &root, argv, descriptors, environment);
    polled[1].fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    await_end(pid, polled);
    if (pid > 0 && polled[0].revents != 0)
        (void)kill(pid, SIGKILL);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    _exit(pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : STAGE_DIED);
}

static void close_pipe(const int ends[2])
{
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* Three pipes, or none. */
static bool open_pipes(int pipes[3][2])
{
    for (int i = 0; i < 3; i++) {
        if (pipe2(pipes[i], O_CLOEXEC) == 0)
            continue;
        while (i-- > 0)
            close_pipe(pipes[i]);
        return false;
    }
    return true;
}

int run_stage(const struct identity *who, char *const argv[], int input, char *output, size_t *size)
{
    char *environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
                           "LC_ALL=C.UTF-8", who != NULL ? (char *)who->home : NULL,
                           who != NULL ? (char *)who->name : NULL, NULL};
    enum { RESULT, MESSAGES, LEASH };
    int pipes[3][2], status = 0;
    bool drained;
    pid_t pid;

    if (!open_pipes(pipes))
        return -1;
    if ((pid = fork()) == 0) {
        int descriptors[3] = {input, pipes[RESULT][1], pipes[MESSAGES][1]};
        be_minder(who, argv, descriptors, environment, pipes[LEASH]);
    }
    (void)close(pipes[RESULT][1]);
    (void)close(pipes[MESSAGES][1]);
    (void)close(pipes[LEASH][0]);
    drained = pid > 0 && drain(pipes[RESULT][0], pipes[MESSAGES][0], output, size);
    (void)close(pipes[RESULT][0]);
    (void)close(pipes[MESSAGES][0]);
    if (!drained)
        (void)close(pipes[LEASH][1]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (drained)
        (void)close(pipes[LEASH][1]);
    if (!drained || !WIFEXITED(status) || WEXITSTATUS(status) == STAGE_DIED)
        return -1;
    return WEXITSTATUS(status);
}
