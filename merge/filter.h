/* Which system calls a program that parses a stranger's bytes may still make (seccomp). */
#ifndef HPCIMG_FILTER_H
#define HPCIMG_FILTER_H

#include <stdbool.h>

/* Refuse what reaches other processes, the network, names in the file system, or the kernel's odd
   corners; threads are allowed, new processes are not. False when the kernel has no filters. */
bool filter_refuse(void);

/* Allow only what computes, and moves bytes between descriptors that are open. */
bool filter_allow_few(void);

#endif
