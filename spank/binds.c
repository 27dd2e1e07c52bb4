/* See binds.h. */
#define _GNU_SOURCE
#include "binds.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

static bool add_propagation(struct bind *bind, const char *flag)
{
    static const struct {
        const char *word;
        unsigned long flags;
    } known[] = {{"private", MS_PRIVATE}, {"slave", MS_SLAVE}, {"shared", MS_SHARED}};
    bool is_for_all = flag[0] == 'r';

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        unsigned long flags = known[i].flags | (is_for_all ? MS_REC : 0);
        if (strcmp(flag + is_for_all, known[i].word) != 0)
            continue;
        if (bind->propagation != 0 && bind->propagation != flags)
            return false;
        bind->propagation = flags;
        return true;
    }
    return false;
}

static bool add_flag(struct bind *bind, const char *flag, bool *is_writable)
{
    if (strcmp(flag, "ro") == 0)
        bind->is_read_only = true;
    else if (strcmp(flag, "rw") == 0)
        *is_writable = true;
    else if (strcmp(flag, "nosuid") == 0)
        bind->flags |= MS_NOSUID;
    else if (strcmp(flag, "nodev") == 0)
        bind->flags |= MS_NODEV;
    else if (strcmp(flag, "noexec") == 0)
        bind->flags |= MS_NOEXEC;
    else if (strcmp(flag, "optional") == 0)
        bind->is_optional = true;
    else
        return add_propagation(bind, flag);
    return true;
}

static bool add_flags(struct bind *bind, char *flags, const char *between)
{
    bool is_writable = false;

    for (char *flag = strsep(&flags, between); flag != NULL; flag = strsep(&flags, between))
        if (!add_flag(bind, flag, &is_writable))
            return false;
    return !(is_writable && bind->is_read_only);
}

/* Below the root directory, and not around it. */
static bool is_target(const char *path)
{
    bool has_name = false;

    for (const char *part = path; *part != '\0'; part += strcspn(part, "/")) {
        part += strspn(part, "/");
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
            return false;
        has_name = has_name || (*part != '\0' && *part != '.') ||
                   (*part == '.' && part[1] != '/' && part[1] != '\0');
    }
    return has_name && strlen(path) < PATH_MAX;
}

static bool is_path(const char *path)
{
    return path[0] != '\0' && strlen(path) < PATH_MAX && strpbrk(path, "\t\r\n") == NULL;
}

static bool complete(struct bind *bind, char *source, char *target, char *flags,
                     const char *between)
{
    *bind = (struct bind){.source = source, .target = target != NULL ? target : source};
    if (target != NULL && strcmp(source, "tmpfs") == 0)
        bind->kind = BIND_TMPFS;
    else if (target != NULL && strcmp(source, "umount") == 0)
        bind->kind = BIND_UMOUNT;
    return is_path(source) && is_path(bind->target) && is_target(bind->target) &&
           (target == NULL || target[0] == '/') && (flags == NULL || flags[0] != '\0') &&
           (flags == NULL || bind->kind != BIND_UMOUNT) && add_flags(bind, flags, between);
}

bool parse_bind(char *text, struct bind *bind)
{
    char *source = strsep(&text, ":"), *target = strsep(&text, ":"), *flags = strsep(&text, ":");

    return text == NULL && complete(bind, source, target, flags, "+");
}

bool parse_bind_line(char *text, struct bind *bind)
{
    char *source = strsep(&text, "\t"), *target = strsep(&text, "\t"), *flags = strsep(&text, "\t");

    if (flags != NULL && flags[0] == '\0')
        flags = NULL;
    return text == NULL && target != NULL && complete(bind, source, target, flags, ",");
}

static bool is_same(const struct bind *one, const struct bind *other)
{
    return strcmp(one->source, other->source) == 0 && one->flags == other->flags &&
           one->is_read_only == other->is_read_only && one->propagation == other->propagation;
}

/* Said twice it is made once; two different ones at one place are refused. */
static bool is_new(const struct bind *binds, size_t count, const struct bind *bind, bool *is_wrong)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(binds[i].target, bind->target) != 0)
            continue;
        *is_wrong = !is_same(&binds[i], bind);
        return false;
    }
    return true;
}

size_t parse_binds(char *list, struct bind *binds, size_t most, const char **wrong)
{
    static char part[PATH_MAX * 2 + 64];
    size_t count = 0;

    *wrong = NULL;
    for (char *item; (item = strsep(&list, ",")) != NULL;) {
        bool is_wrong = false;
        (void)snprintf(part, sizeof(part), "%s", item);
        if (count == most || !parse_bind(item, &binds[count]) ||
            (!is_new(binds, count, &binds[count], &is_wrong) && is_wrong)) {
            *wrong = part;
            return count;
        }
        count += is_new(binds, count, &binds[count], &is_wrong);
    }
    return count;
}
