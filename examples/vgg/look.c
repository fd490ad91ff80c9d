/* SPDX-License-Identifier: Apache-2.0 */
/* A picture from its file: read whole, decoded, brought to its size. */
#include "look.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Most bytes of a picture's file. */
#define FILE_MOST ((off_t)1 << 30)

static int refuse(char why[PICTURE_WHY], const char *reason)
{
    snprintf(why, PICTURE_WHY, "%s", reason);
    return -1;
}

/* All of an open file; to be freed. NULL with a reason. */
static uint8_t *read_whole(int fd, size_t *size, char why[PICTURE_WHY])
{
    struct stat st;
    size_t done = 0;
    ssize_t got = 1;
    if (fstat(fd, &st) != 0) return refuse(why, strerror(errno)), NULL;
    if (!S_ISREG(st.st_mode)) return refuse(why, "it is no file"), NULL;
    if (st.st_size > FILE_MOST) return refuse(why, "over 1 GiB"), NULL;
    uint8_t *const bytes = malloc((size_t)st.st_size + 1);
    if (!bytes) return refuse(why, "out of memory"), NULL;
    while (done < (size_t)st.st_size && got != 0) {
        got = read(fd, bytes + done, (size_t)st.st_size - done);
        if (got < 0 && errno != EINTR) {
            free(bytes);
            return refuse(why, strerror(errno)), NULL;
        }
        done += got > 0 ? (size_t)got : 0;
    }
    *size = done;
    return bytes;
}

/* A pipe is not waited for: what is no file is refused. */
static uint8_t *read_file(const char *path, size_t *size, char why[PICTURE_WHY])
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return refuse(why, strerror(errno)), NULL;
    uint8_t *const bytes = read_whole(fd, size, why);
    close(fd);
    return bytes;
}

static int fit(const struct look *look, const struct picture *picture, uint8_t *image,
               char why[PICTURE_WHY])
{
    const vgg_shape from = {3, {look->channels, picture->height, picture->width}};
    const vgg_shape to = {3, {look->channels, look->height, look->width}};
    vgg_tensor *input = NULL, *output = NULL;
    vgg_status status =
        vgg_tensor_wrap(look->ctx, VGG_U8, &from, picture->pixels, NULL, NULL, &input);
    if (status == VGG_OK)
        status = vgg_tensor_wrap(look->ctx, VGG_U8, &to, image, NULL, NULL, &output);
    if (status == VGG_OK) status = vgg_image_fit(input, look->fit, look->rule, output);
    vgg_tensor_free(input);
    vgg_tensor_free(output);
    if (status == VGG_OK) return 0;
    const bool stretches = status == VGG_ELIMIT && look->fit == VGG_FIT_COVER;
    snprintf(why, PICTURE_WHY, "%.200s%s", vgg_last_error(),
             stretches ? "; --fit stretch takes it" : "");
    return -1;
}

int look_at(const struct look *look, const char *path, uint8_t *image,
            char why[PICTURE_WHY])
{
    struct picture picture = {.pixels = NULL};
    size_t size = 0;
    uint8_t *const bytes = read_file(path, &size, why);
    if (!bytes) return -1;
    int result = picture_decode(bytes, size, look->channels, &picture, why);
    free(bytes);
    if (result == 0) result = fit(look, &picture, image, why);
    free(picture.pixels);
    return result;
}
