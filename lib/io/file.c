/* SPDX-License-Identifier: Apache-2.0 */
/* A regular file read from front to back: see file.h. */
#include "io/file.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/text.h"
#include "io/os.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode)) return "a folder";
    if (S_ISFIFO(mode)) return "a FIFO";
    if (S_ISSOCK(mode)) return "a socket";
    return "a device";
}

/* O_NONBLOCK: without it, opening a FIFO waits for a writer, perhaps forever. */
static vgg_status open_regular(struct vgg__file *file, const char *path)
{
    file->fd = vgg__openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
    if (file->fd < 0)
        return vgg__fail_errno(VGG_EIO, errno, "cannot open %s", vgg__text_path(path));
    struct stat st;
    if (fstat(file->fd, &st) != 0)
        return vgg__fail_errno(VGG_EIO, errno, "cannot inspect %s",
                               vgg__text_path(path));
    if (!S_ISREG(st.st_mode))
        return vgg__fail(VGG_EIO, "%s: is %s, expected a regular file",
                         vgg__text_path(path), kind_of(st.st_mode));
    file->size = (uint64_t)st.st_size;
    return VGG_OK;
}

vgg_status vgg__file_open(struct vgg__file *file, vgg_context *ctx, const char *path)
{
    *file = (struct vgg__file){.fd = -1};
    vgg_status status = open_regular(file, path);
    if (status != VGG_OK) goto fail;
    status = VGG_ENOMEM;
    file->name = vgg__strdup(ctx, base_name(path));
    if (file->name == NULL) goto fail;
    file->buffer = vgg__alloc(ctx, VGG_FILE_BUFFER);
    if (file->buffer == NULL) goto fail;
    return VGG_OK;
fail:
    vgg__file_close(file);
    return status;
}

void vgg__file_close(struct vgg__file *file)
{
    if (file->fd >= 0) close(file->fd);
    vgg__free(file->name);
    vgg__free(file->buffer);
    *file = (struct vgg__file){.fd = -1};
}

/* One read() that may be short; 0 bytes at the end of the file. */
static vgg_status read_some(const struct vgg__file *file, void *to, size_t size,
                            size_t *got)
{
    ssize_t n;
    do {
        n = read(file->fd, to, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return vgg__fail_errno(VGG_EIO, errno, "%s: read failed", file->name);
    *got = (size_t)n;
    return VGG_OK;
}

vgg_status vgg__file_fill(struct vgg__file *file)
{
    if (file->begin < file->end) return VGG_OK;
    file->begin = file->end = 0;
    return read_some(file, file->buffer, VGG_FILE_BUFFER, &file->end);
}

vgg_status vgg__file_read(struct vgg__file *file, void *to, size_t size, size_t *got)
{
    *got = 0;
    while (*got < size) {
        uint8_t *const at = (uint8_t *)to + *got;
        size_t n = 0;
        if (file->begin == file->end && size - *got >= VGG_FILE_BUFFER) {
            VGG_TRY(read_some(file, at, size - *got, &n)); /* no need to copy twice */
        } else {
            VGG_TRY(vgg__file_fill(file));
            n = file->end - file->begin;
            if (n > size - *got) n = size - *got;
            memcpy(at, file->buffer + file->begin, n);
            file->begin += n;
        }
        if (n == 0) break;
        *got += n;
        file->taken += n;
    }
    return VGG_OK;
}
