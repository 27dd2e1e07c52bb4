/* See users.h. */
#define _GNU_SOURCE
#include "users.h"

#include "common.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static bool parse_groups(char *text, struct user *user)
{
    char *next = NULL;

    user->groups = calloc(strlen(text) / 2 + 1, sizeof(gid_t));
    if (user->groups == NULL)
        return false;
    for (char *word = strtok_r(text, ",", &next); word != NULL; word = strtok_r(NULL, ",", &next)) {
        unsigned long gid;
        if (!parse_number(word, UINT_MAX - 1, &gid))
            return false;
        user->groups[user->group_count++] = (gid_t)gid;
    }
    return true;
}

bool parse_user(const char *uid, const char *gid, char *groups, struct user *user)
{
    unsigned long number;

    if (uid == NULL || gid == NULL || groups == NULL || !parse_number(uid, UINT_MAX - 1, &number))
        return false;
    user->uid = (uid_t)number;
    if (!parse_number(gid, UINT_MAX - 1, &number))
        return false;
    user->gid = (gid_t)number;
    return parse_groups(groups, user);
}
