/* The forms of an image that no registry has: a path, or `oci:DIRECTORY[:TAG]`. The same rules are
 * in hpcimg/oci/local_name.py. */
#ifndef HPCIMG_FORMS_H
#define HPCIMG_FORMS_H

#include <stdbool.h>
#include <stddef.h>

#define FORM_SIZE 4352 /* of a path with `oci:` and a tag */

/* Whether a value can mean only that; a registry's name has a tag or no such ending. */
bool is_local_image(const char *value);

/* Whether it is called as the file of an image is. */
bool ends_like_image(const char *value);

/* Whether one may travel: not too long, and without a control character. */
bool is_good_path(const char *value);

/* Make its path absolute, from `directory` or from the home; false where it is too long. */
bool make_absolute(const char *value, const char *directory, char text[FORM_SIZE]);

/* What to do with a name that begins with another tool's word, or NULL. */
const char *advise_scheme(const char *value);

#endif
