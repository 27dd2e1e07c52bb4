/* A number of a command line. */
#ifndef HPCIMG_NUMBER_H
#define HPCIMG_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* Digits alone, as far as 64 bits go; anything else is none. */
bool parse_number(const char *text, uint64_t *value);

#endif
