/* text.c - see text.h. */
#include "base/text.h"

#include <stdlib.h>

char *mhi_copy_text(const char *text)
{
    size_t size = text == NULL ? 1 : strlen(text) + 1;
    char *copy = malloc(size);
    return copy == NULL ? NULL : memcpy(copy, text == NULL ? "" : text, size);
}

const char *mhi_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

void mhi_path_directory(const char *absolute, char *directory)
{
    size_t length = (size_t)(strrchr(absolute, '/') - absolute);
    memcpy(directory, absolute, length);
    strcpy(directory + length, length == 0 ? "/" : "");
}
