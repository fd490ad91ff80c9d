/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes to be read at any place: see input.h. */
#include "io/input.h"

#include "core/error.h"
#include "core/memory.h"
#include "io/os.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define HASH_BUFFER ((size_t)1 << 20) /* bytes */
/* Bytes: a system call takes less than 2 GiB. */
#define LARGEST_READ ((size_t)1 << 30)

vgg_status vgg__input_open(struct vgg__input *input, int folder, const char *name,
                           int follow, const char *shown)
{
    struct stat st;
    memset(input, 0, sizeof *input);
    input->shown = shown;
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    input->fd = vgg__openat(folder, name, follow ? flags : flags | O_NOFOLLOW, 0);
    if (input->fd < 0)
        return vgg__fail_errno(VGG_EIO, errno, "%s: can't open it", shown);
    vgg_status status = VGG_OK;
    if (vgg__os->fstat(input->fd, &st) != 0)
        status = vgg__fail_errno(VGG_EIO, errno, "%s: can't look at it", shown);
    else if (!S_ISREG(st.st_mode))
        status =
            vgg__fail(VGG_EIO, "%s: expected a file, found %s", shown,
                      S_ISDIR(st.st_mode) ? "a folder" : "a device, pipe or socket");
    else
        input->size = (uint64_t)st.st_size;
    if (status != VGG_OK) vgg__input_close(input);
    return status;
}

void vgg__input_memory(struct vgg__input *input, const void *data, size_t size,
                       const char *shown)
{
    input->fd = -1;
    input->memory = data;
    input->size = size;
    input->shown = shown;
}

void vgg__input_close(struct vgg__input *input)
{
    if (input->fd >= 0) vgg__os->close(input->fd);
    input->fd = -1;
}

static vgg_status read_file(const struct vgg__input *input, uint64_t offset, char *out,
                            size_t size)
{
    while (size > 0) {
        const size_t part = size < LARGEST_READ ? size : LARGEST_READ;
        const ssize_t got = vgg__os->pread(input->fd, out, part, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return vgg__fail_errno(VGG_EIO, errno, "%s: can't read at byte %" PRIu64,
                                   input->shown, offset);
        if (got == 0)
            return vgg__fail(VGG_ETRUNCATED,
                             "%s: ends at byte %" PRIu64 ", had %" PRIu64
                             " bytes before",
                             input->shown, offset, input->size);
        offset += (uint64_t)got;
        out += got;
        size -= (size_t)got;
    }
    return VGG_OK;
}

vgg_status vgg__input_read(const struct vgg__input *input, uint64_t offset, void *out,
                           size_t size)
{
    if (offset > input->size || size > input->size - offset)
        return vgg__fail(VGG_ETRUNCATED,
                         "%s: expected %zu bytes from byte %" PRIu64
                         " on, has %" PRIu64,
                         input->shown, size, offset, input->size);
    if (input->fd >= 0) return read_file(input, offset, out, size);
    if (size > 0) memcpy(out, input->memory + offset, size);
    return VGG_OK;
}

vgg_status vgg__input_text(const struct vgg__input *input, vgg_context *ctx,
                           uint64_t max, char **out)
{
    *out = NULL;
    if (input->size > max)
        return vgg__fail(VGG_ELIMIT,
                         "%s: %" PRIu64 " bytes, at most %" PRIu64 " allowed",
                         input->shown, input->size, max);
    char *text = vgg__alloc(ctx, (size_t)input->size + 1);
    if (text == NULL) return VGG_ENOMEM;
    const vgg_status status = vgg__input_read(input, 0, text, (size_t)input->size);
    if (status != VGG_OK) {
        vgg__free(text);
        return status;
    }
    text[input->size] = '\0';
    *out = text;
    return VGG_OK;
}

vgg_status vgg__input_hash(const struct vgg__input *input, vgg_context *ctx,
                           char text[VGG_SHA256_TEXT])
{
    struct vgg__sha256 sha;
    vgg__sha256_begin(&sha);
    char *buffer = vgg__alloc(ctx, HASH_BUFFER);
    if (buffer == NULL) return VGG_ENOMEM;
    vgg_status status = VGG_OK;
    for (uint64_t at = 0; status == VGG_OK && at < input->size;) {
        const uint64_t left = input->size - at;
        const size_t part = left < HASH_BUFFER ? (size_t)left : HASH_BUFFER;
        status = vgg__input_read(input, at, buffer, part);
        if (status == VGG_OK) vgg__sha256_add(&sha, buffer, part);
        at += part;
    }
    vgg__free(buffer);
    vgg__sha256_end(&sha, text);
    return status;
}
