/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of a place: an empty file beside it, locked by flock().
 *
 * The parent folder itself is not locked: that lock may be somebody else's, who may
 * have started this very process under it. The file goes when its lock is given back,
 * and whoever opened it before then finds that it has no name any more and starts anew.
 * One that a killed process left is locked by nobody: the next save takes it, and takes
 * it away. Nobody waits in flock(), since a process that is stopped, or the child that
 * a fork left with the lock, may keep it for ever. A file system without locks goes
 * without. */
#include "io/lock.h"

#include "core/error.h"
#include "io/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/file.h>
#include <unistd.h>

#define MOST_WAITS 10000 /* of a millisecond: 10 s */

/* The file, made where there is none. For writing where that may be: NFS gives an
 * exclusive lock to nobody else. */
static int open_lock(const struct vgg__place *place, bool *made)
{
    const int flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW;
    const char *const name = place->lock_name;
    *made = false;
    int fd = vgg__openat(place->parent, name, O_RDWR | flags, 0);
    if (fd < 0 && (errno == EACCES || errno == EPERM || errno == EROFS))
        fd = vgg__openat(place->parent, name, O_RDONLY | flags, 0);
    if (fd >= 0 || errno != ENOENT) return fd;
    fd = vgg__openat(place->parent, name, O_RDWR | flags | O_CREAT | O_EXCL, 0666);
    *made = fd >= 0;
    return fd;
}

static vgg_status not_ours(const struct vgg__place *place)
{
    return vgg__fail(VGG_EMISMATCH,
                     "%s: can't be locked, %s beside it is someone else's: move that "
                     "away",
                     place->shown, place->lock_name);
}

/* *own: an empty file of this user's, whoever its file system says that is, and which
 * may be removed. */
static vgg_status check_file(const struct vgg__place *place, int fd, bool made,
                             bool *own)
{
    struct stat st;
    if (vgg__os->fstat(fd, &st) != 0)
        return vgg__place_fail(place, "can't look beside it");
    *own = made || st.st_uid == geteuid();
    return S_ISREG(st.st_mode) && st.st_size == 0 ? VGG_OK : not_ours(place);
}

/* One try. *taken is false if another has the lock, or took the file away. */
static vgg_status try_lock(struct vgg__place *place, bool *taken)
{
    *taken = false;
    bool made;
    const int fd = open_lock(place, &made);
    if (fd < 0 && errno == EEXIST) return VGG_OK;
    if (fd < 0 && (errno == ELOOP || errno == ENXIO || errno == EISDIR))
        return not_ours(place);
    if (fd < 0) return vgg__place_fail(place, "can't make a lock beside it");
    const vgg_status status = check_file(place, fd, made, &place->lock_own);
    if (status == VGG_OK)
        *taken =
            vgg__try_flock(fd) && vgg__place_holds(place->parent, place->lock_name, fd);
    if (*taken)
        place->lock = fd;
    else
        vgg__os->close(fd);
    return status;
}

vgg_status vgg__lock_take(struct vgg__place *place)
{
    const struct timespec wait = {.tv_nsec = 1000000};
    for (int i = 0; i < MOST_WAITS; i++) {
        bool taken;
        VGG_TRY(try_lock(place, &taken));
        if (taken) return VGG_OK;
        struct timespec left = wait;
        while (vgg__os->nanosleep(&left, &left) != 0 && errno == EINTR) continue;
    }
    return vgg__fail(VGG_EIO,
                     "%s: another save has had %s beside it for 10 s: wait until it "
                     "ends, or remove that file if nothing saves there",
                     place->shown, place->lock_name);
}

void vgg__lock_release(struct vgg__place *place)
{
    if (place->lock < 0) return;
    if (place->lock_own &&
        vgg__place_holds(place->parent, place->lock_name, place->lock))
        vgg__os->unlinkat(place->parent, place->lock_name, 0);
    vgg__os->flock(place->lock, LOCK_UN); /* a forked child may have it open as well */
    vgg__os->close(place->lock);
    place->lock = -1;
}
