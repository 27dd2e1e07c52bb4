/* The processes that keep a container, found from the one that was started. */
#ifndef HPCIMG_PROCESSES_H
#define HPCIMG_PROCESSES_H

#include <stddef.h>
#include <sys/types.h>

/* Stay the parent of what our children leave behind, also in a session of its own. */
void keep_orphans(void);

/* Append " PID:STARTTIME" of all descendants of `pid`: Apptainer's monitor, the holder, any FUSE
 * process, the anchor, and what the image's scripts started. */
void list_descendants(pid_t pid, char *list, size_t size);

/* Kill all descendants of this process and wait for them. */
void end_descendants(void);

#endif
