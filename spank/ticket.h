/* A ticket says which image file a job's name means on this node: with one, nothing is asked. */
#ifndef HPCIMG_TICKET_H
#define HPCIMG_TICKET_H

#include "job.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define JOB_FILE_SIZE (1 << 17)
#define TICKET_SIZE   (1 << 16) /* libraries of GPUs are many */

struct entry {
    char image[PATH_MAX];   /* the SIF to run */
    bool is_for_once;       /* other nodes of the next step may find another: it asks again */
    bool by_kernel;         /* the site lets the kernel mount it */
    char warning[1024];     /* what the user of each step should know; may be empty */
    char once[1024];        /* the same of the job's first step */
    char text[TICKET_SIZE]; /* all that was printed */
};

/* Parse what `hpcimg get` prints: "image=PATH" and maybe "mount=kernel",
 * "warning=TEXT", "once=TEXT" or "ticket=no", a line each. */
bool parse_entry(const char *text, struct entry *entry);

/* The value of the line that begins with `key`; false when there is none, or it is too long. */
bool parse_line(const char *text, const char *key, char *value, size_t size);

/* Read what the prolog was told of the job, in lines as above; false where it has left nothing. */
bool read_job_file(uint32_t job, char *text, size_t size);

/* Read the job's ticket for `name`, its GPUs, how many nodes it has and how they match. Only root's
 * files count, and only where the prolog made the job's directory: it also clears what an older job
 * of that number left. An image that is not as the ticket says counts as no ticket. */
bool read_ticket(const struct job *job, const char *name, struct entry *entry);

/* Wait a moment while the prolog's prefetch for `name` still works: when it lets its lock go, the
 * ticket is there, or it will not be. False when there is nothing to wait for, or not any longer:
 * the step then asks for itself, joins the fetch and shows how far it is. */
bool await_ticket(const struct job *job, const char *name);

/* Write one, whole or not at all. It saves the next step some time and may fail in silence. */
void write_ticket(const struct job *job, const char *name, const char *text);

/* How a step came to its entry: the name it asked for, from whose store, whether by a ticket, and
 * how long that took. */
struct start {
    const char *name, *scope;
    bool by_ticket, was_told;
    long millis;
};

/* Add it to the list of what the job started here, which the epilog keeps; may fail in silence. */
void note_start(const struct job *job, const struct start *start, const struct entry *entry);

/* Whether a step of the job was told here what is for its first. */
bool was_told(const struct job *job);

#endif
