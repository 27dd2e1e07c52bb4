/* The compression of one layer, told from its first bytes: gzip, zstd, or none. */
#ifndef HPCIMG_CODEC_H
#define HPCIMG_CODEC_H

#include <stdbool.h>
#include <stddef.h>

struct codec {
    unsigned char *in, *out;
    size_t in_size, out_size;
    bool is_between;   /* what follows begins a member or a frame, so the end may come */
    const char *fault; /* why codec_step gave up */
    bool (*step)(struct codec *codec);
    void *state;
};

/* Choose by the first input bytes; false without memory. */
bool codec_open(struct codec *codec);

/* Turn input into output until one of them is used up; false when the input is bad. */
bool codec_step(struct codec *codec);

void codec_close(struct codec *codec);

#endif
