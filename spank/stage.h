/* The only place where the plugin starts a program: as root, as the store's account, as the user. */
#ifndef HPCIMG_STAGE_H
#define HPCIMG_STAGE_H

#include <stddef.h>
#include <sys/types.h>

#define STAGE_OUTPUT (2 << 20) /* largest result of a stage, bytes */

struct identity {
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t group_count;
    char home[512]; /* "HOME=…" for the stage's environment */
    char name[64];  /* "USER=…" */
};

/* Run `argv` as `who` (NULL: root) with a fixed environment, an empty signal mask, / as working
 * directory and no descriptor but `input` and two pipes. What it writes to standard error reaches
 * the user's terminal line by line; standard output comes back in `output`, NUL-terminated, its
 * length in `*size`. The exit code, or -1 when it could not run or was killed. */
int run_stage(const struct identity *who, char *const argv[], int input, char *output,
              size_t *size);

/* Fill in uid, gid, home and name of an account; false when there is none. */
int find_identity(const char *account, uid_t uid, struct identity *who);

#endif
