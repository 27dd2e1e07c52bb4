/* Prints what binds.c makes of a list of mounts, a line each: kind, source, target, flags,
 * propagation. With a second argument the text is a line of `hpcimg get`. */
#include "binds.h"

#include <stdio.h>

static void print(const struct bind *bind)
{
    static const char *const kinds[] = {"path", "tmpfs", "umount"};

    printf("%s|%s|%s|%s%s|%lx|%lx\n", kinds[bind->kind], bind->source, bind->target,
           bind->is_read_only ? "ro" : "rw", bind->is_optional ? ",optional" : "", bind->flags,
           bind->propagation);
}

int main(int argc, char **argv)
{
    struct bind binds[4];
    const char *wrong = NULL;
    size_t count;

    if (argc == 3) {
        if (!parse_bind_line(argv[1], binds))
            return 1;
        print(binds);
        return 0;
    }
    count = parse_binds(argv[1], binds, 4, &wrong);
    for (size_t i = 0; i < count; i++)
        print(&binds[i]);
    if (wrong != NULL)
        printf("wrong: %s\n", wrong);
    return wrong != NULL;
}
