/* Writes one tar stream to standard output, in the form that sqfstar reads. */
#ifndef HPCIMG_WRITER_H
#define HPCIMG_WRITER_H

#include "archive.h"

/* Write a member's header; `link` is a link's target, else NULL. False with errno set. */
bool writer_header(const struct member *member, const char *path, const char *link);

/* Write content, or with `bytes` NULL zeros. */
bool writer_content(const void *bytes, uint64_t size);

/* Fill the last block of a file's content. */
bool writer_pad(uint64_t size);

/* Write the end of the archive and what is still in memory. */
bool writer_end(void);

#endif
