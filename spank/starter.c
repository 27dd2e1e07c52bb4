/* The starter opens one container for one step on one node, and ends.
 *
 * The plugin starts it as root, with a fixed environment: standard input is the lifeline (its other
 * end stays with the launcher), standard output takes the result, standard error what the user
 * should read. As the user it starts Apptainer with the holder in it; as root it checks whose
 * namespaces came out, and puts the anchor there, which the joiners of the tasks follow.
 *
 * Result: "anchor PID STARTTIME\n", "processes PID:STARTTIME...\n", "environment SIZE\n" and SIZE
 * bytes. */
#define _GNU_SOURCE
#include "starter.h"
#include "arrange.h"
#include "common.h"
#include "copies.h"
#include "deadline.h"
#include "engine.h"
#include "groups.h"
#include "memory.h"
#include "mounts.h"
#include "namespaces.h"
#include "processes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#define LIST_SIZE 4096

struct report {
    pid_t holder;
    size_t size;
    char environment[ENVIRONMENT_SIZE];
};

static int refuse(const struct request *request, const char *what, const char *why,
                  const char *hint)
{
    (void)fprintf(stderr, "hpcimg: %s: could not %s \"%s\": %s\n", request->node, what,
                  request->name, why);
    (void)fprintf(stderr, "hpcimg: %s: hint: %s\n", request->node, hint);
    return LAUNCH_FAILED;
}

static void be_user(const struct request *request, int report, int messages)
{
    umask(022);
    /* Here and not with the tasks: the image's own programs may start others before any task. */
    if (request->step != NULL)
        join_step(request->step);
    if (!become(request->user.uid, request->user.gid, request->user.groups,
                request->user.group_count)) {
        (void)dprintf(messages, "could not become uid %u: %s\n", request->user.uid,
                      strerror(errno));
        _exit(LAUNCH_FAILED);
    }
    /* As the user, so that root never looks into a directory the user chose. */
    if (chdir(request->workdir) < 0 && chdir("/") < 0)
        _exit(LAUNCH_FAILED);
    (void)setsid();
    if (dup2(report, STDOUT_FILENO) < 0 || dup2(messages, STDERR_FILENO) < 0)
        _exit(LAUNCH_FAILED);
    exec_engine(request);
}

/* Read the holder's report. What Apptainer's own start-up or the image's scripts print before it
 * is skipped up to the ready word; what an entrypoint prints may be shown. */
static bool read_report(int fd, const struct request *request, struct report *report)
{
    const time_t end = seconds_from_now(request->seconds);
    char line[256];
    int pid = 0;

    for (;;) {
        size_t used = 0;
        for (; used < sizeof(line) - 1; used++) {
            if (!read_in_time(fd, line + used, 1, end))
                return false;
            if (line[used] == '\n')
                break;
        }
        line[used] = '\0';
        if (sscanf(line, READY " %d %zu", &pid, &report->size) == 2)
            break;
        if (request->shows_entrypoint && used > 0)
            (void)fprintf(stderr, "%s\n", line);
    }
    if (pid <= 1 || report->size > sizeof(report->environment))
        return false;
    report->holder = (pid_t)pid;
    return read_in_time(fd, report->environment, report->size, end) &&
           (report->size == 0 || report->environment[report->size - 1] == '\0');
}

/* What was written to standard error, Apptainer's, the entrypoint's and ours. */
static char *read_messages(int messages)
{
    static char said[65536];
    ssize_t count = pread(messages, said, sizeof(said) - 1, 0);

    said[count > 0 ? count : 0] = '\0';
    strip_colours(said); /* Apptainer colours a file too */
    return said;
}

/* The last line of it says most; the text is the image's and the user's too, so only printable
 * characters of it reach the terminal. */
static void last_words(const struct request *request, char *said, char *text, size_t size)
{
    char *line, *end;

    (void)snprintf(text, size,
                   request->entrypoint != NULL
                       ? "its entrypoint ended and did not run the command that it was given"
                       : "Apptainer ended and said nothing");
    if (said[0] == '\0')
        return;
    for (end = said + strlen(said); end > said && (end[-1] == '\n' || end[-1] == ' '); end--)
        end[-1] = '\0';
    if (*said == '\0')
        return;
    line = strrchr(said, '\n');
    line = line != NULL ? line + 1 : said;
    if (strncmp(line, "ERROR", 5) == 0 || strncmp(line, "FATAL", 5) == 0)
        line += 5 + strspn(line + 5, " :");
    for (char *c = line; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    (void)snprintf(text, size, "%.*s", (int)size - 1, line);
}

/* To the plugin, and into the list of those that run. */
static bool send_result(struct request *request, const struct report *report, pid_t anchor)
{
    static char processes[LIST_SIZE], head[LIST_SIZE + 128];

    list_descendants(getpid(), processes, sizeof(processes));
    (void)snprintf(head, sizeof(head), "anchor %d %llu\nprocesses%s", (int)anchor,
                   start_time(anchor), processes);
    return keep_container(&request->keep, &request->user, request->name, head, report->environment,
                          report->size) &&
           dprintf(STDOUT_FILENO, "%s\nenvironment %zu\n", head, report->size) > 0 &&
           write_all(STDOUT_FILENO, report->environment, report->size);
}

static const char *advice(const char *why)
{
    static const struct {
        const char *part, *hint;
    } known[] = {
        {"of a mount cannot be used", "write a path that is on this node, or leave it out"},
        {"in the container cannot be done", "leave it out: it is no mount, or has no such flag"},
        {"has no directory", "name one that it has, or mount one there: --container-mounts"},
        {"needed more than", "the image's file system hangs, or its start-up does: look at the "
                             "node, and try again"},
        {"entrypoint", "leave out --container-entrypoint"},
        {"namespace", "unprivileged user namespaces are off on this node: set "
                      "user.max_user_namespaces, and kernel.unprivileged_userns_clone where it "
                      "exists"},
        {"fuse",
         "Apptainer could not mount the image: is squashfuse installed and /dev/fuse open?"},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (strstr(why, known[i].part) != NULL)
            return known[i].hint;
    return "try the same by hand on that node: hpcimg run NAME -- true";
}

/* No container stands, or not the one that was asked for. */
static int give_up(struct request *request, int messages)
{
    char why[512];

    end_descendants();
    give_up_container(&request->keep);
    last_words(request, read_messages(messages), why, sizeof(why));
    return refuse(request, "start", why, advice(why));
}

static int start(struct request *request, int messages)
{
    static struct report report;
    int channel[2], mount_namespace = -1;
    pid_t monitor, anchor = -1;

    keep_orphans();
    if (pipe2(channel, O_CLOEXEC) < 0 || (monitor = fork()) < 0)
        return refuse(request, "start", strerror(errno), "look at the node's process limits");
    if (monitor == 0)
        be_user(request, channel[1], messages);
    (void)close(channel[1]);
    errno = 0;
    if (!read_report(channel[0], request, &report)) {
        if (errno == ETIMEDOUT)
            (void)dprintf(messages, "\nit needed more than %lu s\n", request->seconds);
        return give_up(request, messages);
    }
    if (request->shows_entrypoint)
        (void)fputs(read_messages(messages), stderr);
    mount_namespace = open_mount_namespace(report.holder, request->user.uid);
    if (mount_namespace >= 0 && wants_arranging(request) &&
        !arrange(request, mount_namespace, messages))
        return give_up(request, messages);
    if (mount_namespace >= 0)
        anchor = start_anchor(mount_namespace, &request->user, &request->inside, STDIN_FILENO);
    if (anchor < 0 || !send_result(request, &report, anchor)) {
        int reason = errno;
        end_descendants();
        give_up_container(&request->keep);
        return refuse(request, "enter", strerror(reason),
                      "the container's namespaces are not what they should be: tell the site");
    }
    return 0;
}

static int claim(struct request *request)
{
    switch (claim_container(&request->keep, &request->user)) {
    case KEPT_READY: return 0;
    case KEPT_BUSY: return STARTER_BUSY;
    case KEPT_FAILED: break;
    }
    return refuse(request, "keep what changes in", strerror(errno),
                  "look at \"containers\" in the site's settings, and at its disk");
}

/* FUSE shows the same files, so nobody but the site needs to know. */
static void note_fuse(const struct request *request, const char *why)
{
    openlog("hpcimg", LOG_PID, LOG_DAEMON);
    syslog(LOG_NOTICE, "job %lu: mounting \"%s\" with FUSE, not by the kernel: %s", request->job,
           request->name, why);
    closelog();
}

/* With the node's mounts before our eyes: have the image mounted there, and copied for the user. */
static int copy_image(const struct request *request, char place[PATH_MAX], char why[WHY_SIZE])
{
    int copy;

    if (!mount_entry(request->image, request->account, request->job, place, why))
        return -1;
    if ((copy = copy_mount(place, request->user.uid, request->user.gid)) < 0)
        (void)snprintf(why, WHY_SIZE, "the mount cannot show root's files as the user's: %s",
                       strerror(errno));
    return copy;
}

/* The image mounted by the kernel, or -1. False where the way back from the node's mounts is lost.
 */
static bool take_copy(const struct request *request, char place[PATH_MAX], int *copy)
{
    char why[WHY_SIZE];
    int here = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    bool back;

    if (here < 0)
        return false;
    if (join_node())
        *copy = copy_image(request, place, why);
    else
        (void)snprintf(why, sizeof(why), "the node's mounts cannot be entered: %s",
                       strerror(errno));
    if (*copy < 0)
        note_fuse(request, why);
    back = setns(here, CLONE_NEWNS) == 0;
    (void)close(here);
    return back;
}

static void use_copy(struct request *request, int copy, const char *place)
{
    if (hang_copy(copy, place))
        request->image = place;
    else
        note_fuse(request, strerror(errno));
    (void)close(copy);
}

int main(int argc, char **argv)
{
    static struct request request;
    static char place[PATH_MAX];
    int messages, copy = -1, code;

    reset_signals();
    close_on_exec_from(3);
    if (!parse_starter(argc, argv, &request)) {
        (void)fprintf(stderr, "hpcimg: starter: wrong arguments\n");
        return LAUNCH_FAILED;
    }
    umask(022);
    if ((messages = memfd_create("hpcimg-messages", MFD_CLOEXEC)) < 0)
        return refuse(&request, "start", strerror(errno), "look at the node's memory");
    if (request.by_kernel && !take_copy(&request, place, &copy))
        return refuse(&request, "start", strerror(errno), "set mount: fuse in the settings");
    if (!join_job_container(request.job))
        return refuse(&request, "start", strerror(errno), "is job_container/tmpfs in order?");
    if (copy >= 0)
        use_copy(&request, copy, place);
    if ((code = claim(&request)) != 0)
        return code;
    if (!make_memory(&request))
        return refuse(&request, "start", strerror(errno), "look at the node's memory");
    return start(&request, messages);
}
