/* Where the site keeps the programs that a launch starts, and whether they are there. */
#ifndef HPCIMG_PROGRAMS_H
#define HPCIMG_PROGRAMS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* What plugstack.conf says. */
struct site {
    char account[64], prefix[32], python[PATH_MAX], apptainer[PATH_MAX], libexec[PATH_MAX];
    char pin[8]; /* when a batch job's tag is read: at its `submit` or at its `start` */
};

/* False when one of them cannot be started, or they are no match for this plugin; `what` says it.
 */
bool have_programs(const struct site *site, char *what, size_t size);

#endif
