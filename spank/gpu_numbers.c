/* See gpu_numbers.h. */
#define _GNU_SOURCE
#include "gpu_numbers.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_SIZE 256

/* The place of a number of this length in a list, or -1. */
static int place_of(const char *order, const char *number, size_t length)
{
    for (int place = 0;; place++) {
        size_t next = strcspn(order, ",");
        if (next == length && strncmp(order, number, length) == 0)
            return place;
        if (order[next] == '\0')
            return -1;
        order += next + 1;
    }
}

static bool rewrite(const char *order, const char *numbers, char *text, size_t size)
{
    int used = 0;

    for (;;) {
        size_t length = strcspn(numbers, ",");
        int place = place_of(order, numbers, length);
        if (place < 0 || used >= (int)size)
            return false;
        used += snprintf(text + used, size - (size_t)used, "%s%d", used > 0 ? "," : "", place);
        if (numbers[length] == '\0')
            return used < (int)size;
        numbers += length + 1;
    }
}

void renumber_gpus(const char *order)
{
    static const char *const names[] = {"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
                                        "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
                                        "ZE_AFFINITY_MASK"};
    char text[LIST_SIZE];

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        const char *numbers = getenv(names[i]);
        if (numbers != NULL && rewrite(order, numbers, text, sizeof(text)))
            (void)setenv(names[i], text, 1);
    }
}
