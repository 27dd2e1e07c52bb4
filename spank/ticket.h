/* A ticket says which image file a job's name means on this node: with one, nothing is asked. */
#ifndef HPCIMG_TICKET_H
#define HPCIMG_TICKET_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TICKETS "/run/hpcimg/tickets" /* root's; JOBID/ in it is made by the prolog */

struct entry {
    char image[PATH_MAX]; /* the SIF to run */
    bool has_gpu;         /* the job has a GPU: bring the host's driver in */
};

/* Parse what `hpcimg get` prints: "image=PATH" and "gpu=yes|no", a line each. */
bool parse_entry(const char *text, struct entry *entry);

/* Read the job's ticket for `name` and the GPUs it got. Only root's files count, and only where
 * the prolog made the job's directory: it also clears what an older job of that number left. */
bool read_ticket(uint32_t job, const char *name, const char *gpus, struct entry *entry);

/* Wait a moment while the prolog's prefetch for `name` still works: when it lets its lock go, the
 * ticket is there, or it will not be. False when there is nothing to wait for, or not any longer:
 * the step then asks for itself, joins the fetch and shows how far it is. */
bool await_ticket(uint32_t job, const char *name, const char *gpus);

/* Write one, whole or not at all. It saves the next step some time and may fail in silence. */
void write_ticket(uint32_t job, const char *name, const char *gpus, const char *text);

#endif
