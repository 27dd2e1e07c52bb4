/* The node's running containers, in files of root's: who may join one, and how. */
#ifndef HPCIMG_RUNNING_H
#define HPCIMG_RUNNING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define RUNNING  "/run/hpcimg/running"
#define KEY_SIZE 224
#define RUNNING_LIMIT                                                                              \
    ((1 << 20) + (1 << 17)) /* of a file: the environment, and what is before it */

/* Whose and what a file is of: "UID~n~NAME", "UID~j~JOB~NAME" or "UID~s~JOB.STEP". */
void write_key(char key[KEY_SIZE], uid_t uid, const char *name, unsigned long job, bool is_of_job);
void write_step_key(char key[KEY_SIZE], uid_t uid, const char *step);

/* [A-Za-z0-9][A-Za-z0-9._-]*, not longer than a file's name may be in what is made of it. */
bool is_container_name(const char *name);

/* The text of a container that runs under `key`: "uid=…\n", what the starter prints of its
 * processes, "asked=IMAGE\n", what `hpcimg get` printed, and its environment. -1 where none does:
 * no file of root's alone, another's, or its anchor is gone. */
ssize_t read_running(const char *key, uid_t uid, char *text, size_t size);

/* Root: take `key` for a container that is about to start: a descriptor that holds a lock until it
 * is closed. -1 with EBUSY where one runs or starts under it already. */
int claim_running(const char *key, uid_t uid);

/* Root: write down what runs under a claimed key, or give it up with an empty text. */
bool settle_running(int claim, const char *key, const char *text, size_t size);

/* Root: forget one that has ended, if it is still `anchor`'s. */
void forget_running(const char *key, pid_t anchor, unsigned long long start);

#endif
