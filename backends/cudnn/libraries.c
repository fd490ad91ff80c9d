/* SPDX-License-Identifier: Apache-2.0 */
/* Where a library is looked for, by which of its names, and what is said of one that is
 * missing, broken or too old; see libraries.h. */
#include "cudnn/libraries.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATTERN (PATH_MAX + 128)
#define WHEELS  "/lib/python3*/site-packages/nvidia/*/lib"

#define INSTALL "NVIDIA's CUDA packages, or pip install"

/* ---- Places ---------------------------------------------------------------------- */

/* A pattern of folders: what a variable of the environment says, and what follows. */
struct place {
    const char *variable; /* NULL: `folder` is all; "PATH": where its python3 is */
    const char *folder;
};

/* What comes before the loader's own places, and what after them, in this order. */
static const struct place named = {"VGG_CUDA_LIBRARIES", ""};
static const struct place others[] = {
    {"CUDA_HOME", "/lib64"},
    {"CUDA_HOME", "/lib"},
    {"CUDA_PATH", "/lib64"},
    {"CUDA_PATH", "/lib"},
    {"VIRTUAL_ENV", WHEELS},
    {"PATH", "/.." WHEELS},
    {NULL, "/usr/local/cuda/lib64"},
    {NULL, "/usr/local/cuda/lib"},
    {"HOME", "/.local" WHEELS},
    {NULL, "/usr/local/lib/python3*/dist-packages/nvidia/*/lib"},
    {NULL, "/usr/lib/python3*/dist-packages/nvidia/*/lib"},
};

/* The folder of the python3 that a shell would run: a virtual environment's own, not
 * that of the program which its link names. */
static bool find_python(const char *path, char folder[PATH_MAX])
{
    while (*path != '\0') {
        const int length = (int)strcspn(path, ":");
        char program[PATH_MAX + 16];
        snprintf(folder, PATH_MAX, "%.*s", length, path);
        snprintf(program, sizeof program, "%s/python3", folder);
        if (length > 0 && access(program, X_OK) == 0) return true;
        path += length + (path[length] == ':');
    }
    return false;
}

/* Whether there is such a place at all. */
static bool describe(const struct place *place, char pattern[PATTERN])
{
    char python[PATH_MAX];
    const char *before = "";
    if (place->variable != NULL) {
        before = secure_getenv(place->variable);
        if (before == NULL || before[0] == '\0') return false;
        if (strcmp(place->variable, "PATH") == 0) {
            if (!find_python(before, python)) return false;
            before = python;
        }
    }
    return snprintf(pattern, PATTERN, "%s%s", before, place->folder) < PATTERN;
}

/* ---- Opening --------------------------------------------------------------------- */

struct search {
    const struct vgg__library *library;
    void *handle;
    char why[256]; /* the loader's words about the first file that can't be loaded */
};

/* The loader's words begin with the name itself only where it found no file of a name
 * without a folder; otherwise with a file's whole path or what the file needs. */
static void open_file(struct search *s, const char *name, const char *soname)
{
    s->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    const char *why = s->handle == NULL ? dlerror() : NULL;
    const size_t length = strlen(soname);
    if (why == NULL || s->why[0] != '\0') return;
    if (name == soname && strncmp(why, soname, length) == 0 && why[length] == ':')
        return;
    if (strstr(why, soname) != NULL)
        snprintf(s->why, sizeof s->why, "%s", why);
    else
        snprintf(s->why, sizeof s->why, "%s: %s", name, why);
}

static void open_in(struct search *s, const struct place *place, const char *soname)
{
    char pattern[PATTERN], name[PATTERN + 64];
    glob_t found;
    if (s->handle != NULL || !describe(place, pattern)) return;
    snprintf(name, sizeof name, "%s/%s", pattern, soname);
    if (glob(name, 0, NULL, &found) == 0)
        for (size_t i = 0; s->handle == NULL && i < found.gl_pathc; i++)
            open_file(s, found.gl_pathv[i], soname);
    globfree(&found);
}

/* A file of the folder that was named and can't be loaded ends the search: nobody who
 * names one wants another. Elsewhere it goes on. */
static void search(struct search *s)
{
    const char *const *sonames = s->library->sonames;
    for (int k = 0; k < 2 && sonames[k] != NULL; k++) open_in(s, &named, sonames[k]);
    if (s->why[0] != '\0') return;
    for (int k = 0; s->handle == NULL && k < 2 && sonames[k] != NULL; k++) {
        open_file(s, sonames[k], sonames[k]);
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            open_in(s, &others[i], sonames[k]);
    }
}

static const char *path_of(void *handle)
{
    struct link_map *map = NULL;
    return dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 ? map->l_name : "?";
}

static bool new_enough(const struct vgg__library *library, void *handle, char *reason,
                       size_t size)
{
    size_t (*tell)(void) = NULL;
    void *function = library->version != NULL ? dlsym(handle, library->version) : NULL;
    if (function == NULL) return true; /* where it should be there, symbols lack it */
    memcpy(&tell, &function, sizeof tell);
    const size_t found = tell(), least = library->least;
    if (found >= least) return true;
    snprintf(reason, size,
             "%s is too old: %.160s is %zu.%zu.%zu, expected %zu.%zu or newer: install "
             "that (" INSTALL " -U %s) or name its folder in VGG_CUDA_LIBRARIES",
             library->title, path_of(handle), found / 10000, found / 100 % 100,
             found % 100, least / 10000, least / 100 % 100, library->package);
    return false;
}

static bool load_symbols(const struct vgg__library *library, void *handle, char *reason,
                         size_t size)
{
    for (size_t i = 0; i < library->symbol_count; i++) {
        const struct vgg__symbol *symbol = &library->symbols[i];
        void *function = dlsym(handle, symbol->name);
        if (function != NULL) {
            memcpy(symbol->place, &function, sizeof function);
            continue;
        }
        snprintf(reason, size,
                 "%s is too old: %.160s has no %s: install a newer one (" INSTALL
                 " -U %s) or name its folder in VGG_CUDA_LIBRARIES",
                 library->title, path_of(handle), symbol->name, library->package);
        return false;
    }
    return true;
}

void *vgg__library_open(const struct vgg__library *library, char *reason, size_t size)
{
    const char *const other = library->sonames[1];
    struct search s = {.library = library};
    search(&s);
    reason[0] = '\0';
    if (s.handle == NULL && s.why[0] != '\0')
        snprintf(reason, size,
                 "%s can't be loaded: %s: install it again (" INSTALL
                 " %s) or name a folder with another in VGG_CUDA_LIBRARIES",
                 library->title, s.why, library->package);
    else if (s.handle == NULL)
        snprintf(reason, size,
                 "%s (%s%s%s) was not found: install it (" INSTALL
                 " %s) or name its folder in VGG_CUDA_LIBRARIES",
                 library->title, library->sonames[0], other != NULL ? " or " : "",
                 other != NULL ? other : "", library->package);
    else if (new_enough(library, s.handle, reason, size) &&
             load_symbols(library, s.handle, reason, size))
        return s.handle;
    return NULL;
}
