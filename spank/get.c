/* See get.h. */
#define _GNU_SOURCE
#include "get.h"

#include "stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int get_entry(const struct identity *who, const char *scope, const char *python,
              const struct job *job, const char *image, const char *node, char *output,
              struct entry *entry)
{
    const char *progress = job->reports ? "reports" : "lines";
    char number[16], leader[16], step[16], user[16], place[32];
    size_t size = 0;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), code;
    const char *argv[] = {
        python,     "-I",         "-m",          "hpcimg",    "get",        "--store",
        scope,      "--job",      number,        "--uid",     user,         "--gpus",
        job->gpus,  "--node",     node,          "--match",   job->match,   "--nodelist",
        job->nodes, "--cluster",  job->cluster,  "--started", job->started, "--leader",
        leader,     "--step",     step,          "--place",   place,        "--progress",
        progress,   "--restarts", job->restarts, "--pinned",  job->pinned,  "--pull",
        job->pull,  "--platform", job->platform, "--",        image,        NULL,
    };

    (void)snprintf(number, sizeof(number), "%u", job->id);
    (void)snprintf(leader, sizeof(leader), "%u", job->leader);
    (void)snprintf(step, sizeof(step), "%u", job->step);
    (void)snprintf(place, sizeof(place), "%u/%u", job->place, job->places);
    (void)snprintf(user, sizeof(user), "%u", job->user);
    code = run_stage(who, (char *const *)argv, null, output, &size);
    (void)close(null);
    if (code == 0 && size >= TICKET_SIZE)
        code = GET_TOO_MUCH;
    else if (code == 0 && !parse_entry(output, entry))
        code = -1;
    return code;
}
