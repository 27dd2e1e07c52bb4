/* Inflates with the fastest library that was there at build time; gzip and zstd may be in parts. */
#define _GNU_SOURCE
#include "codec.h"

#include <stdlib.h>
#include <string.h>

#if defined(USE_ISAL)
#include <isa-l/igzip_lib.h>
#else
#include <zlib.h>
#endif
#if defined(USE_ZSTD)
#include <zstd.h>
#endif

#define BAD_GZIP "it is not valid gzip"

static bool copy(struct codec *codec)
{
    size_t count = codec->in_size < codec->out_size ? codec->in_size : codec->out_size;

    memcpy(codec->out, codec->in, count);
    codec->in += count;
    codec->in_size -= count;
    codec->out += count;
    codec->out_size -= count;
    return true;
}

/* Between two members: another one begins, or there are only zeros, as tapes have them. */
static bool is_padding(struct codec *codec)
{
    while (codec->in_size > 0 && *codec->in == 0) {
        codec->in++;
        codec->in_size--;
    }
    return codec->in_size == 0;
}

#if defined(USE_ISAL)
static void *gzip_new(void)
{
    struct inflate_state *state = malloc(sizeof(*state));

    if (state != NULL) {
        isal_inflate_init(state);
        state->crc_flag = ISAL_GZIP;
    }
    return state;
}

static bool gunzip(struct codec *codec)
{
    struct inflate_state *state = codec->state;

    if (codec->is_between) {
        if (is_padding(codec))
            return true;
        isal_inflate_reset(state);
        state->crc_flag = ISAL_GZIP;
        codec->is_between = false;
    }
    state->next_in = codec->in;
    state->avail_in = (uint32_t)codec->in_size;
    state->next_out = codec->out;
    state->avail_out = (uint32_t)codec->out_size;
    if (isal_inflate(state) < 0)
        codec->fault = BAD_GZIP;
    codec->in = state->next_in;
    codec->in_size = state->avail_in;
    codec->out = state->next_out;
    codec->out_size = state->avail_out;
    codec->is_between = state->block_state == ISAL_BLOCK_FINISH;
    return codec->fault == NULL;
}
#else
static void *gzip_new(void)
{
    z_stream *state = calloc(1, sizeof(*state));

    if (state != NULL && inflateInit2(state, 15 + 16) != Z_OK) {
        free(state);
        state = NULL;
    }
    return state;
}

static bool gunzip(struct codec *codec)
{
    z_stream *state = codec->state;
    int result;

    if (codec->is_between) {
        if (is_padding(codec))
            return true;
        (void)inflateReset(state);
        codec->is_between = false;
    }
    state->next_in = codec->in;
    state->avail_in = (uInt)codec->in_size;
    state->next_out = codec->out;
    state->avail_out = (uInt)codec->out_size;
    result = inflate(state, Z_NO_FLUSH);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        codec->fault = BAD_GZIP;
    codec->in = state->next_in;
    codec->in_size = state->avail_in;
    codec->out = state->next_out;
    codec->out_size = state->avail_out;
    codec->is_between = result == Z_STREAM_END;
    return codec->fault == NULL;
}
#endif

#if defined(USE_ZSTD)
static bool unzstd(struct codec *codec)
{
    ZSTD_inBuffer in = {codec->in, codec->in_size, 0};
    ZSTD_outBuffer out = {codec->out, codec->out_size, 0};
    size_t result;

    if (codec->is_between && codec->in_size == 0)
        return true;
    result = ZSTD_decompressStream(codec->state, &out, &in);
    if (ZSTD_isError(result)) {
        codec->fault = "it is not valid zstd";
        return false;
    }
    codec->in += in.pos;
    codec->in_size -= in.pos;
    codec->out += out.pos;
    codec->out_size -= out.pos;
    codec->is_between = result == 0;
    return true;
}
#else
static bool unzstd(struct codec *codec)
{
    codec->fault = "it is compressed with zstd, which this program was built without";
    return false;
}
#endif

bool codec_open(struct codec *codec)
{
    const unsigned char *in = codec->in;

    codec->step = copy;
    codec->is_between = true;
    if (codec->in_size >= 2 && in[0] == 0x1f && in[1] == 0x8b) {
        codec->step = gunzip;
        codec->is_between = false;
        codec->state = gzip_new();
        return codec->state != NULL;
    }
    /* A frame, or one that is to be skipped (RFC 8878, 3.1): 50 to 5F 2A 4D 18. */
    if (codec->in_size >= 4 &&
        (memcmp(in, "\x28\xb5\x2f\xfd", 4) == 0 ||
         ((in[0] & 0xf0) == 0x50 && memcmp(in + 1, "\x2a\x4d\x18", 3) == 0))) {
        codec->step = unzstd;
#if defined(USE_ZSTD)
        codec->state = ZSTD_createDStream();
        return codec->state != NULL;
#endif
    }
    return true;
}

bool codec_step(struct codec *codec)
{
    return codec->step(codec);
}

void codec_close(struct codec *codec)
{
    if (codec->step == gunzip) {
#if !defined(USE_ISAL)
        if (codec->state != NULL)
            (void)inflateEnd(codec->state);
#endif
        free(codec->state);
    }
#if defined(USE_ZSTD)
    if (codec->step == unzstd)
        (void)ZSTD_freeDStream(codec->state);
#endif
}
