/* `hpcimg pin`: the one question that is asked when a batch job is submitted. */
#ifndef HPCIMG_PIN_H
#define HPCIMG_PIN_H

#include <stdbool.h>
#include <stddef.h>

/* Ask with `python` what the tag of `image` stands for, as the user who submits: its name and
 * digest. False when there is nothing to pin; why it failed is said in one line. */
bool pin_name(const char *python, const char *image, char *pinned, size_t size);

#endif
