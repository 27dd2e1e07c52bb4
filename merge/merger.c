/* Merges the layers of an image, which it reads from descriptors, into one tar stream for sqfstar.

merger NOTES ENTRIES BYTES RATIO FD=DIFF_ID...    the layers from the top one down; diff_id or "-"
It opens no file and follows no path: whatever a layer holds, it only writes to its outputs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "filter.h"
#include "merge.h"
#include "number.h"

#define AHEAD     3         /* layers that are inflated, each as far as its blocks reach */
#define PIPE_SIZE (1 << 20) /* less waiting on both sides; an unprivileged user's largest */
#define UNNAMED   1000
#define UNRATED   (64 << 20) /* bytes that may come of a few, as of a file of zeros */

struct limits {
    uint64_t entries, bytes, ratio;
};

static struct stream *open_layer(struct merge *merge, const char *word)
{
    char *end = NULL;
    long fd = strtol(word, &end, 10);
    struct stream *stream = NULL;

    if (fd > STDERR_FILENO && *end == '=' && fcntl((int)fd, F_GETFD) >= 0)
        stream = stream_open((int)fd, end + 1);
    if (stream == NULL)
        (void)merge_fault(merge, FAILED, "the layer %s could not be opened", word);
    return stream;
}

static bool is_within(struct merge *merge, const struct limits *limits, uint64_t more)
{
    uint64_t unpacked = stream_unpacked(merge->archive.stream);
    uint64_t packed = stream_packed(merge->archive.stream);

    /* Paths may name directories that no entry is of; a few of them are in honest images. */
    if (merge->entries > limits->entries || merge->tree.count / 4 > limits->entries + UNNAMED)
        return merge_fault(merge, LIMITED, "entries");
    if (merge->bytes + unpacked > limits->bytes || more > limits->bytes - merge->bytes - unpacked)
        return merge_fault(merge, LIMITED, "unpacked_bytes");
    if (unpacked > UNRATED && unpacked / limits->ratio > packed)
        return merge_fault(merge, LIMITED, "ratio");
    return true;
}

static bool read_layer(struct merge *merge, const struct limits *limits)
{
    const unsigned char *bytes = NULL;
    ssize_t count;
    int found;

    merge->ordinal = 0;
    while ((found = archive_next(&merge->archive, &merge->member)) == 1) {
        merge->entries++;
        if (!is_within(merge, limits, merge->member.size) || !merge_entry(merge))
            return false;
        if (merge->member.is_sparse)
            merge->bytes += merge->member.size;
    }
    if (found < 0 && strcmp(merge->archive.fault, NO_MEMORY) == 0)
        return merge_fault(merge, LIMITED, "memory");
    if (found < 0)
        return merge_fault(merge, CORRUPT, "%s", merge->archive.fault);
    while ((count = stream_peek(merge->archive.stream, &bytes)) > 0) {
        stream_take(merge->archive.stream, (size_t)count);
        if (!is_within(merge, limits, 0))
            return false;
    }
    merge->bytes += stream_unpacked(merge->archive.stream);
    if (!stream_finish(merge->archive.stream))
        return merge_fault(merge, CORRUPT, "%s", stream_fault(merge->archive.stream));
    return true;
}

static bool read_layers(struct merge *merge, const struct limits *limits, char **words, int count)
{
    struct stream *ahead[AHEAD] = {NULL};
    int opened = 0;

    for (merge->layer = 0; merge->layer < count; merge->layer++) {
        for (; opened < count && opened < merge->layer + AHEAD; opened++)
            if ((ahead[opened % AHEAD] = open_layer(merge, words[opened])) == NULL)
                return false;
        merge->archive = (struct archive){.stream = ahead[merge->layer % AHEAD]};
        if (!read_layer(merge, limits))
            return false;
        free(merge->archive.stream);
    }
    return merge_end(merge);
}

/* From here on descriptors that are open are all that there is, whatever the layers make of us. */
static void give_up_rights(void)
{
    (void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
#if !defined(__SANITIZE_ADDRESS__)
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)filter_allow_few();
#endif
}

int main(int argc, char **argv)
{
    static struct merge merge;
    struct limits limits;
    uint64_t notes = 0;

    give_up_rights();
    (void)signal(SIGPIPE, SIG_IGN);
    (void)fcntl(STDOUT_FILENO, F_SETPIPE_SZ, PIPE_SIZE);
    if (argc < 6 || !parse_number(argv[1], &notes) || !parse_number(argv[2], &limits.entries) ||
        !parse_number(argv[3], &limits.bytes) || !parse_number(argv[4], &limits.ratio) ||
        limits.ratio == 0 || notes > INT32_MAX || !tree_open(&merge.tree)) {
        (void)fprintf(stderr, "hpcimg: merger: wrong arguments\n");
        return FAILED;
    }
    if (!notes_read(&merge, (int)notes) || !read_layers(&merge, &limits, argv + 5, argc - 5)) {
        (void)fprintf(stderr, "%d %s\n", merge.layer, merge.reason);
        return (int)merge.result;
    }
    return (int)merge.result;
}
