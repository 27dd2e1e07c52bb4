/* Root's hand on the images that the kernel has mounted, for the epilog and for people.
 *
 *     mounter sweep              unmount what no job on this node needs any longer
 *     mounter check IMAGE UID    would the kernel be given this image of that account? */
#define _GNU_SOURCE
#include "common.h"
#include "mounts.h"
#include "namespaces.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int check(const char *image, uid_t account)
{
    char why[WHY_SIZE] = "";
    struct squashfs found;
    int fd = open_image(image, account, why);

    if (fd >= 0 && find_squashfs(fd, &found, why)) {
        (void)printf("offset=%llu\nsize=%llu\n", (unsigned long long)found.offset,
                     (unsigned long long)found.size);
        return 0;
    }
    (void)fprintf(stderr, "hpcimg: not to be mounted by the kernel: %s\n", why);
    return 1;
}

static int sweep(void)
{
    if (!join_node()) {
        (void)fprintf(stderr, "hpcimg: could not enter the node's mounts: %s\n", strerror(errno));
        return 1;
    }
    sweep_mounts();
    return 0;
}

int main(int argc, char **argv)
{
    unsigned long account;

    close_on_exec_from(3);
    (void)umask(022);
    if (argc == 2 && strcmp(argv[1], "sweep") == 0)
        return sweep();
    if (argc == 4 && strcmp(argv[1], "check") == 0 && parse_number(argv[3], UINT_MAX, &account))
        return check(argv[2], (uid_t)account);
    (void)fprintf(stderr, "usage: mounter sweep | mounter check IMAGE UID\n");
    return 2;
}
