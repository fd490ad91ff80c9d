/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures of one's own as a data set: a folder a class, named after it, and in it the
 * class's pictures. Samples are in the order of their names, class after class. */
#ifndef FOLDER_H
#define FOLDER_H

#include "look.h"

struct folder_found {
    uint64_t names; /* a hash of the samples' names */
    uint64_t
        others; /* files in the classes' folders that are no pictures to this build,
                        folders among them */
};

/* Open such a folder. `classes` are the names of the classes, a line each, of which the
 * folder may lack some; NULL: the folders that there are, each with a picture or more.
 * 0, or STATUS_RUN after saying why. */
int folder_open(const struct look *look, const char *dir, const char *classes,
                struct folder_found *about, vgg_dataset **out);

#endif
