/* What the starter was asked for; its parts share it. */
#ifndef HPCIMG_STARTER_H
#define HPCIMG_STARTER_H

#include "argv.h"
#include "binds.h"
#include "keep.h"
#include "namespaces.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MOST_AROUND 1024 /* mounts of the node and the user together */
#define MEMORY      "/run/hpcimg/memory"

struct request {
    struct user user;
    struct inside inside; /* what the tasks are in the container */
    unsigned long job;
    const char *step; /* its number, or what Slurm calls it; NULL: not known */
    const char *image, *name, *node, *workdir, *apptainer, *holder, *script;
    const char *start_in; /* a directory of the container; NULL: the best there is */
    const char *overlay;  /* a directory that takes what is written to the image's files */
    struct keep keep;     /* how other steps find it */
    bool is_frozen;       /* nothing may be written to the layer */
    bool by_kernel, is_writable, has_no_home, shows_entrypoint;
    unsigned long seconds; /* that Apptainer may take */
    uid_t account;         /* whose image the kernel may be given */
    char *entrypoint;      /* its words with tabs between; NULL: none is to run */
    struct bind binds[MOST_AROUND];
    size_t bind_count;
    struct argv hidden; /* paths of the container that nobody may see */
};

/* Parse the command line; false where it is not the plugin's. */
bool parse_starter(int argc, char **argv, struct request *request);

#endif
