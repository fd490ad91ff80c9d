/* SPDX-License-Identifier: Apache-2.0 */
/* Names of what is in a folder, sorted by their bytes: the same order whatever the file
 * system, and that of Python's sorted(). What begins with a dot is left out. */
#ifndef LISTING_H
#define LISTING_H

#include "app.h"

/* Zero it before use. */
struct names {
    char **at;
    size_t count, room;
};

/* Add a copy of a name. False: out of memory. */
bool names_add(struct names *names, const char *name);
/* The same of every line of a text. */
bool names_add_lines(struct names *names, const char *text);
void names_free(struct names *names);

/* Folders in a folder, or the pictures of it that this build reads; links are followed.
 * `others` counts what else there is. 0, or STATUS_RUN after saying why. */
int list_folders(const char *dir, struct names *out, uint64_t *others);
int list_pictures(const char *dir, struct names *out, uint64_t *others);

#endif
