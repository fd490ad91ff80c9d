/* SPDX-License-Identifier: Apache-2.0 */
/* A tiny data set and loaders of it, for the scenarios of feed.c, train.c and store.c.
 */
#ifndef VGG_FAULT_FEED_H
#define VGG_FAULT_FEED_H

#include "injector.h"

#define FEED_COUNT 10 /* images of 1x8x8 in 3 classes: batches of 4, 4 and 2 */

/* The images, in world->images. */
vgg_status feed_images(struct world *world);

/* A data set of them, in world->data; makes the images if there are none. */
vgg_status feed_dataset(struct world *world);

/* A training loader of world->data, batches of 4, `prefetch` of them made ahead. */
vgg_status feed_loader(struct world *world, uint32_t prefetch, vgg_loader **out);

/* A new empty folder, in memory where the system has such a place: thousands of files
 * are flushed to it. */
void world_mkdtemp(char path[64]);

/* Path of an entry of world->dir, until the next call. */
const char *world_path(const struct world *world, const char *name);

/* Number of entries of world->dir. */
int world_entries(const struct world *world);

#endif
