/* How the words of a request are said: options under the site's prefix, and the environment. */
#ifndef HPCIMG_OPTIONS_H
#define HPCIMG_OPTIONS_H

#include "words.h"

#include <slurm/spank.h>
#include <stdbool.h>
#include <stddef.h>

/* Give Slurm an option for each word, under the site's prefix; false when one is not to be had. */
bool register_options(spank_t spank, const char *prefix);

/* What the options of this command, component or step say of a word, NULL where nothing. */
const char *option_value(enum word word);

/* The first word of which two options say different things, and how they were typed. */
bool find_contradiction(enum word *word, char text[256]);

/* Forget what was said: the next component of a heterogeneous command has options of its own. */
void forget_options(void);

/* Any option of a word, as it is typed: `--container-mounts`. */
const char *option_name(enum word word);

/* What the environment says in the options' twins, HPCIMG_CONTAINER_MOUNTS, and where those say
 * nothing PYXIS_CONTAINER_MOUNTS; `name` is that variable's. False where they say nothing. */
bool read_twins(enum word word, char *text, size_t size, char *name, size_t name_size);

/* Take the twins, and what sbatch and salloc leave of their options, out of the environment: what
 * is settled goes on in the words' variables, which these would overrule. */
void clear_twins(void);

/* The option of sbatch or salloc as Slurm leaves it in the job's environment. */
bool read_left_option(spank_t spank, enum word word, char *text, size_t size);

/* On the node: what a step is asked for, NULL where nothing. */
const char *read_word(spank_t spank, enum word number, bool is_batch);

#endif
