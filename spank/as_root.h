/* What a task that is root in its container needs beside the number. */
#ifndef HPCIMG_AS_ROOT_H
#define HPCIMG_AS_ROOT_H

#include <stdbool.h>

/* From here on calls that change a file's or a process's owner say that they worked and do nothing:
 * no other owner exists there, and a package manager's tools end when these fail. Needs
 * no_new_privs. False with errno set. */
bool pretend_owners(void);

#endif
