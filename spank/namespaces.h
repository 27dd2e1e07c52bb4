/* The namespaces of a container: check that they are the user's, and join them for the tasks. */
#ifndef HPCIMG_NAMESPACES_H
#define HPCIMG_NAMESPACES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct user {
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary, as Slurm resolved them */
    size_t group_count;
};

/* What tasks are in there besides. */
struct inside {
    bool as_root;   /* the user's number is root's */
    int namespaces; /* of their own: CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS */
};

/* The mount namespace of `pid`, opened; -1 with errno set unless its owner is a user namespace
 * that belongs to `uid` and is not ours. A pid that somebody made up fails here. */
int open_mount_namespace(pid_t pid, uid_t uid);

/* Start the anchor: a process of `user` in that mount namespace, with a user namespace of its own
 * that maps the user and all the user's groups, and what else they have of their own. It ends when
 * `lifeline` does. -1 with errno set. */
pid_t start_anchor(int mount_namespace, const struct user *user, const struct inside *inside,
                   int lifeline);

/* Enter the node's own mount namespace, that of its first process. */
bool join_node(void);

/* Enter the mount namespace that Slurm's job_container/tmpfs made for `job`, if there is one. */
bool join_job_container(unsigned long job);

#endif
