/* See identity.h. */
#define _GNU_SOURCE
#include "identity.h"

#include <pwd.h>
#include <stdio.h>

bool find_identity(const char *account, uid_t uid, struct identity *who)
{
    struct passwd entry, *found = NULL;
    char buffer[16384];
    int error = account != NULL ? getpwnam_r(account, &entry, buffer, sizeof(buffer), &found)
                                : getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found);

    if (error != 0 || found == NULL)
        return false;
    who->uid = found->pw_uid;
    who->gid = found->pw_gid;
    (void)snprintf(who->home, sizeof(who->home), "HOME=%s", found->pw_dir);
    (void)snprintf(who->name, sizeof(who->name), "USER=%s", found->pw_name);
    return true;
}

bool read_user(spank_t spank, struct identity *user)
{
    gid_t *groups = NULL, gid = 0;
    int count = 0;
    uid_t uid = 0;

    if (spank_get_item(spank, S_JOB_UID, &uid) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_GID, &gid) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &groups, &count) != ESPANK_SUCCESS)
        return false;
    (void)find_identity(NULL, uid, user); /* home and name; the ids are Slurm's */
    user->uid = uid;
    user->gid = gid;
    user->groups = groups;
    user->group_count = (size_t)count;
    return true;
}

bool write_groups(const struct identity *user, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < user->group_count; i++) {
        int length = snprintf(text + used, size - used, "%s%u", i ? "," : "", user->groups[i]);
        if (length < 0 || (size_t)length >= size - used)
            return false;
        used += (size_t)length;
    }
    return true;
}
