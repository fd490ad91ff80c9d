/* SPDX-License-Identifier: Apache-2.0 */
/* Where something is saved: its parent folder, temporary names, leftovers. */
#include "io/place.h"

#include "core/error.h"
#include "core/text.h"
#include "io/entries.h"
#include "io/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_STEM 200 /* bytes of a name that fit beside the temporary suffixes */
#define MOST_TRIES   1000

/* The folder that the first `end` bytes of a path name. */
static vgg_status open_parent(struct vgg__place *place, const char *path, size_t end)
{
    char parent[4096];
    if (end >= sizeof parent)
        return vgg__fail_errno(VGG_EIO, ENAMETOOLONG, "%s", place->shown);
    memcpy(parent, path, end);
    parent[end] = '\0';
    place->parent = vgg__openat(AT_FDCWD, end > 0 ? parent : ".",
                                O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (place->parent < 0)
        return vgg__fail_errno(VGG_EIO, errno, "%s: can't open its folder",
                               place->shown);
    return VGG_OK;
}

vgg_status vgg__place_open(struct vgg__place *place, const char *path)
{
    memset(place, 0, sizeof *place);
    place->parent = place->lock = -1;
    place->shown = vgg__text_path(path);
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    size_t first = length;
    while (first > 0 && path[first - 1] != '/') first--;
    const size_t size = length - first;
    if (size >= sizeof place->name)
        return vgg__fail_errno(VGG_EIO, ENAMETOOLONG, "%.64s...", path);
    memcpy(place->name, path + first, size);
    if (size == 0 || strcmp(place->name, ".") == 0 || strcmp(place->name, "..") == 0)
        return vgg__fail(VGG_EINVAL, "\"%s\" does not end in a name", path);
    if (size <= LONGEST_STEM) {
        snprintf(place->stem, sizeof place->stem, ".%.*s.", LONGEST_STEM, place->name);
    } else {
        struct vgg__sha256 sha;
        char hash[VGG_SHA256_TEXT];
        vgg__sha256_begin(&sha);
        vgg__sha256_add(&sha, place->name, size);
        vgg__sha256_end(&sha, hash);
        snprintf(place->stem, sizeof place->stem, ".%s.", hash);
    }
    snprintf(place->third, sizeof place->third, "%.220svgg-old", place->stem);
    snprintf(place->lock_name, sizeof place->lock_name, "%.220svgg-lock", place->stem);
    return open_parent(place, path, first);
}

void vgg__place_close(struct vgg__place *place)
{
    if (place->parent >= 0) vgg__os->close(place->parent);
    place->parent = -1;
}

vgg_status vgg__place_fail(const struct vgg__place *place, const char *what)
{
    return vgg__fail_errno(VGG_EIO, errno, "%s: %s", place->shown, what);
}

bool vgg__place_holds(int folder, const char *name, int fd)
{
    struct stat by_fd, by_name;
    return vgg__os->fstat(fd, &by_fd) == 0 &&
           vgg__os->fstatat(folder, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 &&
           by_fd.st_ino == by_name.st_ino && by_fd.st_dev == by_name.st_dev;
}

/* Lock what was just made. Another save's cleaning may have been faster: then the lock
 * is taken or the entry gone (EEXIST: try another name). A file system without locks
 * goes without. */
static int lock_new(int folder, const char *name, int fd)
{
    if (!vgg__try_flock(fd)) return EEXIST;
    errno = 0;
    if (vgg__place_holds(folder, name, fd)) return 0;
    return errno == 0 || errno == ENOENT ? EEXIST : errno;
}

/* Make the entry and open it; -1 with errno. */
static int make_new(const struct vgg__place *place, bool folder)
{
    const mode_t mode = place->replaces ? place->mode & 0777 : 0777;
    if (!folder)
        return vgg__openat(place->parent, place->temp,
                           O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                           place->replaces ? mode | 0600 : 0666);
    if (vgg__os->mkdirat(place->parent, place->temp, mode | 0700) != 0) return -1;
    const int fd = vgg__openat(place->parent, place->temp,
                               O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
    const int why = errno;
    if (fd < 0) vgg__os->unlinkat(place->parent, place->temp, AT_REMOVEDIR);
    errno = why;
    return fd;
}

/* A name that no other save of this process has had, and of another one hardly: what a
 * save removes at its end by this name is then its own, or gone. */
static void name_anew(struct vgg__place *place)
{
    static atomic_uint saves;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(place->temp, sizeof place->temp, "%.205snew-%" PRIdMAX "-%u-%u",
             place->stem, (intmax_t)getpid(), atomic_fetch_add(&saves, 1),
             (unsigned)now.tv_nsec);
}

vgg_status vgg__place_create(struct vgg__place *place, bool folder, int *fd)
{
    for (int i = 0; i < MOST_TRIES; i++) {
        name_anew(place);
        *fd = make_new(place, folder);
        if (*fd < 0 && errno != EEXIST && !(folder && errno == ENOENT)) break;
        if (*fd < 0) continue;
        const int why = lock_new(place->parent, place->temp, *fd);
        if (why == 0) return VGG_OK;
        vgg__os->close(*fd);
        if (why != EEXIST) vgg__place_discard(place, folder);
        errno = why;
        if (why != EEXIST) break;
    }
    *fd = -1;
    place->temp[0] = '\0';
    return vgg__place_fail(place, "can't write beside it");
}

vgg_status vgg__place_give_mode(const struct vgg__place *place, int fd, mode_t mode)
{
    struct stat st;
    if (vgg__os->fstat(fd, &st) != 0)
        return vgg__place_fail(place, "can't look at the new one");
    if ((st.st_mode & 07777) == mode || vgg__os->fchmod(fd, mode) == 0) return VGG_OK;
    if (errno == EPERM || errno == ENOSYS || errno == EOPNOTSUPP) return VGG_OK;
    return vgg__place_fail(place, "can't give the new one the older one's permissions");
}

void vgg__place_discard(struct vgg__place *place, bool folder)
{
    if (place->temp[0] == '\0') return;
    if (folder)
        vgg__entries_remove(&place->known, place->parent, place->temp);
    else
        vgg__os->unlinkat(place->parent, place->temp, 0);
    place->temp[0] = '\0';
}

static bool has_no_foreign(const struct vgg__place *place, const char *name)
{
    bool whole;
    char foreign[VGG_FILE_NAME_SIZE];
    const int fd = vgg__openat(place->parent, name,
                               O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
    return fd >= 0 && vgg__entries_check(&place->known, fd, &whole, foreign) == 0 &&
           foreign[0] == '\0';
}

/* Remove a leftover, unless someone still writes it or it is not ours. */
static void remove_leftover(const struct vgg__place *place, const char *name)
{
    struct stat st;
    const int fd =
        vgg__openat(place->parent, name,
                    O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0) return;
    if (vgg__os->fstat(fd, &st) == 0 && st.st_uid == geteuid() &&
        vgg__os->flock(fd, LOCK_EX | LOCK_NB) == 0 &&
        vgg__place_holds(place->parent, name, fd)) {
        if (S_ISDIR(st.st_mode) && has_no_foreign(place, name))
            vgg__entries_remove(&place->known, place->parent, name);
        if (S_ISREG(st.st_mode)) vgg__os->unlinkat(place->parent, name, 0);
    }
    vgg__os->close(fd);
}

/* What follows the number that a text begins with, if name_anew() writes it so; else
 * NULL. */
static const char *after_number(const char *text)
{
    const size_t digits = strspn(text, "0123456789");
    const bool plain = digits > 0 && (digits == 1 || text[0] != '0');
    return plain && digits <= 10 ? text + digits : NULL;
}

/* Is it a name of name_anew()'s for this place, to the last byte? */
static bool is_temporary(const struct vgg__place *place, const char *name)
{
    char prefix[VGG_FILE_NAME_SIZE];
    const int length = snprintf(prefix, sizeof prefix, "%.205snew", place->stem);
    if (strncmp(name, prefix, (size_t)length) != 0) return false;
    name += length;
    for (int i = 0; i < 3 && name != NULL; i++)
        name = *name == '-' ? after_number(name + 1) : NULL;
    return name != NULL && *name == '\0';
}

void vgg__place_clean(const struct vgg__place *place)
{
    const int fd =
        vgg__openat(place->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) return;
    DIR *entries = fdopendir(fd);
    if (entries == NULL) {
        vgg__os->close(fd);
        return;
    }
    for (const struct dirent *e; (e = readdir(entries)) != NULL;)
        if (is_temporary(place, e->d_name)) remove_leftover(place, e->d_name);
    closedir(entries);
}

vgg_status vgg__place_sync(const struct vgg__place *place)
{
    /* A file system that can't flush folders says EINVAL: then it needs no flush. */
    if (vgg__os->fsync(place->parent) != 0 && errno != EINVAL)
        return vgg__place_fail(place, "can't flush its folder to disk");
    return VGG_OK;
}
