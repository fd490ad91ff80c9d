/* SPDX-License-Identifier: Apache-2.0 */
/* The entries of a folder of known files: see entries.h. */
#include "io/entries.h"

#include "io/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static bool is_known(const struct vgg__names *known, const char *name)
{
    for (uint32_t i = 0; i < known->count; i++)
        if (strcmp(name, known->names[i]) == 0) return true;
    return false;
}

int vgg__entries_check(const struct vgg__names *known, int fd, bool *whole,
                       char foreign[VGG_FILE_NAME_SIZE])
{
    *whole = false;
    foreign[0] = '\0';
    DIR *entries = fdopendir(fd);
    if (entries == NULL) {
        const int why = errno;
        vgg__os->close(fd);
        return why;
    }
    bool first = false, any = false;
    const struct dirent *e;
    while (foreign[0] == '\0' && (errno = 0, e = readdir(entries)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        any = true;
        if (!is_known(known, e->d_name))
            snprintf(foreign, VGG_FILE_NAME_SIZE, "%s", e->d_name);
        else if (strcmp(e->d_name, known->names[0]) == 0)
            first = true;
    }
    const int why = foreign[0] == '\0' ? errno : 0;
    closedir(entries);
    *whole = why == 0 && foreign[0] == '\0' && (first || !any);
    return why;
}

bool vgg__entries_remove(const struct vgg__names *known, int parent, const char *name)
{
    const int fd =
        vgg__openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0) return false;
    vgg__os->fchmod(fd, 0700); /* it may be a folder in which nothing can be removed */
    for (uint32_t i = known->count; i > 0; i--)
        vgg__os->unlinkat(fd, known->names[i - 1], 0);
    vgg__os->close(fd);
    return vgg__os->unlinkat(parent, name, AT_REMOVEDIR) == 0;
}
