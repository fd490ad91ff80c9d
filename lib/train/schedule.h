/* SPDX-License-Identifier: Apache-2.0 */
/* The schedule to use: defaults for NULL, every field checked. */
#ifndef VGG_LIB_SCHEDULE_H
#define VGG_LIB_SCHEDULE_H

#include <vgg/train.h>

vgg_status vgg__schedule_read(const vgg_schedule *given, vgg_schedule *out);

/* A cosine does not end above the rate where it begins. */
vgg_status vgg__schedule_fits(const vgg_schedule *schedule, double lr);

#endif
