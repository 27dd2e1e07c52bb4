/* See cancel.h. slurmstepd has threads: between fork and exec only async-signal-safe calls. */
#define _GNU_SOURCE
#include "cancel.h"

#include "common.h"
#include "deadline.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAUSE_SECONDS  5
#define ANSWER_SECONDS 10

static struct {
    char job[16]; /* empty: none is watched */
    char conf[512];
    time_t next;
} watched;

void watch_job(uint32_t job)
{
    const char *conf = getenv("SLURM_CONF");

    (void)snprintf(watched.job, sizeof(watched.job), "%u", job);
    (void)snprintf(watched.conf, sizeof(watched.conf), "SLURM_CONF=%s", conf != NULL ? conf : "");
    watched.next = seconds_from_now(PAUSE_SECONDS);
}

int watch_pause(void)
{
    return watched.job[0] != '\0' ? PAUSE_SECONDS * 1000 : -1;
}

/* For good: effectively this process is the user already. */
static void be_squeue(int answer)
{
    char *const argv[] = {"squeue", "--noheader", "--format=%T", "--jobs", watched.job, NULL};
    char *const environment[] = {
        "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8",
        strlen(watched.conf) > strlen("SLURM_CONF=") ? watched.conf : NULL, NULL};
    gid_t gid = getegid();
    uid_t uid = geteuid();

    if (syscall(SYS_setresgid, gid, gid, gid) != 0 || syscall(SYS_setresuid, uid, uid, uid) != 0 ||
        dup2(answer, STDOUT_FILENO) < 0 || chdir("/") != 0)
        _exit(LAUNCH_FAILED);
    close_on_exec_from(3);
    reset_signals();
    execvpe(argv[0], argv, environment);
    _exit(LAUNCH_FAILED);
}

/* What squeue says, as far as it comes in time. */
static void ask(char *text, size_t size)
{
    const time_t end = seconds_from_now(ANSWER_SECONDS);
    int answer[2];
    size_t used = 0;
    pid_t pid;

    text[0] = '\0';
    if (pipe2(answer, O_CLOEXEC) < 0)
        return;
    if ((pid = fork()) == 0)
        be_squeue(answer[1]);
    (void)close(answer[1]);
    while (pid > 0 && used < size - 1 && read_in_time(answer[0], text + used, 1, end))
        used++;
    text[used] = '\0';
    (void)close(answer[0]);
    if (pid <= 0)
        return;
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

bool was_cancelled(void)
{
    static const char *const ended[] = {"COMPLETING", "CANCELLED", "TIMEOUT",   "PREEMPTED",
                                        "PENDING",    "FAILED",    "NODE_FAIL", NULL};
    char text[64];

    if (watched.job[0] == '\0' || seconds_from_now(0) < watched.next)
        return false;
    ask(text, sizeof(text));
    watched.next = seconds_from_now(PAUSE_SECONDS);
    for (size_t i = 0; ended[i] != NULL; i++)
        if (strncmp(text, ended[i], strlen(ended[i])) == 0)
            return true;
    return false;
}
