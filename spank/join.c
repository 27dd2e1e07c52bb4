/* See join.h. */
#define _GNU_SOURCE
#include "join.h"

#include <limits.h>
#include <slurm/slurm.h>
#include <stdio.h>
#include <string.h>

#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
bool put_joiner(spank_t spank, const char *joiner, const int descriptors[3], bool is_refused)
{
    char text[3][16];
    const char *join[] = {joiner, text[0], text[1], text[2], "--"};
    const char *instead[] = {joiner, is_refused ? "--refuse" : "--end", "--"};

    (void)spank_unsetenv(spank, "SLURM_HPCIMG_JOIN"); /* what an older release uses */
    if (descriptors == NULL)
        return spank_prepend_task_argv(spank, 3, instead) == ESPANK_SUCCESS;
    for (int i = 0; i < 3; i++)
        (void)snprintf(text[i], sizeof(text[i]), "%d", descriptors[i]);
    return spank_prepend_task_argv(spank, 5, join) == ESPANK_SUCCESS;
}
#else
/* Before 23.11 Slurm has no call for it: argv[0] is replaced in place, and the descriptors and the
 * command travel in the environment. --multi-prog has other argvs there: request.c refuses it. */
bool put_joiner(spank_t spank, const char *joiner, const int descriptors[3], bool is_refused)
{
    char value[PATH_MAX + 64], **command = NULL;
    int count = 0, length;

    if (spank_get_item(spank, S_JOB_ARGV, &count, &command) != ESPANK_SUCCESS || count < 1)
        return false;
    if (descriptors == NULL)
        length = snprintf(value, sizeof(value), "%s", is_refused ? "refuse" : "end");
    else
        length = snprintf(value, sizeof(value), "%d %d %d %s", descriptors[0], descriptors[1],
                          descriptors[2], command[0]);
    if (length >= (int)sizeof(value) ||
        spank_setenv(spank, "SLURM_HPCIMG_JOIN", value, 1) != ESPANK_SUCCESS)
        return false;
    command[0] = strdup(joiner);
    return command[0] != NULL;
}
#endif
