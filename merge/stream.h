/* One layer's blob as the stream of its uncompressed bytes, inflated and hashed on the way. */
#ifndef HPCIMG_STREAM_H
#define HPCIMG_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct stream;

/* Begin to inflate what `fd` gives, in a thread of its own; NULL with errno set. */
struct stream *stream_open(int fd, const char *diff_id);

/* Show the next bytes without taking them: their number, 0 at the end, -1 when they are bad. */
ssize_t stream_peek(struct stream *stream, const unsigned char **bytes);

/* Take bytes that were shown. */
void stream_take(struct stream *stream, size_t count);

/* Read `size` bytes; fewer only at the end, -1 when they are bad. */
ssize_t stream_read(struct stream *stream, void *bytes, size_t size);

/* Read to the end and compare with the diff_id; false when the layer is not what it should be. */
bool stream_finish(struct stream *stream);

/* Why the stream is bad. */
const char *stream_fault(const struct stream *stream);

/* How many bytes were read so far of the blob, and of its content. */
uint64_t stream_packed(struct stream *stream);
uint64_t stream_unpacked(const struct stream *stream);

#endif
