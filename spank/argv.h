/* The words of a command line, as many as there come to be. */
#ifndef HPCIMG_ARGV_H
#define HPCIMG_ARGV_H

#include <stdbool.h>
#include <stddef.h>

struct argv {
    char **words; /* ends with NULL */
    size_t count;
    bool is_short; /* there was no memory for all of them */
};

/* Add copies of some words; the last argument is NULL. */
void add_words(struct argv *argv, ...) __attribute__((sentinel));

/* Add one word, made as printf does it. */
void add_word(struct argv *argv, const char *format, ...) __attribute__((format(printf, 2, 3)));

void free_words(struct argv *argv);

#endif
