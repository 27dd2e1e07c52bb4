/* A thread inflates into a ring of blocks; the reader hashes each block once when it comes to it.
 */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive.h"
#include "codec.h"

#define BLOCKS     8
#define BLOCK_SIZE (256 << 10)
#define INPUT_SIZE (128 << 10)

struct stream {
    int fd;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned char *blocks[BLOCKS];
    size_t sizes[BLOCKS];
    unsigned int made, used; /* blocks so far; they differ by at most BLOCKS */
    bool ended;
    const char *fault;
    uint64_t packed;
    bool is_shown; /* the reader's own from here: whether block `used` is hashed already */
    size_t taken;  /* bytes of that block that are gone */
    uint64_t unpacked;
    EVP_MD_CTX *hash;
    char diff_id[160];
    unsigned char input[INPUT_SIZE];
};

static size_t fill(struct stream *stream, size_t have)
{
    while (have < INPUT_SIZE) {
        ssize_t count = read(stream->fd, stream->input + have, INPUT_SIZE - have);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            stream->fault = "the blob could not be read";
        if (count <= 0)
            break;
        have += (size_t)count;
        pthread_mutex_lock(&stream->mutex);
        stream->packed += (uint64_t)count;
        pthread_mutex_unlock(&stream->mutex);
        if (have >= 8) /* enough to tell the format; a slow blob must not wait for a full buffer */
            break;
    }
    return have;
}

static unsigned char *next_block(struct stream *stream)
{
    unsigned char *block;

    pthread_mutex_lock(&stream->mutex);
    while (stream->made - stream->used == BLOCKS)
        pthread_cond_wait(&stream->changed, &stream->mutex);
    block = stream->blocks[stream->made % BLOCKS];
    pthread_mutex_unlock(&stream->mutex);
    return block;
}

static void publish(struct stream *stream, size_t size, bool is_last, const char *fault)
{
    pthread_mutex_lock(&stream->mutex);
    if (size > 0) {
        stream->sizes[stream->made % BLOCKS] = size;
        stream->made++;
    }
    if (fault != NULL)
        stream->fault = fault;
    stream->ended = is_last;
    pthread_cond_signal(&stream->changed);
    pthread_mutex_unlock(&stream->mutex);
}

/* Fill block after block until the blob ends or turns out to be bad; the reason, or NULL. */
static const char *inflate_all(struct stream *stream, struct codec *codec, size_t *last)
{
    size_t room;

    codec->out = next_block(stream);
    codec->out_size = BLOCK_SIZE;
    for (bool is_end = false;;) {
        if (codec->in_size == 0 && !is_end) {
            codec->in = stream->input;
            codec->in_size = fill(stream, 0);
            is_end = codec->in_size == 0;
        }
        if (stream->fault != NULL)
            return stream->fault;
        room = codec->out_size;
        if (!codec_step(codec))
            return codec->fault;
        if (codec->out_size == 0) {
            publish(stream, BLOCK_SIZE, false, NULL);
            codec->out = next_block(stream);
            codec->out_size = BLOCK_SIZE;
        } else if (is_end && room == codec->out_size) {
            *last = BLOCK_SIZE - codec->out_size;
            return codec->is_between ? NULL : "it ends in the middle";
        }
    }
}

static void *inflater(void *argument)
{
    struct stream *stream = argument;
    struct codec codec = {.in = stream->input};
    const char *fault = NO_MEMORY;
    size_t last = 0;

    codec.in_size = fill(stream, 0);
    if (codec_open(&codec))
        fault = inflate_all(stream, &codec, &last);
    codec_close(&codec);
    publish(stream, last, true, fault);
    return NULL;
}

struct stream *stream_open(int fd, const char *diff_id)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    bool is_long = strncmp(diff_id, "sha512:", 7) == 0;

    if (stream == NULL)
        return NULL;
    stream->fd = fd;
    (void)snprintf(stream->diff_id, sizeof(stream->diff_id), "%s", diff_id);
    for (int i = 0; i < BLOCKS; i++)
        if ((stream->blocks[i] = malloc(BLOCK_SIZE)) == NULL)
            return NULL;
    if ((stream->hash = EVP_MD_CTX_new()) == NULL ||
        EVP_DigestInit_ex(stream->hash, is_long ? EVP_sha512() : EVP_sha256(), NULL) != 1)
        return NULL;
    if ((errno = pthread_mutex_init(&stream->mutex, NULL)) != 0 ||
        (errno = pthread_cond_init(&stream->changed, NULL)) != 0 ||
        (errno = pthread_create(&stream->thread, NULL, inflater, stream)) != 0)
        return NULL;
    return stream;
}

ssize_t stream_peek(struct stream *stream, const unsigned char **bytes)
{
    size_t size;
    bool is_bad;

    pthread_mutex_lock(&stream->mutex);
    while (stream->made == stream->used && !stream->ended)
        pthread_cond_wait(&stream->changed, &stream->mutex);
    is_bad = stream->made == stream->used && stream->fault != NULL;
    size = stream->made == stream->used ? 0 : stream->sizes[stream->used % BLOCKS];
    pthread_mutex_unlock(&stream->mutex);
    if (is_bad)
        return -1;
    if (size == 0)
        return 0;
    *bytes = stream->blocks[stream->used % BLOCKS] + stream->taken;
    if (!stream->is_shown) {
        if (EVP_DigestUpdate(stream->hash, *bytes, size) != 1)
            return -1;
        stream->is_shown = true;
        stream->unpacked += size;
    }
    return (ssize_t)(size - stream->taken);
}

void stream_take(struct stream *stream, size_t count)
{
    stream->taken += count;
    pthread_mutex_lock(&stream->mutex);
    if (stream->taken == stream->sizes[stream->used % BLOCKS]) {
        stream->used++;
        stream->taken = 0;
        stream->is_shown = false;
        pthread_cond_signal(&stream->changed);
    }
    pthread_mutex_unlock(&stream->mutex);
}

ssize_t stream_read(struct stream *stream, void *bytes, size_t size)
{
    const unsigned char *from = NULL;
    size_t have = 0;

    while (have < size) {
        ssize_t count = stream_peek(stream, &from);
        if (count < 0)
            return -1;
        if (count == 0)
            break;
        size_t part = (size_t)count < size - have ? (size_t)count : size - have;
        memcpy((char *)bytes + have, from, part);
        stream_take(stream, part);
        have += part;
    }
    return (ssize_t)have;
}

bool stream_finish(struct stream *stream)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    char text[2 * EVP_MAX_MD_SIZE + 1] = "";
    const unsigned char *bytes = NULL;
    const char *wanted = strchr(stream->diff_id, ':');
    ssize_t count;

    while ((count = stream_peek(stream, &bytes)) > 0)
        stream_take(stream, (size_t)count);
    (void)pthread_join(stream->thread, NULL);
    if (count == 0 && EVP_DigestFinal_ex(stream->hash, digest, &size) != 1)
        stream->fault = "it could not be hashed";
    EVP_MD_CTX_free(stream->hash);
    for (int i = 0; i < BLOCKS; i++)
        free(stream->blocks[i]);
    (void)close(stream->fd);
    if (count < 0 || size == 0)
        return false;
    for (unsigned int i = 0; i < size; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
    if (wanted != NULL && strcmp(wanted + 1, text) != 0)
        stream->fault = "its content is not what the image's config says (diff_id)";
    return stream->fault == NULL;
}

const char *stream_fault(const struct stream *stream)
{
    return stream->fault != NULL ? stream->fault : "it ends in the middle";
}

uint64_t stream_packed(struct stream *stream)
{
    uint64_t packed;

    pthread_mutex_lock(&stream->mutex);
    packed = stream->packed;
    pthread_mutex_unlock(&stream->mutex);
    return packed;
}

uint64_t stream_unpacked(const struct stream *stream)
{
    return stream->unpacked;
}
