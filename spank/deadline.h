/* Reads that are given up at a time of the clock that only goes forward. */
#ifndef HPCIMG_DEADLINE_H
#define HPCIMG_DEADLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

time_t seconds_from_now(unsigned long seconds);

/* Read so many bytes; false when they did not come, with errno ETIMEDOUT when it was for the time.
 */
bool read_in_time(int fd, char *bytes, size_t size, time_t end);

#endif
