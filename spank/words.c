/* See words.h. */
#define _GNU_SOURCE
#include "words.h"

#include "binds.h"
#include "common.h"
#include "forms.h"
#include "names.h"
#include "save.h"

#include <ctype.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS  "0123456789"

bool is_image_name(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= NAME_LENGTH &&
           strspn(name, LETTERS DIGITS "._-:/@#[]") == length;
}

/* The first of a list's items that is not as `is_good` wants it, or NULL; "" stands for an item
 * that is not there. */
static const char *find_in_list(const char *list, bool (*is_good)(const char *item))
{
    static char copy[VALUE_SIZE];
    char *rest = copy;

    if (strlen(list) >= sizeof(copy))
        return list;
    (void)strcpy(copy, list);
    for (char *item = strsep(&rest, ","); item != NULL; item = strsep(&rest, ","))
        if (!is_good(item))
            return item;
    return NULL;
}

static bool is_one_of(const char *value, const char *const *known)
{
    for (; *known != NULL; known++)
        if (strcmp(value, *known) == 0)
            return true;
    return false;
}

static const char *find_wrong_image(const char *value)
{
    bool is_good = is_local_image(value) ? is_good_path(value) : is_image_name(value);

    return is_good && advise_scheme(value) == NULL ? NULL : value;
}

static const char *find_wrong_mounts(const char *value)
{
    static char copy[VALUE_SIZE];
    static struct bind binds[MOST_BINDS];
    const char *wrong;

    if (strlen(value) >= sizeof(copy))
        return value;
    (void)strcpy(copy, value);
    (void)parse_binds(copy, binds, MOST_BINDS, &wrong);
    return wrong;
}

static const char *find_wrong_directory(const char *value)
{
    return value[0] == '/' && strlen(value) < PATH_MAX && strpbrk(value, "\n\t") == NULL ? NULL
                                                                                         : value;
}

static const char *find_wrong_switch(const char *value)
{
    static const char *const known[] = {"yes", "no", NULL};

    return is_one_of(value, known) ? NULL : value;
}

static bool is_variable(const char *name)
{
    return name[0] != '\0' && strchr(DIGITS, name[0]) == NULL &&
           strspn(name, LETTERS DIGITS "_") == strlen(name);
}

static const char *find_wrong_variables(const char *value)
{
    return find_in_list(value, is_variable);
}

static bool is_namespace(const char *name)
{
    static const char *const known[] = {"net", "ipc", "uts", NULL};

    return is_one_of(name, known);
}

static const char *find_wrong_namespaces(const char *value)
{
    return find_in_list(value, is_namespace);
}

static const char *find_wrong_match(const char *value)
{
    static const char *const known[] = {"per-node", "uniform", "uniform-or-fail", NULL};

    return is_one_of(value, known) ? NULL : value;
}

static const char *find_wrong_pull(const char *value)
{
    static const char *const known[] = {"missing", "newer", "always", NULL};

    return is_one_of(value, known) ? NULL : value;
}

/* What the words mean is read on the node. */
static const char *find_wrong_platform(const char *value)
{
    size_t length = strlen(value);

    return isalpha((unsigned char)value[0]) && length < 160 && strchr(value, '/') != NULL &&
                   strspn(value, LETTERS DIGITS "._+:/-") == length
               ? NULL
               : value;
}

#define WORD(name)     .variable = "SLURM_HPCIMG_" name, .carried = "SLURM_SPANK_HPCIMG_" name
#define OWN_WORD(name) .variable = "SLURM_HPCIMG_" name
#define SWITCH         .find_wrong = find_wrong_switch, .form = "yes or no", .hint = "write yes or no"

const struct wording words[WORDS] = {
    [IMAGE] = {WORD("IMAGE"), .find_wrong = find_wrong_image, .form = "image name",
               .hint = "write [REGISTRY/]REPOSITORY[:TAG][@DIGEST], or the path of a file"},
    [MOUNTS] = {WORD("MOUNTS"), .is_list = true, .find_wrong = find_wrong_mounts,
                .form = "mount that can be made",
                .hint = "write SOURCE:DESTINATION[:FLAG+FLAG], several with commas between"},
    [WORKDIR] = {WORD("WORKDIR"), .find_wrong = find_wrong_directory,
                 .form = "directory of a container", .hint = "write a path that begins with /"},
    [NAME] = {OWN_WORD("NAME"), .find_wrong = find_wrong_name, .form = NAME_FORM,
              .hint = NAME_HINT},
    [SAVE] = {OWN_WORD("SAVE"), .find_wrong = find_wrong_save, .form = SAVE_FORM,
              .hint = SAVE_HINT},
    [HOME] = {WORD("HOME"), SWITCH},
    [ROOT] = {WORD("ROOT"), SWITCH},
    [ENTRYPOINT] = {WORD("ENTRYPOINT"), SWITCH},
    [ENTRYPOINT_LOG] = {OWN_WORD("ENTRYPOINT_LOG"), SWITCH},
    [WRITABLE] = {WORD("WRITABLE"), SWITCH},
    [ENV] = {WORD("ENV"), .is_list = true, .find_wrong = find_wrong_variables,
             .form = "name of a variable", .hint = "write names with commas between, no values"},
    [UNSHARE] = {WORD("UNSHARE"), .is_list = true, .find_wrong = find_wrong_namespaces,
                 .form = "namespace that a container may have of its own",
                 .hint = "write net, ipc or uts, several with commas between"},
    [MATCH] = {WORD("MATCH"), .find_wrong = find_wrong_match,
               .form = "way to match the nodes of a job",
               .hint = "write per-node, uniform or uniform-or-fail"},
    [PULL] = {WORD("PULL"), .find_wrong = find_wrong_pull, .form = "way to pull an image",
              .hint = "write missing, newer or always"},
    [PLATFORM] = {WORD("PLATFORM"), .find_wrong = find_wrong_platform, .form = "platform",
                  .hint = "write it as linux/amd64:broadwell:nv-compute-5-2"},
};
