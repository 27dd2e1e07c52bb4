/* See argv.h. */
#define _GNU_SOURCE
#include "argv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void take(struct argv *argv, char *word)
{
    char **words = reallocarray(argv->words, argv->count + 2, sizeof(*words));

    if (words == NULL || word == NULL) {
        argv->is_short = true;
        free(word);
    } else {
        words[argv->count++] = word;
        words[argv->count] = NULL;
    }
    if (words != NULL)
        argv->words = words;
}

void add_words(struct argv *argv, ...)
{
    va_list list;

    va_start(list, argv);
    for (const char *word; (word = va_arg(list, const char *)) != NULL;)
        take(argv, strdup(word));
    va_end(list);
}

void add_word(struct argv *argv, const char *format, ...)
{
    char *word = NULL;
    va_list list;

    va_start(list, format);
    if (vasprintf(&word, format, list) < 0)
        word = NULL;
    va_end(list);
    take(argv, word);
}

void free_words(struct argv *argv)
{
    for (size_t i = 0; i < argv->count; i++)
        free(argv->words[i]);
    free(argv->words);
    *argv = (struct argv){.words = NULL};
}
