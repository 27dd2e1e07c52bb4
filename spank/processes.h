/* The processes that keep a container, found from the one that was started. */
#ifndef HPCIMG_PROCESSES_H
#define HPCIMG_PROCESSES_H

#include <stddef.h>
#include <sys/types.h>

/* Append " PID:STARTTIME" of `pid` and of all its descendants: Apptainer's monitor, the holder, any
 * FUSE process. */
void list_processes(pid_t pid, char *list, size_t size);

#endif
