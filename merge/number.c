/* See number.h. */
#include "number.h"

#include <errno.h>
#include <stdlib.h>

bool parse_number(const char *text, uint64_t *value)
{
    char *end = NULL;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}
