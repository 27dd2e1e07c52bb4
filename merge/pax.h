/* PAX records: the members' fields that do not fit into a header, and the three sparse formats. */
#ifndef HPCIMG_PAX_H
#define HPCIMG_PAX_H

#include "archive.h"

struct pax {
    char *path, *link, *sparse_name;
    bool has_size, has_mtime, has_real_size, has_map;
    uint64_t size, real_size;
    int64_t mtime;
    int major;
    struct span pending; /* of format 0.0, whose offsets and sizes come one by one */
};

/* Read the records of one extended header into `pax`, sparse maps and attributes into `member`. */
bool pax_parse(struct archive *archive, struct pax *pax, struct member *member, char *records,
               size_t size);

/* Read the map of format 1.0, which stands before the content. */
bool pax_read_map(struct archive *archive, struct member *member);

void pax_free(struct pax *pax);

#endif
