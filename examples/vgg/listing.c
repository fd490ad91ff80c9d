/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of names, and what is in a folder. */
#include "listing.h"
#include "files.h"
#include "picture.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool names_add(struct names *names, const char *name)
{
    if (names->count == names->room) {
        const size_t room = names->room ? 2 * names->room : 64;
        char **const more = realloc(names->at, room * sizeof *more);
        if (!more) return false;
        names->at = more;
        names->room = room;
    }
    char *const copy = strdup(name);
    if (!copy) return false;
    names->at[names->count++] = copy;
    return true;
}

bool names_add_lines(struct names *names, const char *text)
{
    while (*text) {
        const size_t length = strcspn(text, "\n");
        char *const line = strndup(text, length);
        const bool good = line && names_add(names, line);
        free(line);
        if (!good) return false;
        text += length + (text[length] == '\n');
    }
    return true;
}

void names_free(struct names *names)
{
    for (size_t i = 0; i < names->count; i++) free(names->at[i]);
    free(names->at);
    *names = (struct names){NULL, 0, 0};
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What readdir() tells, or where it does not know, or it is a link, the file itself. */
static bool is_a_folder(const char *dir, const struct dirent *entry)
{
    char path[4096];
    if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK)
        return entry->d_type == DT_DIR;
    return path_join(path, sizeof path, dir, entry->d_name) && is_folder(path);
}

static int list(const char *dir, bool folders, struct names *out, uint64_t *others)
{
    const struct dirent *entry;
    bool kept = true;
    DIR *const stream = opendir(dir);
    if (!stream) return fail("can't read the folder %s: %s", dir, strerror(errno));
    errno = 0;
    while (kept && (entry = readdir(stream))) {
        const char *const name = entry->d_name;
        const bool wanted = name[0] != '.' && (folders || picture_named(name)) &&
                            is_a_folder(dir, entry) == folders;
        if (wanted) kept = names_add(out, name);
        *others += !wanted && name[0] != '.';
        if (kept) errno = 0; /* which readdir() sets where it fails */
    }
    const int reason = errno;
    closedir(stream);
    if (!kept || reason)
        return fail("can't read the folder %s: %s", dir,
                    kept ? strerror(reason) : "out of memory");
    if (out->count) qsort(out->at, out->count, sizeof *out->at, by_bytes);
    return 0;
}

int list_folders(const char *dir, struct names *out, uint64_t *others)
{
    return list(dir, true, out, others);
}

int list_pictures(const char *dir, struct names *out, uint64_t *others)
{
    return list(dir, false, out, others);
}
