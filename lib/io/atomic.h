/* SPDX-License-Identifier: Apache-2.0 */
/* Files and folders that appear whole or not at all.
 *
 * What is written gets a temporary name of its own beside its place,
 * `.<name>.new-<process>-<save>-<time>`, and is flushed to disk before it takes its
 * name by a rename; then the parent folder is flushed. The writer holds a lock (flock)
 * on what it writes, so the next save knows the leftovers of a killed process from the
 * work of a living one, and removes the former: what has exactly a temporary name, is
 * this user's and holds nothing that no save writes. Saves of a folder take turns, by a
 * lock of their own beside it (lock.h), where they look at what is there and where they
 * change it.
 *
 * The last component of a path is never followed if it is a symbolic link: a file
 * replaces the link itself, a folder refuses it. What replaces another has its
 * permissions, and no more than these while it is written (but the owner's own); its
 * owner and group are those of anything new. Other hard links keep the old content.
 *
 * A failed fsync() is never tried again: the kernel may have dropped the pages. */
#ifndef VGG_IO_ATOMIC_H
#define VGG_IO_ATOMIC_H

#include "io/sha256.h"

#include <stdbool.h>
#include <sys/types.h>
#include <vgg/common.h>

#define VGG_FILE_NAME_SIZE 256 /* a file's name with its final zero (NAME_MAX + 1) */

/* A new file: counted and, if wanted, hashed. */
struct vgg__out {
    int fd;            /* -1: none */
    const char *shown; /* for error texts, borrowed */
    uint64_t size;     /* bytes written */
    bool hashed;
    struct vgg__sha256 hash;
};

void vgg__out_begin(struct vgg__out *out, int fd, const char *shown);
vgg_status vgg__out_write(struct vgg__out *out, const void *data, size_t size);

/* Flush to disk and close. The file is closed also when this fails. */
vgg_status vgg__out_finish(struct vgg__out *out);

/* Close without a look. */
void vgg__out_abandon(struct vgg__out *out);

/* The files that a folder may have in it, borrowed. The first is always there. */
struct vgg__names {
    const char *const *names;
    uint32_t count; /* 0: it is no folder that is saved */
};

/* A place in a parent folder, and the names that saving to it needs. */
struct vgg__place {
    int parent;        /* fd */
    const char *shown; /* the path for error texts, borrowed */
    struct vgg__names known;
    char name[VGG_FILE_NAME_SIZE];  /* the last component */
    char stem[VGG_FILE_NAME_SIZE];  /* ".<name>." */
    char temp[VGG_FILE_NAME_SIZE];  /* what is being written; "": nothing */
    char third[VGG_FILE_NAME_SIZE]; /* an old folder, between two renames */
    char lock_name[VGG_FILE_NAME_SIZE];
    int lock;      /* fd; -1: not taken */
    bool lock_own; /* the lock's file is this user's */
    bool replaces; /* there was an older one at the beginning, */
    mode_t mode;   /* with these permissions */
};

/* A file. begin, vgg__out_write(&file->out), commit; abort() ends it without effect and
 * does nothing after a commit or a failed begin. When a commit fails, the file at
 * `path` is the old one, or, if only the parent could not be flushed, the new one:
 * whole. */
struct vgg__atomic_file {
    struct vgg__place place;
    struct vgg__out out;
};

vgg_status vgg__atomic_file_begin(struct vgg__atomic_file *file, const char *path);
vgg_status vgg__atomic_file_commit(struct vgg__atomic_file *file);
void vgg__atomic_file_abort(struct vgg__atomic_file *file);

/* A folder of files. begin, vgg__atomic_folder_create() for each, commit or abort.
 * begin fails with VGG_EMISMATCH unless there is nothing at `path`, an empty folder, or
 * one that has `names[0]` and nothing but files of these names: an older one, which is
 * replaced. When a commit fails, the old one is at its place. */
struct vgg__atomic_folder {
    struct vgg__place place;
    int fd; /* of the new folder */
};

vgg_status vgg__atomic_folder_begin(struct vgg__atomic_folder *folder, const char *path,
                                    const char *const *names, uint32_t count);
/* Make one of its files. VGG_EIO. */
vgg_status vgg__atomic_folder_create(struct vgg__atomic_folder *folder,
                                     const char *name, struct vgg__out *out);

vgg_status vgg__atomic_folder_commit(struct vgg__atomic_folder *folder);
void vgg__atomic_folder_abort(struct vgg__atomic_folder *folder);

/* Open a folder to read it; where a commit was killed between two renames, the old one
 * by its third name. *fd is the caller's to close. VGG_EIO, VGG_EMISMATCH (a link). */
vgg_status vgg__atomic_folder_open(const char *path, int *fd);

/* Has a save put another folder in the place of what was opened? Its files may be gone
 * then. */
bool vgg__atomic_folder_replaced(const char *path, int fd);

#endif
