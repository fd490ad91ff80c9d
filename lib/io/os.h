/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls that reading weights and writing files are made of, as a table.
 *
 * The library never changes the table; a test puts one of its own in its place to make
 * the n-th call fail, be interrupted or do half of its work. */
#ifndef VGG_IO_OS_H
#define VGG_IO_OS_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

struct vgg__os {
    int (*openat)(int folder, const char *name, int flags, mode_t mode);
    int (*mkdirat)(int folder, const char *name, mode_t mode);
    int (*flock)(int fd, int operation);
    ssize_t (*pread)(int fd, void *data, size_t size, off_t offset);
    ssize_t (*write)(int fd, const void *data, size_t size);
    int (*nanosleep)(const struct timespec *time, struct timespec *left);
    int (*fsync)(int fd);
    int (*close)(int fd);
    int (*renameat2)(int from_folder, const char *from, int to_folder, const char *to,
                     unsigned flags);
    int (*unlinkat)(int folder, const char *name, int flags);
    int (*fchmod)(int fd, mode_t mode);
    int (*fstat)(int fd, struct stat *out);
    int (*fstatat)(int folder, const char *name, struct stat *out, int flags);
};

extern const struct vgg__os vgg__os_real;
extern const struct vgg__os *vgg__os; /* &vgg__os_real */

/* openat() of the table, again when a signal interrupts it. Whatever lib opens in a
 * folder is opened by this. */
int vgg__openat(int folder, const char *name, int flags, mode_t mode);

/* flock() of the table without waiting, likewise. False: somebody else has the lock. A
 * file system without locks goes without. */
bool vgg__try_flock(int fd);

#endif
