/* The mounts that a container gets beside its image, as texts: a word of the user's, or lines of
 * `hpcimg get`. Nothing here looks at a path. hpcimg/bind.py reads the same form. */
#ifndef HPCIMG_BINDS_H
#define HPCIMG_BINDS_H

#include <stdbool.h>
#include <stddef.h>

#define MOST_BINDS 256 /* that one step may ask for */

struct bind {
    enum { BIND_PATH, BIND_TMPFS, BIND_UMOUNT } kind;
    const char *source, *target; /* a source that stands alone may be relative, and so its target */
    bool is_read_only, is_optional;
    unsigned long flags;       /* MS_NOSUID, MS_NODEV, MS_NOEXEC */
    unsigned long propagation; /* MS_PRIVATE and its like, 0 where nothing is said */
};

/* Take `SOURCE[:TARGET[:FLAG+FLAG]]` apart, in place; false where it is no mount. */
bool parse_bind(char *text, struct bind *bind);

/* The same of `SOURCE TAB TARGET TAB FLAG,FLAG`. */
bool parse_bind_line(char *text, struct bind *bind);

/* Take a list of the first form apart, in place, until there are `most`; how many they are. Where
 * `wrong` is left set, it is the part that is no mount, or goes to where another one goes. */
size_t parse_binds(char *list, struct bind *binds, size_t most, const char **wrong);

#endif
