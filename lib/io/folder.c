/* SPDX-License-Identifier: Apache-2.0 */
/* A folder that appears whole or not at all: see atomic.h.
 *
 * The new folder and the old one exchange their names (renameat2, RENAME_EXCHANGE).
 * Where the file system can't do that, the old one goes to a third name first; a reader
 * that comes in between finds it there, and so does the next save after a kill. Who
 * looks at the place to change it, and who changes it, holds the place's lock. */
#include "io/atomic.h"

#include "core/error.h"
#include "io/entries.h"
#include "io/lock.h"
#include "io/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

/* The entries of the folder at the place: all known, the first name among them, or
 * none. Takes `fd`. */
static vgg_status check_entries(const struct vgg__place *place, int fd)
{
    bool whole;
    char foreign[VGG_FILE_NAME_SIZE];
    const int why = vgg__entries_check(&place->known, fd, &whole, foreign);
    if (why != 0)
        return vgg__fail_errno(VGG_EIO, why, "%s: can't list it", place->shown);
    if (foreign[0] != '\0')
        return vgg__fail(VGG_EMISMATCH,
                         "%s: will not be replaced, \"%s\" in it is someone else's",
                         place->shown, foreign);
    if (!whole)
        return vgg__fail(VGG_EMISMATCH, "%s: will not be replaced, it has no %s",
                         place->shown, place->known.names[0]);
    return VGG_OK;
}

/* *exists: there is an older folder, which may be replaced; its permissions. */
static vgg_status check_place(const struct vgg__place *place, bool *exists,
                              mode_t *mode)
{
    struct stat st;
    *mode = 0;
    *exists = false;
    if (vgg__os->fstatat(place->parent, place->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? VGG_OK : vgg__place_fail(place, "can't look at it");
    if (!S_ISDIR(st.st_mode))
        return vgg__fail(VGG_EMISMATCH, "%s: expected a folder, found %s", place->shown,
                         S_ISLNK(st.st_mode) ? "a symbolic link" : "something else");
    *exists = true;
    *mode = st.st_mode & 07777;
    const int fd = vgg__openat(place->parent, place->name, FOLDER_FLAGS, 0);
    if (fd < 0) return vgg__place_fail(place, "can't open it");
    return check_entries(place, fd);
}

static int rename_in(const struct vgg__place *place, const char *from, const char *to,
                     unsigned flags)
{
    return vgg__os->renameat2(place->parent, from, place->parent, to, flags);
}

/* *ours: the third name is what a save left there, a folder of this user's that may be
 * replaced. Anything else of that name is someone else's. */
static vgg_status look_at_third(const struct vgg__place *place, bool *ours)
{
    struct stat st;
    char foreign[VGG_FILE_NAME_SIZE];
    *ours = false;
    if (vgg__os->fstatat(place->parent, place->third, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? VGG_OK
                               : vgg__place_fail(place, "can't look beside it");
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid()) return VGG_OK;
    const int fd = vgg__openat(place->parent, place->third, FOLDER_FLAGS, 0);
    if (fd < 0 || (errno = vgg__entries_check(&place->known, fd, ours, foreign)) != 0)
        return vgg__place_fail(place, "can't look beside it");
    return VGG_OK;
}

/* After a kill between two renames: bring the old folder back to its name. If it has
 * its name, the third one is a leftover. What is not ours stays. */
static vgg_status recover(struct vgg__place *place)
{
    bool ours;
    VGG_TRY(look_at_third(place, &ours));
    if (!ours) return VGG_OK;
    if (place->replaces) {
        vgg__entries_remove(&place->known, place->parent, place->third);
        return VGG_OK;
    }
    if (rename_in(place, place->third, place->name, 0) != 0)
        return vgg__place_fail(place, "can't bring back the older one");
    return check_place(place, &place->replaces, &place->mode);
}

vgg_status vgg__atomic_folder_begin(struct vgg__atomic_folder *folder, const char *path,
                                    const char *const *names, uint32_t count)
{
    folder->fd = -1;
    struct vgg__place *place = &folder->place;
    vgg_status status = vgg__place_open(place, path);
    if (status == VGG_OK) {
        place->known = (struct vgg__names){names, count};
        status = vgg__lock_take(place);
        if (status == VGG_OK)
            status = check_place(place, &place->replaces, &place->mode);
        if (status == VGG_OK) status = recover(place);
        if (status == VGG_OK) vgg__place_clean(place);
        vgg__lock_release(place);
    }
    if (status == VGG_OK) status = vgg__place_create(place, true, &folder->fd);
    if (status != VGG_OK) vgg__place_close(place);
    return status;
}

vgg_status vgg__atomic_folder_create(struct vgg__atomic_folder *folder,
                                     const char *name, struct vgg__out *out)
{
    const struct vgg__place *place = &folder->place;
    char older[2 * VGG_FILE_NAME_SIZE];
    struct stat st;
    vgg__out_begin(out, -1, place->shown);
    snprintf(older, sizeof older, "%s/%s", place->name, name);
    bool replaces = false;
    if (place->replaces) {
        if (vgg__os->fstatat(place->parent, older, &st, AT_SYMLINK_NOFOLLOW) == 0)
            replaces = S_ISREG(st.st_mode);
        else if (errno != ENOENT)
            return vgg__place_fail(place, "can't look into it");
    }
    const mode_t mode = replaces ? st.st_mode & 0777 : 0666;
    out->fd = vgg__openat(folder->fd, name,
                          O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (out->fd < 0) return vgg__place_fail(place, "can't create a file of it");
    return replaces ? vgg__place_give_mode(place, out->fd, mode) : VGG_OK;
}

/* A rename would put the older folder over an empty one of that name. */
static vgg_status check_third_free(const struct vgg__place *place)
{
    struct stat st;
    if (vgg__os->fstatat(place->parent, place->third, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return vgg__fail(VGG_EMISMATCH,
                         "%s: can't be replaced while %s beside it is someone else's: "
                         "move that away",
                         place->shown, place->third);
    return errno == ENOENT ? VGG_OK : vgg__place_fail(place, "can't look beside it");
}

/* Exchange by way of the third name. */
static vgg_status exchange_slowly(const struct vgg__place *place)
{
    VGG_TRY(check_third_free(place));
    if (rename_in(place, place->name, place->third, 0) != 0)
        return vgg__place_fail(place, "can't move the older one away");
    if (rename_in(place, place->temp, place->name, 0) != 0) {
        const vgg_status status =
            vgg__place_fail(place, "can't rename the new one to it");
        rename_in(place, place->third, place->name, 0);
        return status;
    }
    if (rename_in(place, place->third, place->temp, 0) != 0) {
        const vgg_status status =
            vgg__place_fail(place, "can't move the older one away");
        if (rename_in(place, place->name, place->temp, 0) == 0)
            rename_in(place, place->third, place->name, 0);
        return status;
    }
    return VGG_OK;
}

/* Give the temporary name to the old folder and the old one's name to the new. */
static vgg_status exchange(const struct vgg__place *place)
{
    if (rename_in(place, place->temp, place->name, RENAME_EXCHANGE) == 0) return VGG_OK;
    if (errno != EINVAL && errno != ENOSYS)
        return vgg__place_fail(place, "can't exchange it with the new one");
    return exchange_slowly(place);
}

/* Put the new folder in its place and flush that to disk, or leave all as it was. */
static vgg_status put_in_place(const struct vgg__place *place)
{
    bool exists;
    mode_t mode;
    VGG_TRY(check_place(place, &exists, &mode));
    if (exists) {
        VGG_TRY(exchange(place));
    } else if (rename_in(place, place->temp, place->name, 0) != 0) {
        return vgg__place_fail(place, "can't rename the new one to it");
    }
    const vgg_status status = vgg__place_sync(place);
    if (status != VGG_OK) {
        if (exists)
            exchange(place);
        else
            rename_in(place, place->name, place->temp, 0);
    }
    return status;
}

vgg_status vgg__atomic_folder_commit(struct vgg__atomic_folder *folder)
{
    struct vgg__place *place = &folder->place;
    vgg_status status = VGG_OK;
    if (place->replaces) status = vgg__place_give_mode(place, folder->fd, place->mode);
    if (status == VGG_OK && vgg__os->fsync(folder->fd) != 0 && errno != EINVAL)
        status = vgg__place_fail(place, "can't flush the new one to disk");
    if (status == VGG_OK) status = vgg__lock_take(place);
    if (status == VGG_OK) status = put_in_place(place);
    vgg__lock_release(place);
    /* Whatever has the temporary name now, the old folder or the new, is not wanted. */
    vgg__place_discard(place, true);
    vgg__os->close(folder->fd);
    folder->fd = -1;
    vgg__place_close(place);
    return status;
}

void vgg__atomic_folder_abort(struct vgg__atomic_folder *folder)
{
    if (folder->fd >= 0) {
        vgg__place_discard(&folder->place, true);
        vgg__os->close(folder->fd);
    }
    folder->fd = -1;
    vgg__place_close(&folder->place);
}

bool vgg__atomic_folder_replaced(const char *path, int fd)
{
    struct stat st;
    return vgg__os->fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           !vgg__place_holds(AT_FDCWD, path, fd);
}

vgg_status vgg__atomic_folder_open(const char *path, int *fd)
{
    struct vgg__place place;
    *fd = -1;
    vgg_status status = vgg__place_open(&place, path);
    if (status == VGG_OK) {
        /* The exchange may come between the two looks, so the name is tried again. */
        const char *const tries[] = {place.name, place.third, place.name};
        for (int i = 0; i < 3 && *fd < 0; i++) {
            *fd = vgg__openat(place.parent, tries[i], FOLDER_FLAGS, 0);
            if (*fd < 0 && errno != ENOENT) break;
        }
        if (*fd < 0 && (errno == ELOOP || errno == ENOTDIR))
            status = vgg__fail(VGG_EMISMATCH, "%s: expected a folder", place.shown);
        else if (*fd < 0)
            status = vgg__place_fail(&place, "can't open it");
    }
    vgg__place_close(&place);
    return status;
}
