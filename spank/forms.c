/* See forms.h. */
#define _GNU_SOURCE
#include "forms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYOUT "oci:"

static bool begins_like_path(const char *value)
{
    return value[0] == '/' || strncmp(value, "./", 2) == 0 || strncmp(value, "../", 3) == 0 ||
           strncmp(value, "~/", 2) == 0 || strcmp(value, ".") == 0 || strcmp(value, "..") == 0 ||
           strcmp(value, "~") == 0;
}

bool ends_like_image(const char *value)
{
    static const char *const suffixes[] = {".sif", ".sqsh", ".squashfs", ".img"};
    const char *suffix = strrchr(value, '.');

    for (size_t i = 0; suffix != NULL && i < sizeof(suffixes) / sizeof(*suffixes); i++)
        if (strcmp(suffix, suffixes[i]) == 0)
            return true;
    return false;
}

/* A registry may be called `oci` and have a port, and an image of that name a tag. */
static bool is_layout(const char *value)
{
    size_t digits;

    if (strncmp(value, LAYOUT, strlen(LAYOUT)) != 0)
        return false;
    value += strlen(LAYOUT);
    digits = strspn(value, "0123456789");
    if (digits > 0 && digits <= 5 && value[digits] == '/')
        return false;
    return strpbrk(value, ":/") != NULL || strcmp(value, ".") == 0 || strcmp(value, "..") == 0;
}

bool is_local_image(const char *value)
{
    return begins_like_path(value) || is_layout(value) ||
           (ends_like_image(value) && strpbrk(value, ":@#") == NULL);
}

bool is_good_path(const char *value)
{
    for (const char *c = value; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return false;
    return strlen(value) < FORM_SIZE;
}

bool make_absolute(const char *value, const char *directory, char text[FORM_SIZE])
{
    const char *scheme = is_layout(value) ? LAYOUT : "", *home = getenv("HOME"), *path;
    int length;

    path = value + strlen(scheme);
    if (path[0] == '~' && (path[1] == '/' || path[1] == '\0') && home != NULL)
        length = snprintf(text, FORM_SIZE, "%s%s%s", scheme, home, path + 1);
    else if (path[0] == '/')
        length = snprintf(text, FORM_SIZE, "%s%s", scheme, path);
    else {
        if (strncmp(path, "./", 2) == 0)
            path += 2;
        length = snprintf(text, FORM_SIZE, "%s%s/%s", scheme, directory, path);
    }
    return length < FORM_SIZE;
}

const char *advise_scheme(const char *value)
{
    static const char pull[] = "fetch it once with apptainer pull FILE.sif NAME, and name the file";
    static const char turn[] = "turn it into a layout with skopeo copy to oci:DIRECTORY, and name "
                               "that, or push it to a registry";
    static const struct {
        const char *word, *advice;
    } known[] = {
        {"library://", pull},
        {"shub://", pull},
        {"oras://", pull},
        {"dockerd://", turn},
        {"podman://", turn},
        {"docker-daemon:", turn},
        {"docker-archive:", turn},
        {"oci-archive:", turn},
        {"containers-storage:", turn},
        {"file://", "write the path alone"},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (strncmp(value, known[i].word, strlen(known[i].word)) == 0)
            return known[i].advice;
    if (strstr(value, "://") != NULL && strncmp(value, "docker://", 9) != 0)
        return "write docker://NAME, a name alone, or the path of a file";
    return NULL;
}
