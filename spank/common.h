/* What the plugin, the starter, the holder and the joiner agree on. */
#ifndef HPCIMG_COMMON_H
#define HPCIMG_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CONTRACT         1 /* raise it when their words to each other change: no mixture may run */
#define LAUNCH_FAILED    125 /* exit code when the container could not start, as engines have it */
#define FINDER_NOTHING   3   /* how the finder ends where there is nothing to be found */
#define STARTER_BUSY     81  /* how the starter ends where such a container runs meanwhile */
#define SAVE_REFUSED     0x80000000U /* in place of a number of tasks: nothing will be saved */
#define NAME_LENGTH      1024        /* longest image name, as in the reference grammar */
#define ENVIRONMENT_SIZE (1 << 20)   /* largest environment that an image may set, bytes */
#define READY            "hpcimg-holder-ready" /* first word of the holder's report */
#define TICKETS          "/run/hpcimg/tickets" /* root's; JOBID/ in it is made by the prolog */

/* Write all of `size` bytes; false with errno set. */
bool write_all(int fd, const void *bytes, size_t size);

/* Read until end of file or `size` bytes; the count, or -1 with errno set. */
ssize_t read_all(int fd, void *bytes, size_t size);

/* Become uid:gid with exactly `groups`, for good, and check it; false with errno set. */
bool become(uid_t uid, gid_t gid, const gid_t *groups, size_t count);

/* Set close-on-exec on every descriptor from `first` up. */
void close_on_exec_from(int first);

/* Default dispositions and an empty mask: the launcher's own must not reach what we exec. */
void reset_signals(void);

/* Start time of `pid` in clock ticks since boot, 0 when there is no such process. */
unsigned long long start_time(pid_t pid);

/* Decimal text to number, whole string, at most `limit`; false otherwise. */
bool parse_number(const char *text, unsigned long limit, unsigned long *value);

/* Whether a terminal shows a byte, and does not obey it: neither ASCII's control characters nor ISO
 * 8859's, also in UTF-8, for which the byte before it counts. */
bool is_shown(unsigned char byte, unsigned char before);

/* Put question marks in place of what is not. */
void keep_shown(char *text);

/* Whether an open file or directory is root's or `account`'s, and nobody else may write it; false
 * with errno set. */
bool is_guarded(int fd, uid_t account, bool is_directory);

/* Take the terminal's colour sequences (ESC [ ... m) out of a text, in place. */
void strip_colours(char *text);

#endif
