/* SPDX-License-Identifier: Apache-2.0 */
/* Images that have been made once and need not be made again, as far as there is room.
 * Several threads may take and give at once. */
#ifndef KEPT_H
#define KEPT_H

#include "app.h"

struct kept;

/* Room for the first images of `count`, of `bytes` each, in at most `*room` bytes,
 * which becomes less. NULL where there is none: that keeps nothing. */
struct kept *kept_open(uint64_t count, size_t bytes, uint64_t *room);
void kept_close(struct kept *kept);

/* Copy an image out; false: it is not there. */
bool kept_take(const struct kept *kept, uint64_t index, uint8_t *image);
void kept_give(struct kept *kept, uint64_t index, const uint8_t *image);

#endif
