/* A user as root's programs are told of one, on their command line. */
#ifndef HPCIMG_USERS_H
#define HPCIMG_USERS_H

#include "namespaces.h"

#include <stdbool.h>

/* Parse three words, the last a list; false where one is wrong. */
bool parse_user(const char *uid, const char *gid, char *groups, struct user *user);

#endif
