/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a run directory: read whole, replaced whole. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Most that a text file of a run may hold; far over any real log. */
#define FILE_MOST ((size_t)4 << 30)

bool path_join(char *out, size_t size, const char *dir, const char *name)
{
    const int length = snprintf(out, size, "%s/%s", dir, name);
    return length >= 0 && (size_t)length < size;
}

bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

const char *why_no_folder(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) return strerror(errno);
    if (!S_ISDIR(st.st_mode)) return "it is no folder";
    return access(path, R_OK | X_OK) != 0 ? strerror(errno) : NULL;
}

int make_folders(const char *path)
{
    char part[4096];
    const size_t length = strlen(path);
    if (length == 0 || length >= sizeof part) return fail("'%.80s' is no path", path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) == 0 || errno == EEXIST) continue;
        const int reason = errno; /* a folder that is there may be told otherwise */
        if (is_folder(part)) continue;
        return fail("can't make the folder %s: %s", part, strerror(reason));
    }
    return is_folder(path) ? 0 : fail("%s is there and is not a folder", path);
}

char *file_read(const char *path, size_t *length)
{
    struct stat st;
    char *text = NULL;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe: refused */
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    const bool known = file && fstat(fileno(file), &st) == 0;
    if (known && S_ISREG(st.st_mode) && (uint64_t)st.st_size < FILE_MOST)
        text = malloc((size_t)st.st_size + 1);
    if (!text) {
        fail("can't read %s: %s", path,
             file ? "too large or no file" : strerror(errno));
        if (file) fclose(file);
        if (!file && fd >= 0) close(fd);
        return NULL;
    }
    const size_t got = fread(text, 1, (size_t)st.st_size, file);
    text[got] = '\0';
    fclose(file);
    if (length) *length = got;
    return text;
}

int file_begin(struct new_file *f, const char *path)
{
    if (snprintf(f->path, sizeof f->path, "%s", path) >= (int)sizeof f->path)
        return fail("'%.80s...' is too long a path", path);
    snprintf(f->beside, sizeof f->beside, "%s.new", path);
    f->file = fopen(f->beside, "we");
    return f->file ? 0 : fail("can't write %s: %s", f->beside, strerror(errno));
}

int file_commit(struct new_file *f)
{
    errno = 0;
    bool good = fflush(f->file) == 0 && !ferror(f->file) && fsync(fileno(f->file)) == 0;
    good = fclose(f->file) == 0 && good;
    good = good && rename(f->beside, f->path) == 0;
    if (good) return 0;
    const int reason = errno;
    unlink(f->beside);
    return fail("can't write %s: %s", f->path, strerror(reason));
}
