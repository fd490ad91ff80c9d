/* SPDX-License-Identifier: Apache-2.0 */
/* The reference engine: the shortest correct loops for every stage, one stage a layer.
 *
 * Each file but engine.c is compiled twice, for float and for double. `real` is the
 * element type; the names below are what differs between the two. Sums are plain loops
 * in `real`, but statistics, bias gradients and the loss are summed in double.
 *
 * Activations are [n][c][h][w]. */
#ifndef VGG_REF_H
#define VGG_REF_H

#include "common/program.h"

#if VGG_REF_DOUBLE
typedef double real;
#define vgg__ref_stages        vgg__ref_stages_f64
#define vgg__ref_conv          vgg__ref_conv_f64
#define vgg__ref_batch_norm    vgg__ref_batch_norm_f64
#define vgg__ref_relu          vgg__ref_relu_f64
#define vgg__ref_pool          vgg__ref_pool_f64
#define vgg__ref_adaptive_pool vgg__ref_adaptive_pool_f64
#define vgg__ref_flatten       vgg__ref_flatten_f64
#define vgg__ref_linear        vgg__ref_linear_f64
#define vgg__ref_dropout       vgg__ref_dropout_f64
#define vgg__ref_loss          vgg__ref_loss_f64
#define vgg__ref_tap           vgg__ref_tap_f64
#else
typedef float real;
#define vgg__ref_stages        vgg__ref_stages_f32
#define vgg__ref_conv          vgg__ref_conv_f32
#define vgg__ref_batch_norm    vgg__ref_batch_norm_f32
#define vgg__ref_relu          vgg__ref_relu_f32
#define vgg__ref_pool          vgg__ref_pool_f32
#define vgg__ref_adaptive_pool vgg__ref_adaptive_pool_f32
#define vgg__ref_flatten       vgg__ref_flatten_f32
#define vgg__ref_linear        vgg__ref_linear_f32
#define vgg__ref_dropout       vgg__ref_dropout_f32
#define vgg__ref_loss          vgg__ref_loss_f32
#define vgg__ref_tap           vgg__ref_tap_f32
#endif

/* One a file; stages.c lists them by vgg_stage_kind. */
extern const struct vgg__stage_impl vgg__ref_conv;
extern const struct vgg__stage_impl vgg__ref_batch_norm;
extern const struct vgg__stage_impl vgg__ref_relu;
extern const struct vgg__stage_impl vgg__ref_pool;
extern const struct vgg__stage_impl vgg__ref_adaptive_pool;
extern const struct vgg__stage_impl vgg__ref_flatten;
extern const struct vgg__stage_impl vgg__ref_linear;
extern const struct vgg__stage_impl vgg__ref_dropout;
extern const struct vgg__stage_impl vgg__ref_loss;
extern const struct vgg__stage_impl vgg__ref_tap;
extern const struct vgg__stage_impl *const vgg__ref_stages[VGG_STAGE_KINDS];

#endif
