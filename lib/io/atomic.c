/* SPDX-License-Identifier: Apache-2.0 */
/* A file that appears whole or not at all: see atomic.h. */
#include "io/atomic.h"

#include "core/error.h"
#include "io/os.h"
#include "io/place.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Bytes: a system call takes less than 2 GiB. */
#define LARGEST_WRITE ((size_t)1 << 30)

void vgg__out_begin(struct vgg__out *out, int fd, const char *shown)
{
    out->fd = fd;
    out->shown = shown;
    out->size = 0;
    out->hashed = false;
    vgg__sha256_begin(&out->hash);
}

vgg_status vgg__out_write(struct vgg__out *out, const void *data, size_t size)
{
    const char *p = data;
    for (size_t left = size; left > 0;) {
        const size_t part = left < LARGEST_WRITE ? left : LARGEST_WRITE;
        const ssize_t done = vgg__os->write(out->fd, p, part);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            return vgg__fail_errno(VGG_EIO, done < 0 ? errno : ENOSPC,
                                   "%s: can't write at byte %llu", out->shown,
                                   (unsigned long long)out->size);
        if (out->hashed) vgg__sha256_add(&out->hash, p, (size_t)done);
        out->size += (uint64_t)done;
        p += done;
        left -= (size_t)done;
    }
    return VGG_OK;
}

vgg_status vgg__out_finish(struct vgg__out *out)
{
    vgg_status status = VGG_OK;
    if (vgg__os->fsync(out->fd) != 0)
        status = vgg__fail_errno(VGG_EIO, errno, "%s: can't flush to disk", out->shown);
    /* On Linux the descriptor is gone after EINTR as well, and the data is on disk. */
    if (vgg__os->close(out->fd) != 0 && errno != EINTR && status == VGG_OK)
        status = vgg__fail_errno(VGG_EIO, errno, "%s: can't close", out->shown);
    out->fd = -1;
    return status;
}

void vgg__out_abandon(struct vgg__out *out)
{
    if (out->fd >= 0) vgg__os->close(out->fd);
    out->fd = -1;
}

/* What is at the place now may be replaced: nothing, a file, or a link, whose own
 * permissions say nothing. */
static vgg_status check_replaceable(struct vgg__place *place)
{
    struct stat st;
    if (vgg__os->fstatat(place->parent, place->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? VGG_OK : vgg__place_fail(place, "can't look at it");
    place->replaces = S_ISREG(st.st_mode);
    place->mode = st.st_mode & 0777;
    if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) return VGG_OK;
    return vgg__fail(VGG_EIO, "%s: expected a file, found %s", place->shown,
                     S_ISDIR(st.st_mode) ? "a folder" : "a device, pipe or socket");
}

vgg_status vgg__atomic_file_begin(struct vgg__atomic_file *file, const char *path)
{
    file->out.fd = -1;
    int fd = -1;
    vgg_status status = vgg__place_open(&file->place, path);
    if (status == VGG_OK) status = check_replaceable(&file->place);
    if (status == VGG_OK) {
        vgg__place_clean(&file->place);
        status = vgg__place_create(&file->place, false, &fd);
    }
    if (status != VGG_OK) vgg__place_close(&file->place);
    vgg__out_begin(&file->out, fd, file->place.shown);
    return status;
}

vgg_status vgg__atomic_file_commit(struct vgg__atomic_file *file)
{
    struct vgg__place *place = &file->place;
    vgg_status status = VGG_OK;
    if (place->replaces)
        status = vgg__place_give_mode(place, file->out.fd, place->mode);
    /* Closing tells of errors, and gives up the lock by which other saves know that
     * this is no leftover: a second descriptor keeps it until the file has its name. */
    const int held = fcntl(file->out.fd, F_DUPFD_CLOEXEC, 0);
    if (status == VGG_OK) status = vgg__out_finish(&file->out);
    vgg__out_abandon(&file->out);
    if (status == VGG_OK && vgg__os->renameat2(place->parent, place->temp,
                                               place->parent, place->name, 0) != 0)
        status = vgg__place_fail(place, "can't rename the new file to it");
    if (held >= 0) close(held);
    if (status == VGG_OK) {
        place->temp[0] = '\0';
        status = vgg__place_sync(place);
    }
    vgg__place_discard(place, false);
    vgg__place_close(place);
    return status;
}

void vgg__atomic_file_abort(struct vgg__atomic_file *file)
{
    vgg__out_abandon(&file->out);
    if (file->place.parent >= 0) vgg__place_discard(&file->place, false);
    vgg__place_close(&file->place);
}
