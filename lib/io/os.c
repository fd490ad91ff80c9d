/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls as they are. */
#include "io/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

static int real_openat(int folder, const char *name, int flags, mode_t mode)
{
    return openat(folder, name, flags, mode);
}

const struct vgg__os vgg__os_real = {
    .openat = real_openat,
    .mkdirat = mkdirat,
    .flock = flock,
    .pread = pread,
    .write = write,
    .nanosleep = nanosleep,
    .fsync = fsync,
    .close = close,
    .renameat2 = renameat2,
    .unlinkat = unlinkat,
    .fchmod = fchmod,
    .fstat = fstat,
    .fstatat = fstatat,
};

const struct vgg__os *vgg__os = &vgg__os_real;

int vgg__openat(int folder, const char *name, int flags, mode_t mode)
{
    int fd;
    do {
        fd = vgg__os->openat(folder, name, flags, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

bool vgg__try_flock(int fd)
{
    int result;
    do result = vgg__os->flock(fd, LOCK_EX | LOCK_NB);
    while (result != 0 && errno == EINTR);
    return result == 0 || errno != EWOULDBLOCK;
}
