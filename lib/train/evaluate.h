/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluation, for the trainer and the public functions. */
#ifndef VGG_LIB_EVALUATE_H
#define VGG_LIB_EVALUATE_H

#include <stdatomic.h>
#include <vgg/train.h>

#include "train/feed.h"

/* The loader's samples fit the model's input and its classes the output. */
vgg_status vgg__check_loader(const vgg_model *model, const char *what,
                             const vgg_loader *loader);

/* Run one epoch from its beginning and add to `metrics`. VGG_ECANCELED as soon as
 * *cancel is not 0; `cancel` may be NULL. */
vgg_status vgg__evaluate(vgg_plan *plan, struct vgg__feed *feed, vgg_metrics *metrics,
                         const atomic_int *cancel);

#endif
