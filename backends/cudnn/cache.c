/* SPDX-License-Identifier: Apache-2.0 */
/* Choices on disk; see cache.h. A file is a head of lines, then the text:
 *
 *     libvgg choice 2 <hash of all that follows this line>
 *     <the device's text, which names GPU and library versions>
 *     <question>
 *     <name>
 *     <way> <flag> <ns> <refused> <length of the text>
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

#define VERSION   "libvgg choice 2"
#define MOST_TEXT ((size_t)4 << 20) /* a compiled plan takes up to 250 kB */
#define MOST_HEAD 1024
#define FIRST     48 /* the first line is shorter */

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

static bool file_name(const struct vgg__cudnn *device, const char *question,
                      char path[PATH_MAX])
{
    if (!folder(path)) return false;
    uint64_t key = hash(hash_start, VERSION, sizeof VERSION);
    key = hash(key, device->text, strlen(device->text) + 1);
    key = hash(key, question, strlen(question));
    const size_t length = strlen(path);
    snprintf(path + length, PATH_MAX - length, "/%016" PRIx64 ".choice", key);
    return true;
}

/* The first line, of a file whose rest has a hash. */
static size_t first_line(char line[FIRST], uint64_t rest)
{
    return (size_t)snprintf(line, FIRST, VERSION " %016" PRIx64 "\n", rest);
}

/* The next lines, which say what was asked. */
static size_t asked(const struct vgg__cudnn *device, const char *question,
                    char text[MOST_HEAD])
{
    return (size_t)snprintf(text, MOST_HEAD, "%s\n%s\n", device->text, question);
}

/* ---- Reading --------------------------------------------------------------------- */

/* All of a file, at most MOST_TEXT + FIRST + MOST_HEAD bytes; NULL: not to be had. */
static char *read_file(struct vgg__cudnn *device, const char *path, size_t *size)
{
    const vgg_host *host = &device->machine.host;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) return NULL;
    struct stat about;
    char *data = NULL;
    if (fstat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > 0 &&
        (size_t)about.st_size <= MOST_TEXT + FIRST + MOST_HEAD)
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

/* Whether `data` is the whole answer to the question, bit for bit; where the lines that
 * hold it begin. */
static bool answers(const struct vgg__cudnn *device, const char *question,
                    const char *data, size_t size, size_t *at)
{
    char line[FIRST], text[MOST_HEAD];
    const size_t first = first_line(line, 0), more = asked(device, question, text);
    if (more >= MOST_HEAD || size < first + more) return false;
    first_line(line, hash(hash_start, data + first, size - first));
    *at = first + more;
    return memcmp(data, line, first) == 0 && memcmp(data + first, text, more) == 0;
}

/* The name and the numbers; where the text begins, NULL: they are not there. */
static const char *read_answer(const char *data, struct vgg__cached *out)
{
    const char *end = strchr(data, '\n');
    const size_t name = end != NULL ? (size_t)(end - data) : sizeof out->name;
    if (name >= sizeof out->name) return NULL;
    memcpy(out->name, data, name);
    out->name[name] = '\0';
    if (sscanf(end + 1, "%" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %zu",
               &out->way, &out->flag, &out->ns, &out->refused, &out->length) != 5)
        return NULL;
    end = strchr(end + 1, '\n');
    return end != NULL ? end + 1 : NULL;
}

bool vgg__cache_load(struct vgg__cudnn *device, const char *question,
                     struct vgg__cached *out)
{
    char path[PATH_MAX];
    *out = (struct vgg__cached){0};
    if (!file_name(device, question, path)) return false;
    size_t size = 0, at = 0;
    char *data = read_file(device, path, &size);
    if (data == NULL) return false;
    const char *text = NULL;
    if (answers(device, question, data, size, &at)) text = read_answer(data + at, out);
    if (text == NULL || (size_t)(data + size - text) != out->length) {
        device->machine.host.release(data);
        *out = (struct vgg__cached){0};
        return false;
    }
    memmove(data, text, out->length);
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

/* All lines but the first; 0: they are too long. */
static size_t write_lines(const struct vgg__cudnn *device, const char *question,
                          const struct vgg__cached *answer, char lines[MOST_HEAD])
{
    size_t at = asked(device, question, lines);
    if (at < MOST_HEAD)
        at += (size_t)snprintf(
            lines + at, MOST_HEAD - at,
            "%s\n%" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %zu\n", answer->name,
            answer->way, answer->flag, answer->ns, answer->refused, answer->length);
    return at < MOST_HEAD ? at : 0;
}

void vgg__cache_save(struct vgg__cudnn *device, const char *question,
                     const struct vgg__cached *answer)
{
    char path[PATH_MAX], place[PATH_MAX], temporary[PATH_MAX + 16];
    char first[FIRST], lines[MOST_HEAD];
    const size_t length = write_lines(device, question, answer, lines);
    if (length == 0 || answer->length > MOST_TEXT || !folder(place) ||
        !file_name(device, question, path))
        return;
    const uint64_t sum =
        hash(hash(hash_start, lines, length), answer->text, answer->length);
    make_folder(place);
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    const int file = mkostemp(temporary, O_CLOEXEC);
    if (file < 0) return;
    bool good = write_all(file, first, first_line(first, sum)) &&
                write_all(file, lines, length) &&
                write_all(file, answer->text, answer->length) && fsync(file) == 0;
    good = close(file) == 0 && good;
    if (!good || rename(temporary, path) != 0) unlink(temporary);
}
