/* The switch with which a site turns hpcimg off on a machine, without draining it: a file that only
 * root can make. Steps without a container are not touched, steps with one are refused. */
#ifndef HPCIMG_OFF_H
#define HPCIMG_OFF_H

#include <stdbool.h>
#include <stddef.h>

#define OFF_FILE "/etc/hpcimg/off"

/* Whether it is off; `reason` gets the file's first line, or words of ours where it is empty. */
bool is_switched_off(char *reason, size_t size);

#endif
