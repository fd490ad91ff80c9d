/* SPDX-License-Identifier: Apache-2.0 */
/* Choices on disk; see cache.h. A file is one line, then the text:
 *
 *     libvgg choice 1 <way> <flag> <ns> <length> <hash of the text>
 */
#include "cudnn/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT    "libvgg choice 1 %" SCNu32 " %" SCNu32 " %" SCNu32 " %zu %" SCNx64
#define MOST_TEXT ((size_t)4 << 20) /* a compiled plan takes up to 250 kB */
#define MOST_LINE 160

/* FNV-1a. */
static uint64_t hash(uint64_t start, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) start = (start ^ bytes[i]) * 0x100000001b3u;
    return start;
}

static const uint64_t hash_start = 0xcbf29ce484222325u;

/* Where files are; false: nowhere. */
static bool folder(char path[PATH_MAX])
{
    const char *given = secure_getenv("VGG_CACHE_DIR");
    const char *cache = secure_getenv("XDG_CACHE_HOME");
    const char *home = secure_getenv("HOME");
    int length = 0;
    if (given != NULL)
        length = snprintf(path, PATH_MAX, "%s", given);
    else if (cache != NULL && cache[0] == '/')
        length = snprintf(path, PATH_MAX, "%s/libvgg", cache);
    else if (home != NULL && home[0] == '/')
        length = snprintf(path, PATH_MAX, "%s/.cache/libvgg", home);
    return length > 0 && length < PATH_MAX - 64;
}

/* A folder and those above it, for this user alone. */
static void make_folder(char *path)
{
    for (char *at = path + 1; *at != '\0'; at++) {
        if (*at != '/') continue;
        *at = '\0';
        mkdir(path, 0700);
        *at = '/';
    }
    mkdir(path, 0700);
}

static bool file_name(const struct vgg__cudnn *device, const void *question,
                      size_t size, char path[PATH_MAX])
{
    if (!folder(path)) return false;
    /* The device's text names GPU and library versions. */
    uint64_t key = hash(hash_start, device->text, strlen(device->text));
    key = hash(key, question, size);
    const size_t length = strlen(path);
    snprintf(path + length, PATH_MAX - length, "/%016" PRIx64 ".choice", key);
    return true;
}

/* ---- Reading --------------------------------------------------------------------- */

/* All of a file, at most MOST_TEXT + MOST_LINE bytes; NULL: not to be had. */
static char *read_file(struct vgg__cudnn *device, const char *path, size_t *size)
{
    const vgg_host *host = &device->machine.host;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) return NULL;
    struct stat about;
    char *data = NULL;
    if (fstat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > 0 &&
        (size_t)about.st_size <= MOST_TEXT + MOST_LINE)
        data = host->alloc(host->ctx, (size_t)about.st_size + 1);
    size_t got = 0;
    while (data != NULL && got < (size_t)about.st_size) {
        const ssize_t part = read(file, data + got, (size_t)about.st_size - got);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) break;
        got += (size_t)part;
    }
    close(file);
    if (data == NULL) return NULL;
    data[got] = '\0';
    *size = got;
    return data;
}

bool vgg__cache_load(struct vgg__cudnn *device, const void *question, size_t size,
                     struct vgg__cached *out)
{
    char path[PATH_MAX];
    *out = (struct vgg__cached){0};
    if (!file_name(device, question, size, path)) return false;
    size_t bytes = 0;
    char *data = read_file(device, path, &bytes);
    if (data == NULL) return false;
    char *line_end = memchr(data, '\n', bytes < MOST_LINE ? bytes : MOST_LINE);
    uint64_t expected = 0;
    bool good = line_end != NULL;
    if (good) {
        *line_end = '\0';
        good = sscanf(data, FORMAT, &out->way, &out->flag, &out->ns, &out->length,
                      &expected) == 5 &&
               (size_t)(data + bytes - (line_end + 1)) == out->length &&
               hash(hash_start, line_end + 1, out->length) == expected;
    }
    if (!good) {
        device->machine.host.release(data);
        *out = (struct vgg__cached){0};
        return false;
    }
    memmove(data, line_end + 1, out->length);
    data[out->length] = '\0';
    out->text = data;
    return true;
}

/* ---- Writing --------------------------------------------------------------------- */

static bool write_all(int file, const char *data, size_t size)
{
    while (size > 0) {
        const ssize_t part = write(file, data, size);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) return false;
        data += part;
        size -= (size_t)part;
    }
    return true;
}

void vgg__cache_save(struct vgg__cudnn *device, const void *question, size_t size,
                     const struct vgg__cached *answer)
{
    char path[PATH_MAX], place[PATH_MAX], temporary[PATH_MAX + 16], line[MOST_LINE];
    if (answer->length > MOST_TEXT || !folder(place) ||
        !file_name(device, question, size, path))
        return;
    make_folder(place);
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    const int file = mkostemp(temporary, O_CLOEXEC);
    if (file < 0) return;
    const int length = snprintf(line, sizeof line,
                                "libvgg choice 1 %" PRIu32 " %" PRIu32 " %" PRIu32
                                " %zu %" PRIx64 "\n",
                                answer->way, answer->flag, answer->ns, answer->length,
                                hash(hash_start, answer->text, answer->length));
    bool good = write_all(file, line, (size_t)length) &&
                write_all(file, answer->text, answer->length) && fsync(file) == 0;
    good = close(file) == 0 && good;
    if (!good || rename(temporary, path) != 0) unlink(temporary);
}
