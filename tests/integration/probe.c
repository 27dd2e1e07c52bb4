/* What a step is given, said the same way whatever the image has: `probe WHAT...`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void say_limits(void)
{
    for (int kind = 0; kind < (int)RLIM_NLIMITS; kind++) {
        struct rlimit limit;
        if (getrlimit(kind, &limit) == 0)
            printf("limit %d %llu %llu\n", kind, (unsigned long long)limit.rlim_cur,
                   (unsigned long long)limit.rlim_max);
    }
    mode_t mask = umask(0);
    printf("umask %o\nnice %d\n", mask, getpriority(PRIO_PROCESS, 0));
}

static void say_signals(void)
{
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0)
            printf("signal %d %s %d\n", number, action.sa_handler == SIG_IGN ? "ignored" : "-",
                   sigismember(&blocked, number));
    }
}

static void say_processors(void)
{
    cpu_set_t set;
    sched_getaffinity(0, sizeof(set), &set);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set))
            printf("processor %d\n", i);
}

static void say_descriptors(void)
{
    for (int fd = 0; fd < 1024; fd++) {
        struct stat status;
        if (fstat(fd, &status) == 0)
            printf("descriptor %d %o\n", fd, status.st_mode & S_IFMT);
    }
}

static void say_status(void)
{
    char line[512];
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, "Cap", 3) == 0 || strncmp(line, "NoNewPrivs", 10) == 0)
            fputs(line, stdout);
}

static void say_environment(void)
{
    extern char **environ;
    for (char **entry = environ; *entry != NULL; entry++)
        puts(*entry);
}

static void say_terminal(void)
{
    struct winsize size = {0};
    ioctl(0, TIOCGWINSZ, &size);
    printf("terminal %d %d %d, %d rows, %d columns\n", isatty(0), isatty(1), isatty(2), size.ws_row,
           size.ws_col);
}

static void on_signal(int number)
{
    printf("got %d\n", number);
    exit(number == SIGUSR1 ? 10 : 12);
}

static void wait_for_signal(void)
{
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, on_signal);
    printf("ready\n");
    fflush(stdout);
    for (;;)
        pause();
}

/* Every process but this one: can it be traced, can its memory be opened? */
static void trace(const char *word)
{
    pid_t pid = (pid_t)atoi(word);
    char path[64];
    if (pid <= 1 || pid == getpid() || pid == getppid())
        return;
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
    if (open(path, O_RDWR) >= 0)
        printf("opened %d\n", (int)pid);
    if (ptrace(PTRACE_ATTACH, pid, 0, 0) == 0)
        printf("traced %d\n", (int)pid);
}

/* A grandchild in a session of its own that keeps the image's file system busy. */
static void fork_away(void)
{
    if (fork() == 0) {
        setsid();
        if (fork() == 0)
            for (;;)
                pause();
        _exit(0);
    }
    wait(NULL);
}

int main(int count, char **words)
{
    for (int i = 1; i < count; i++) {
        const char *what = words[i];
        if (strcmp(what, "limits") == 0) say_limits();
        else if (strcmp(what, "signals") == 0) say_signals();
        else if (strcmp(what, "processors") == 0) say_processors();
        else if (strcmp(what, "descriptors") == 0) say_descriptors();
        else if (strcmp(what, "status") == 0) say_status();
        else if (strcmp(what, "terminal") == 0) say_terminal();
        else if (strcmp(what, "environment") == 0) say_environment();
        else if (strcmp(what, "wait") == 0) wait_for_signal();
        else if (strcmp(what, "fork") == 0) fork_away();
        else if (strcmp(what, "ready") == 0) { puts("ready"); fflush(stdout); }
        else if (strcmp(what, "sleep") == 0) for (;;) pause();
        else if (strcmp(what, "spin") == 0) for (;;) continue;
        else if (strcmp(what, "crash") == 0) raise(SIGSEGV);
        else if (strcmp(what, "eat") == 0) memset(malloc(400 << 20), 1, 400 << 20);
        else trace(what);
    }
    return 0;
}
