/* `hpcimg get`: the one question that the plugin asks of the Python side. */
#ifndef HPCIMG_GET_H
#define HPCIMG_GET_H

#include "identity.h"
#include "job.h"
#include "ticket.h"

#define GET_NOT_FOR_THE_SITE 80   /* of `--store site`: only the user's credentials may help */
#define GET_TOO_MUCH         (-2) /* of what is put around the image: some of it would be missing */

/* Run it with `python` as `who` for the store `scope`: its exit code, and in `entry` what to run;
 * -1 when it did not run to its end. What it printed stays in `output`. */
int get_entry(const struct identity *who, const char *scope, const char *python,
              const struct job *job, const char *image, const char *node, char *output,
              struct entry *entry);

#endif
