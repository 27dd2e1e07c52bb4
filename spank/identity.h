/* Who a stage runs as. */
#ifndef HPCIMG_IDENTITY_H
#define HPCIMG_IDENTITY_H

#include <slurm/spank.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct identity {
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t group_count;
    char home[512]; /* "HOME=…" for the stage's environment */
    char name[64];  /* "USER=…" */
};

/* Fill in uid, gid, home and name of an account; false when there is none. */
bool find_identity(const char *account, uid_t uid, struct identity *who);

/* The step's user: ids and groups as Slurm resolved them. */
bool read_user(spank_t spank, struct identity *user);

/* The groups as decimal numbers with commas between; false when they do not fit. */
bool write_groups(const struct identity *user, char *text, size_t size);

#endif
