/* SPDX-License-Identifier: Apache-2.0 */
/* A data set of folders: finds classes and pictures when it is opened, and reads each
 * picture when its sample is asked for. */
#include "folder.h"
#include "files.h"
#include "kept.h"
#include "listing.h"

#include <stdlib.h>
#include <string.h>

enum { NAMES_MOST = 65535 }; /* bytes of all classes' names in metadata */

/* The cookie of the data set. */
struct folder {
    struct look look;
    char *dir;
    struct names samples; /* CLASS/PICTURE, in the order of their numbers */
    uint32_t *labels;     /* of each */
    size_t room;          /* of labels */
    struct kept *kept;    /* images that have been read */
    uint64_t others;      /* files that are no pictures to this build */
};

static void folder_free(void *cookie)
{
    struct folder *const folder = cookie;
    names_free(&folder->samples);
    kept_close(folder->kept);
    free(folder->labels);
    free(folder->dir);
    free(folder);
}

/* A picture as people know it: SPLIT/CLASS/PICTURE, its end if it is long. */
static void name_sample(const struct folder *folder, uint64_t index, char *out,
                        size_t size)
{
    const char *const slash = strrchr(folder->dir, '/');
    char name[4096];
    path_join(name, sizeof name, slash ? slash + 1 : folder->dir,
              folder->samples.at[index]);
    const size_t length = strlen(name);
    if (length < size) {
        memcpy(out, name, length + 1);
        return;
    }
    memcpy(out, "...", 3);
    memcpy(out + 3, name + length - (size - 4), size - 3);
}

static int read_sample(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    const struct folder *const folder = cookie;
    char path[4096], name[200], why[PICTURE_WHY], reason[sizeof name + sizeof why];
    *label = folder->labels[index];
    if (kept_take(folder->kept, index, image)) return 0;
    name_sample(folder, index, name, sizeof name);
    if (!path_join(path, sizeof path, folder->dir, folder->samples.at[index]))
        snprintf(why, sizeof why, "its path is too long");
    else if (look_at(&folder->look, path, image, why) == 0) {
        kept_give(folder->kept, index, image);
        return 0;
    }
    snprintf(reason, sizeof reason, "%s: %s", name, why);
    return vgg_source_fail(reason);
}

/* ---- Classes --------------------------------------------------------------------- */

static int out_of_memory(const char *dir)
{
    return fail("%s: out of memory for the names of its pictures", dir);
}

/* Can a class be called so? Names go into the weights, a line each. */
static int check_name(const char *dir, const char *name)
{
    for (const char *at = name; *at;) {
        const unsigned length = utf8_length(at);
        if (length == 0 || (unsigned char)*at < ' ' || *at == 0x7f)
            return fail("%s/%s: a class's name is printable UTF-8; call the folder "
                        "otherwise",
                        dir, name);
        at += length;
    }
    return 0;
}

static int check_folders(const char *dir, const struct names *found)
{
    size_t bytes = 0;
    for (size_t i = 0; i < found->count; i++) {
        if (check_name(dir, found->at[i]) != 0) return STATUS_RUN;
        bytes += strlen(found->at[i]) + 1;
    }
    if (bytes > NAMES_MOST)
        return fail("%s: the names of its %s folders take %s bytes, and the weights' "
                    "metadata has room for %s: take shorter names",
                    dir, grouped(found->count), grouped(bytes), grouped(NAMES_MOST));
    if (found->count >= 2) return 0;
    return fail("%s has %s: a folder for each class is expected, named after it, with "
                "its pictures in it",
                dir, found->count ? "one folder alone" : "no folders");
}

/* The number of a class, whose names may stand in any order; SIZE_MAX: none. */
static size_t class_number(const struct names *classes, const char *name)
{
    for (size_t i = 0; i < classes->count; i++)
        if (strcmp(classes->at[i], name) == 0) return i;
    return SIZE_MAX;
}

/* ---- Samples --------------------------------------------------------------------- */

static bool add_sample(struct folder *folder, const char *class, const char *picture,
                       uint32_t label)
{
    char name[2 * TEXT_SIZE];
    if (folder->samples.count == folder->room) {
        const size_t room = folder->room ? 2 * folder->room : 64;
        uint32_t *const more = realloc(folder->labels, room * sizeof *more);
        if (!more) return false;
        folder->labels = more;
        folder->room = room;
    }
    folder->labels[folder->samples.count] = label;
    return path_join(name, sizeof name, class, picture) &&
           names_add(&folder->samples, name);
}

/* The pictures of one class. `must`: there is at least one. */
static int add_class(struct folder *folder, const char *class, uint32_t label,
                     bool must)
{
    char path[4096];
    struct names pictures = {NULL, 0, 0};
    if (!path_join(path, sizeof path, folder->dir, class))
        return fail("%s/%s: the path is too long", folder->dir, class);
    int status = list_pictures(path, &pictures, &folder->others);
    if (status == 0 && must && pictures.count == 0)
        status =
            fail("%s: no pictures in it (%s by their names' ends): put some there, "
                 "or take the folder away",
                 path, picture_kinds());
    for (size_t i = 0; status == 0 && i < pictures.count; i++)
        if (!add_sample(folder, class, pictures.at[i], label))
            status = out_of_memory(folder->dir);
    names_free(&pictures);
    return status;
}

static int unknown_class(const char *dir, const char *name, const struct names *classes)
{
    char near[TEXT_SIZE] = "";
    for (size_t i = 0, length = 0; i < classes->count && length < 160; i++)
        length += (size_t)snprintf(near + length, sizeof near - length, "%s%.64s",
                                   i ? ", " : "", classes->at[i]);
    return fail("%s/%s: training had no class of this name, but %s%s", dir, name, near,
                strlen(near) >= 160 ? "..." : "");
}

/* All samples. `known` are the classes of a network, or there are none. */
static int add_all(struct folder *folder, const struct names *found,
                   const struct names *known)
{
    const bool fixed = known->count > 0;
    int status = 0;
    for (size_t i = 0; status == 0 && i < found->count; i++) {
        const size_t label = fixed ? class_number(known, found->at[i]) : i;
        status = label == SIZE_MAX
                     ? unknown_class(folder->dir, found->at[i], known)
                     : add_class(folder, found->at[i], (uint32_t)label, !fixed);
    }
    if (status != 0 || folder->samples.count > 0) return status;
    return fail("%s: no pictures (%s by their names' ends) in a folder of one of the "
                "classes",
                folder->dir, picture_kinds());
}

/* FNV-1a over all names, each with its final zero. */
static uint64_t hash_names(const struct names *names)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < names->count; i++)
        for (const char *at = names->at[i];; at++) {
            hash = (hash ^ (unsigned char)*at) * 0x100000001b3u;
            if (*at == '\0') break;
        }
    return hash;
}

/* ---- The data set ---------------------------------------------------------------- */

/* Takes the folder over, whatever happens. */
static int make_dataset(struct folder *folder, const struct names *classes,
                        vgg_dataset **out)
{
    const struct look *const look = &folder->look;
    const vgg_source source = {
        .cookie = folder,
        .count = folder->samples.count,
        .channels = look->channels,
        .height = look->height,
        .width = look->width,
        .classes = (uint32_t)classes->count,
        .read = read_sample,
        .close = folder_free,
    };
    if (vgg_dataset_from_source(look->ctx, &source, out) != VGG_OK) {
        folder_free(folder);
        return fail_vgg("data");
    }
    if (vgg_dataset_name_classes(*out, (const char *const *)classes->at) == VGG_OK)
        return 0;
    vgg_dataset_free(*out);
    *out = NULL;
    return fail_vgg("data");
}

int folder_open(const struct look *look, const char *dir, const char *classes,
                struct folder_found *about, vgg_dataset **out)
{
    uint64_t others = 0; /* beside the classes' folders nobody expects pictures */
    struct names found = {NULL, 0, 0}, known = {NULL, 0, 0};
    struct folder *const folder = calloc(1, sizeof *folder);
    char *const copy = strdup(dir);
    *out = NULL;
    if (!folder || !copy) {
        free(folder);
        free(copy);
        return out_of_memory(dir);
    }
    *folder = (struct folder){.look = *look, .dir = copy};
    const bool listed = !classes || names_add_lines(&known, classes);
    int status = listed ? 0 : out_of_memory(dir);
    if (status == 0) status = list_folders(dir, &found, &others);
    if (status == 0 && !classes) status = check_folders(dir, &found);
    if (status == 0) status = add_all(folder, &found, &known);
    if (status == 0) {
        *about = (struct folder_found){hash_names(&folder->samples), folder->others};
        if (look->room)
            folder->kept = kept_open(
                folder->samples.count,
                (size_t)look->channels * look->height * look->width, look->room);
        status = make_dataset(folder, known.count ? &known : &found, out);
    } else {
        folder_free(folder);
    }
    names_free(&found);
    names_free(&known);
    return status;
}
