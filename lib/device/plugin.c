/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins: found, loaded, and asked whether they fit.
 *
 * A plugin is looked for in four folders, and the first that has a file of its name
 * decides: one that can't be loaded is a refusal, never a reason to look further. A
 * file that was named in the place of a folder is the plugin, or a refusal. A loaded
 * plugin is never unloaded, so the dynamic loader itself remembers what has been
 * loaded by which path. */
#include "device/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/context.h"
#include "core/error.h"
#include "core/fpmode.h"
#include "device/elf.h"

#define ENTRY     "vgg_engine_entry"
#define NAME_SIZE 64 /* bytes of a plugin's file name */

/* One plugin's entry at a time: it may set up what all its devices share. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- Where it may lie ------------------------------------------------------------ */

typedef char folder_name[VGG_FOLDER_SIZE];

struct search {
    char file[NAME_SIZE]; /* vgg-NAME.so */
    folder_name folders[4];
    uint32_t count;
};

/* The folder of the context's options. */
static vgg_status chosen_folder(vgg_context *ctx, folder_name out)
{
    const char *chosen = vgg__context_options(ctx)->plugin_dir;
    if (chosen != NULL) snprintf(out, VGG_FOLDER_SIZE, "%s", chosen);
    return VGG_OK;
}

/* The environment's; a program that runs with other rights than its caller's has
 * none. */
static vgg_status environment_folder(vgg_context *ctx, folder_name out)
{
    const char *value = secure_getenv("VGG_PLUGIN_DIR");
    if (value == NULL) return VGG_OK;
    if (strlen(value) >= VGG_FOLDER_SIZE)
        return vgg__fail(VGG_EDEVICE, "VGG_PLUGIN_DIR: longer than %d bytes",
                         VGG_FOLDER_SIZE - 1);
    memcpy(out, value, strlen(value) + 1);
    return VGG_OK;
}

/* vgg/ beside the shared library, so that an installed tree can be moved. A library
 * that is part of the program, or was loaded by a path that only meant something in the
 * folder of then, has no such place. */
static vgg_status own_folder(vgg_context *ctx, folder_name out)
{
    static const char anchor;
    Dl_info info;
    struct link_map *map = NULL;
    if (dladdr1(&anchor, &info, (void **)&map, RTLD_DL_LINKMAP) == 0 || map == NULL)
        return VGG_OK;
    const char *slash = map->l_name[0] == '/' ? strrchr(map->l_name, '/') : NULL;
    if (slash == NULL) return VGG_OK;
    const int length = (int)(slash - map->l_name);
    if (snprintf(out, VGG_FOLDER_SIZE, "%.*s/vgg", length, map->l_name) >=
        VGG_FOLDER_SIZE)
        out[0] = '\0';
    return VGG_OK;
}

static vgg_status installed_folder(vgg_context *ctx, folder_name out)
{
    snprintf(out, VGG_FOLDER_SIZE, "%s", VGG_PLUGIN_INSTALL_DIR);
    return VGG_OK;
}

static void add_folder(struct search *search, const folder_name folder)
{
    if (folder[0] == '\0') return;
    for (uint32_t i = 0; i < search->count; i++)
        if (strcmp(search->folders[i], folder) == 0) return;
    memcpy(search->folders[search->count++], folder, VGG_FOLDER_SIZE);
}

static vgg_status list_folders(vgg_context *ctx, struct search *search)
{
    static vgg_status (*const sources[])(vgg_context *, folder_name) = {
        chosen_folder, environment_folder, own_folder, installed_folder};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        folder_name folder = "";
        VGG_TRY(sources[i](ctx, folder));
        add_folder(search, folder);
    }
    return VGG_OK;
}

/* Nowhere a file: a short text, since most machines have no such plugin. */
static vgg_status not_installed(const struct search *search, const char *name)
{
    char where[VGG_ERROR_SIZE] = "";
    size_t length = 0;
    for (uint32_t i = 0; i < search->count && length < sizeof where; i++)
        length += (size_t)snprintf(where + length, sizeof where - length, "%s%s",
                                   i == 0                  ? ""
                                   : i + 1 < search->count ? ", "
                                                           : " or ",
                                   search->folders[i]);
    return vgg__fail(
        VGG_EDEVICE,
        "not installed: a build with -D%s=enabled makes %s, expected in %s", name,
        search->file, where);
}

/* What lies at a path: a reason why that can't be known is a refusal. */
enum { NOTHING, FOLDER, OTHER };

static vgg_status look_at(const char *path, int *what)
{
    struct stat info;
    if (stat(path, &info) == 0)
        *what = S_ISDIR(info.st_mode) ? FOLDER : OTHER;
    else if (errno == ENOENT || errno == ENOTDIR)
        *what = NOTHING;
    else
        return vgg__fail_errno(VGG_EDEVICE, errno, "%s", path);
    return VGG_OK;
}

/* A file in the place of a folder must be the plugin itself. What the dynamic loader
 * gets always has a slash: without one it would look elsewhere. */
static vgg_status take_file(const char *named, const char *file, char *path)
{
    const char *slash = strrchr(named, '/');
    if (strcmp(slash != NULL ? slash + 1 : named, file) != 0)
        return vgg__fail(VGG_EDEVICE,
                         "%s: expected the folder of %s or that file, found another "
                         "file",
                         named, file);
    snprintf(path, VGG_FOLDER_SIZE + NAME_SIZE, "%s%s", slash != NULL ? "" : "./",
             named);
    return VGG_OK;
}

/* The path of the plugin's file, in the first folder that has one. */
static vgg_status find(vgg_context *ctx, const char *name, bool *installed,
                       char path[VGG_FOLDER_SIZE + NAME_SIZE])
{
    struct search search = {.count = 0};
    snprintf(search.file, sizeof search.file, "vgg-%.40s.so", name);
    *installed = true; /* so that a refusal is told */
    VGG_TRY(list_folders(ctx, &search));
    for (uint32_t i = 0; i < search.count; i++) {
        const char *folder = search.folders[i];
        int what;
        snprintf(path, VGG_FOLDER_SIZE + NAME_SIZE, "%s/%s", folder, search.file);
        VGG_TRY(look_at(path, &what));
        if (what != NOTHING) return VGG_OK;
        VGG_TRY(look_at(folder, &what));
        if (what == OTHER) return take_file(folder, search.file, path);
    }
    *installed = false;
    return not_installed(&search, name);
}

/* ---- Does it fit? ---------------------------------------------------------------- */

typedef void (*function)(void);

#define MEMBER(name)                                                                   \
    {                                                                                  \
#name, offsetof(vgg_engine, name)                                              \
    }

/* What every engine has; the two functions about data are together or not at all. */
static const struct {
    const char *name;
    size_t offset;
} members[] = {
    MEMBER(probe),
    MEMBER(open),
    MEMBER(close),
    MEMBER(device_text),
    MEMBER(store_create),
    MEMBER(store_free),
    MEMBER(store_gradients),
    MEMBER(store_read),
    MEMBER(store_write),
    MEMBER(store_zero_gradients),
    MEMBER(store_gradient_norm2),
    MEMBER(store_scale_gradients),
    MEMBER(store_update),
    MEMBER(supports),
    MEMBER(measure),
    MEMBER(compile),
    MEMBER(program_free),
    MEMBER(run),
    MEMBER(read),
    MEMBER(describe),
};

static vgg_status check_table(const char *path, const char *name,
                              const vgg_engine *engine)
{
    if (engine->abi != VGG_ENGINE_ABI || engine->size != sizeof *engine)
        return vgg__fail(VGG_EDEVICE,
                         "%s: made for version %u of the engine contract (%u bytes), "
                         "this library has version %d (%zu bytes): install the two of "
                         "one build",
                         path, engine->abi, engine->size, VGG_ENGINE_ABI,
                         sizeof *engine);
    if (engine->name == NULL || strcmp(engine->name, name) != 0)
        return vgg__fail(VGG_EDEVICE, "%s: expected the engine %s, found %.40s", path,
                         name, engine->name != NULL ? engine->name : "no name");
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        function member;
        memcpy(&member, (const char *)engine + members[i].offset, sizeof member);
        if (member == NULL)
            return vgg__fail(VGG_EDEVICE, "%s: the engine has no function %s", path,
                             members[i].name);
    }
    if ((engine->data_create == NULL) != (engine->data_free == NULL))
        return vgg__fail(VGG_EDEVICE,
                         "%s: the engine has one of data_create and data_free", path);
    return VGG_OK;
}

/* dlerror()'s line, without the path in front of it. */
static vgg_status not_loadable(const char *path)
{
    const char *said = dlerror();
    const size_t length = strlen(path);
    if (said == NULL) said = "the dynamic loader gives no reason";
    if (strncmp(said, path, length) == 0 && strncmp(said + length, ": ", 2) == 0)
        said += length + 2;
    return vgg__fail(VGG_EDEVICE, "%s: can't be loaded: %s", path, said);
}

static vgg_status load(const vgg_host *host, const char *path, const char *name,
                       const vgg_engine **out)
{
    VGG_TRY(vgg__elf_check(path));
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (handle == NULL) return not_loadable(path);
    vgg_engine_entry_fn entry;
    void *symbol = dlsym(handle, ENTRY);
    if (symbol == NULL)
        return vgg__fail(VGG_EDEVICE,
                         "%s: no function " ENTRY ": not a plugin of libvgg", path);
    memcpy(&entry, &symbol, sizeof entry);
    struct vgg__error kept;
    vgg__error_keep(&kept);
    /* The entry may set a reason of its own. */
    vgg__fail(VGG_EDEVICE,
              "does not work with version %d of the engine contract: "
              "install the two of one build",
              VGG_ENGINE_ABI);
    const vgg_engine *engine = entry(host);
    if (engine == NULL) return vgg__fail(VGG_EDEVICE, "%s: %s", path, vgg_last_error());
    vgg__error_restore(&kept);
    VGG_TRY(check_table(path, name, engine));
    *out = engine;
    return VGG_OK;
}

vgg_status vgg__plugin_engine(const vgg_host *host, const char *name, bool *installed,
                              const vgg_engine **out)
{
    char path[VGG_FOLDER_SIZE + NAME_SIZE];
    *out = NULL;
    *installed = false;
    VGG_TRY(find(host->ctx, name, installed, path));
    const uint64_t mode = vgg__fpmode_enter(); /* what is loaded may change it */
    pthread_mutex_lock(&lock);
    const vgg_status status = load(host, path, name, out);
    pthread_mutex_unlock(&lock);
    vgg__fpmode_leave(mode);
    return status;
}
