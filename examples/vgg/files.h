/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a run directory: read whole, replaced whole. */
#ifndef FILES_H
#define FILES_H

#include "app.h"

/* `dir`/`name` into a buffer of `size` bytes; false if it does not fit. */
bool path_join(char *out, size_t size, const char *dir, const char *name);

bool is_folder(const char *path);
bool is_file(const char *path);

/* Why a path can't be used as a folder that is there; NULL: it can. */
const char *why_no_folder(const char *path);

/* Make a folder and those above it. 0, or STATUS_RUN. */
int make_folders(const char *path);

/* A text file as a string that ends with a zero byte, to be freed; NULL after saying
 * why. `length` may be NULL. */
char *file_read(const char *path, size_t *length);

/* A file that replaces `path` when it is whole: write to .file between the two
 * calls. */
struct new_file {
    FILE *file;
    char path[4096], beside[4096 + 8];
};

/* 0, or STATUS_RUN after saying why. file_commit() flushes to disk and renames; after a
 * failure of either the old file stands. */
int file_begin(struct new_file *f, const char *path);
int file_commit(struct new_file *f);

#endif
