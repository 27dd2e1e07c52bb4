/* How much memory the control groups that this process is in leave it. */
#ifndef HPCIMG_LIMIT_H
#define HPCIMG_LIMIT_H

/* The least limit of its group and of those above it, in bytes; 0 where none is known. */
unsigned long long memory_limit(void);

#endif
