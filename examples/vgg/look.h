/* SPDX-License-Identifier: Apache-2.0 */
/* From a picture's file to an image of the size that a network's preprocessing begins
 * with. */
#ifndef LOOK_H
#define LOOK_H

#include "app.h"
#include "picture.h"

struct look {
    vgg_context *ctx;
    uint32_t channels, height, width; /* of the images; channels: 1 or 3 */
    uint32_t fit, rule;               /* a vgg_fit, a vgg_resize_rule */
    uint64_t *room; /* bytes that data sets may keep images in; NULL: none */
};

/* Read a picture into u8 [c][h][w]. 0, or -1 with the reason as a line that does not
 * name the file. Any number of calls at once. */
int look_at(const struct look *look, const char *path, uint8_t *image,
            char why[PICTURE_WHY]);

#endif
