/* The only place where the plugin starts a program: as root, as the store's account, as the user.
 */
#ifndef HPCIMG_STAGE_H
#define HPCIMG_STAGE_H

#include "identity.h"

#include <stddef.h>

#define STAGE_OUTPUT (2 << 20) /* largest result of a stage, bytes */

/* Run `argv` as `who` (NULL: root) with a fixed environment, an empty signal mask, / as working
 * directory and no descriptor but `input` and two pipes. What it writes to standard error reaches
 * the user's terminal line by line; standard output comes back in `output`, NUL-terminated, its
 * length in `*size`. The exit code, or -1 when it could not run, or was ended because the srun
 * that asked is gone. */
int run_stage(const struct identity *who, char *const argv[], int input, char *output,
              size_t *size);

#endif
