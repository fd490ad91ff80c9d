/* SPDX-License-Identifier: Apache-2.0 */
/* What callers compile in, as numbers: size of every public struct, place and size of
 * its members, values of all enumerators. A line here that no longer holds means that
 * programs linked against an older library break: VGG_ABI_VERSION must change with it.
 *
 * FROZEN structs never change. SIZED ones may grow at their end; their line keeps the
 * size of the first release, below which options are refused. coverage.py sees to it
 * that nothing is missing. All of it holds at compile time, so there is nothing to
 * run. */
#include <vgg/vgg.h>

_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8,
               "the numbers are those of LP64");

#define FROZEN(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#define SIZED(type, first)  _Static_assert(sizeof(type) >= (first), #type)
#define FIELD(type, member, place, bytes)                                              \
    _Static_assert(offsetof(type, member) == (place) &&                                \
                       sizeof(((type *)0)->member) == (bytes),                         \
                   #type "." #member)
#define VALUE(name, number) _Static_assert((name) == (number), #name)

/* ---- context.h ------------------------------------------------------------------ */

FROZEN(vgg_allocator, 24);
FIELD(vgg_allocator, cookie, 0, 8);
FIELD(vgg_allocator, alloc, 8, 8);
FIELD(vgg_allocator, release, 16, 8);

FROZEN(vgg_logger, 16);
FIELD(vgg_logger, cookie, 0, 8);
FIELD(vgg_logger, log, 8, 8);

SIZED(vgg_context_options, 48);
FIELD(vgg_context_options, size, 0, 8);
FIELD(vgg_context_options, allocator, 8, 8);
FIELD(vgg_context_options, logger, 16, 8);
FIELD(vgg_context_options, max_bytes, 24, 8);
FIELD(vgg_context_options, threads, 32, 4);
FIELD(vgg_context_options, gemm, 36, 4);
FIELD(vgg_context_options, blas, 40, 4);
FIELD(vgg_context_options, conv, 44, 4);
FIELD(vgg_context_options, plugin_dir, 48, 8);

/* ---- tensor.h ------------------------------------------------------------------- */

FROZEN(vgg_shape, 32);
FIELD(vgg_shape, rank, 0, 4);
FIELD(vgg_shape, dim, 4, 28);

/* ---- arch.h --------------------------------------------------------------------- */

FROZEN(vgg_block, 12);
FIELD(vgg_block, convs, 0, 4);
FIELD(vgg_block, channels, 4, 4);
FIELD(vgg_block, pointwise, 8, 4);

SIZED(vgg_arch, 240);
FIELD(vgg_arch, size, 0, 8);
FIELD(vgg_arch, block_count, 8, 4);
FIELD(vgg_arch, blocks, 12, 192);
FIELD(vgg_arch, channels, 204, 4);
FIELD(vgg_arch, height, 208, 4);
FIELD(vgg_arch, width, 212, 4);
FIELD(vgg_arch, classes, 216, 4);
FIELD(vgg_arch, hidden, 220, 4);
FIELD(vgg_arch, dropout, 224, 4);
FIELD(vgg_arch, head, 228, 4);
FIELD(vgg_arch, pool, 232, 4);
FIELD(vgg_arch, batch_norm, 236, 4);

/* ---- model.h -------------------------------------------------------------------- */

SIZED(vgg_model_options, 24);
FIELD(vgg_model_options, size, 0, 8);
FIELD(vgg_model_options, seed, 8, 8);
FIELD(vgg_model_options, init, 16, 4);
FIELD(vgg_model_options, reserved, 20, 4);

/* ---- plan.h --------------------------------------------------------------------- */

SIZED(vgg_plan_options, 56);
FIELD(vgg_plan_options, size, 0, 8);
FIELD(vgg_plan_options, taps, 8, 8);
FIELD(vgg_plan_options, tap_count, 16, 4);
FIELD(vgg_plan_options, batch, 20, 4);
FIELD(vgg_plan_options, mode, 24, 4);
FIELD(vgg_plan_options, precision, 28, 4);
FIELD(vgg_plan_options, input_gradient, 32, 4);
FIELD(vgg_plan_options, deterministic, 36, 4);
FIELD(vgg_plan_options, max_bytes, 40, 8);
FIELD(vgg_plan_options, weights, 48, 4);
FIELD(vgg_plan_options, tap_gradients, 52, 4);

SIZED(vgg_optimizer, 56);
FIELD(vgg_optimizer, size, 0, 8);
FIELD(vgg_optimizer, kind, 8, 4);
FIELD(vgg_optimizer, nesterov, 12, 4);
FIELD(vgg_optimizer, momentum, 16, 8);
FIELD(vgg_optimizer, weight_decay, 24, 8);
FIELD(vgg_optimizer, beta1, 32, 8);
FIELD(vgg_optimizer, beta2, 40, 8);
FIELD(vgg_optimizer, epsilon, 48, 8);

FROZEN(vgg_stage_info, 136);
FIELD(vgg_stage_info, name, 0, 8);
FIELD(vgg_stage_info, kind, 8, 8);
FIELD(vgg_stage_info, algorithm, 16, 8);
FIELD(vgg_stage_info, in, 24, 32);
FIELD(vgg_stage_info, out, 56, 32);
FIELD(vgg_stage_info, forward_flops, 88, 8);
FIELD(vgg_stage_info, backward_flops, 96, 8);
FIELD(vgg_stage_info, forward_bytes, 104, 8);
FIELD(vgg_stage_info, backward_bytes, 112, 8);
FIELD(vgg_stage_info, kept_bytes, 120, 8);
FIELD(vgg_stage_info, scratch_bytes, 128, 8);

FROZEN(vgg_stage_time, 24);
FIELD(vgg_stage_time, forward, 0, 8);
FIELD(vgg_stage_time, backward, 8, 8);
FIELD(vgg_stage_time, prepare, 16, 8);

FROZEN(vgg_plan_time, 80);
FIELD(vgg_plan_time, forwards, 0, 8);
FIELD(vgg_plan_time, losses, 8, 8);
FIELD(vgg_plan_time, backwards, 16, 8);
FIELD(vgg_plan_time, updates, 24, 8);
FIELD(vgg_plan_time, input, 32, 8);
FIELD(vgg_plan_time, prepare, 40, 8);
FIELD(vgg_plan_time, forward, 48, 8);
FIELD(vgg_plan_time, loss, 56, 8);
FIELD(vgg_plan_time, backward, 64, 8);
FIELD(vgg_plan_time, update, 72, 8);

/* ---- data.h --------------------------------------------------------------------- */

FROZEN(vgg_source, 48);
FIELD(vgg_source, cookie, 0, 8);
FIELD(vgg_source, count, 8, 8);
FIELD(vgg_source, channels, 16, 4);
FIELD(vgg_source, height, 20, 4);
FIELD(vgg_source, width, 24, 4);
FIELD(vgg_source, classes, 28, 4);
FIELD(vgg_source, read, 32, 8);
FIELD(vgg_source, close, 40, 8);

SIZED(vgg_transform, 72);
FIELD(vgg_transform, size, 0, 8);
FIELD(vgg_transform, resize_height, 8, 4);
FIELD(vgg_transform, resize_width, 12, 4);
FIELD(vgg_transform, resize_rule, 16, 4);
FIELD(vgg_transform, crop_height, 20, 4);
FIELD(vgg_transform, crop_width, 24, 4);
FIELD(vgg_transform, shift, 28, 4);
FIELD(vgg_transform, flip, 32, 4);
FIELD(vgg_transform, erase, 36, 4);
FIELD(vgg_transform, mean, 40, 16);
FIELD(vgg_transform, std, 56, 16);

SIZED(vgg_loader_options, 40);
FIELD(vgg_loader_options, size, 0, 8);
FIELD(vgg_loader_options, transform, 8, 8);
FIELD(vgg_loader_options, seed, 16, 8);
FIELD(vgg_loader_options, batch, 24, 4);
FIELD(vgg_loader_options, train, 28, 4);
FIELD(vgg_loader_options, drop_last, 32, 4);
FIELD(vgg_loader_options, prefetch, 36, 4);

FROZEN(vgg_batch, 40);
FIELD(vgg_batch, images, 0, 8);
FIELD(vgg_batch, labels, 8, 8);
FIELD(vgg_batch, count, 16, 4);
FIELD(vgg_batch, reserved, 20, 4);
FIELD(vgg_batch, epoch, 24, 8);
FIELD(vgg_batch, index, 32, 8);

/* ---- metrics.h ------------------------------------------------------------------ */

FROZEN(vgg_class_metrics, 32);
FIELD(vgg_class_metrics, precision, 0, 8);
FIELD(vgg_class_metrics, recall, 8, 8);
FIELD(vgg_class_metrics, f1, 16, 8);
FIELD(vgg_class_metrics, support, 24, 8);

/* ---- train.h -------------------------------------------------------------------- */

SIZED(vgg_schedule, 80);
FIELD(vgg_schedule, size, 0, 8);
FIELD(vgg_schedule, kind, 8, 4);
FIELD(vgg_schedule, step_epochs, 12, 4);
FIELD(vgg_schedule, gamma, 16, 8);
FIELD(vgg_schedule, min_lr, 24, 8);
FIELD(vgg_schedule, warmup_epochs, 32, 8);
FIELD(vgg_schedule, milestone_count, 40, 4);
FIELD(vgg_schedule, milestones, 44, 32);
FIELD(vgg_schedule, reserved, 76, 4);

SIZED(vgg_trainer_options, 72);
FIELD(vgg_trainer_options, size, 0, 8);
FIELD(vgg_trainer_options, optimizer, 8, 8);
FIELD(vgg_trainer_options, schedule, 16, 8);
FIELD(vgg_trainer_options, lr, 24, 8);
FIELD(vgg_trainer_options, clip_norm, 32, 8);
FIELD(vgg_trainer_options, seed, 40, 8);
FIELD(vgg_trainer_options, steps_per_epoch, 48, 8);
FIELD(vgg_trainer_options, epochs, 56, 4);
FIELD(vgg_trainer_options, batch, 60, 4);
FIELD(vgg_trainer_options, accumulate, 64, 4);
FIELD(vgg_trainer_options, label_smoothing, 68, 4);
FIELD(vgg_trainer_options, precision, 72, 4);
FIELD(vgg_trainer_options, deterministic, 76, 4);

FROZEN(vgg_progress, 112);
FIELD(vgg_progress, epoch, 0, 8);
FIELD(vgg_progress, batch, 8, 8);
FIELD(vgg_progress, batches, 16, 8);
FIELD(vgg_progress, step, 24, 8);
FIELD(vgg_progress, seen, 32, 8);
FIELD(vgg_progress, correct, 40, 8);
FIELD(vgg_progress, loss_sum, 48, 8);
FIELD(vgg_progress, batch_loss, 56, 8);
FIELD(vgg_progress, lr, 64, 8);
FIELD(vgg_progress, gradient_norm, 72, 8);
FIELD(vgg_progress, test_loss, 80, 8);
FIELD(vgg_progress, test_accuracy, 88, 8);
FIELD(vgg_progress, best_accuracy, 96, 8);
FIELD(vgg_progress, best_epoch, 104, 8);

FROZEN(vgg_callbacks, 24);
FIELD(vgg_callbacks, cookie, 0, 8);
FIELD(vgg_callbacks, on_batch, 8, 8);
FIELD(vgg_callbacks, on_epoch, 16, 8);

/* ---- weights.h ------------------------------------------------------------------ */

SIZED(vgg_weights_options, 24);
FIELD(vgg_weights_options, size, 0, 8);
FIELD(vgg_weights_options, allow_missing, 8, 4);
FIELD(vgg_weights_options, allow_extra, 12, 4);
FIELD(vgg_weights_options, allow_infinite, 16, 4);
FIELD(vgg_weights_options, allow_reshaped, 20, 4);

/* ---- Numbers -------------------------------------------------------------------- */

VALUE(VGG_OK, 0);
VALUE(VGG_EINVAL, -1);
VALUE(VGG_ENOMEM, -2);
VALUE(VGG_ESHAPE, -3);
VALUE(VGG_EUNSUPPORTED, -4);
VALUE(VGG_EDEVICE, -5);
VALUE(VGG_EIO, -6);
VALUE(VGG_EFORMAT, -7);
VALUE(VGG_ETRUNCATED, -8);
VALUE(VGG_ELIMIT, -9);
VALUE(VGG_EMISMATCH, -10);
VALUE(VGG_ECHECKSUM, -11);
VALUE(VGG_ESTATE, -12);
VALUE(VGG_ECANCELED, -13);
VALUE(VGG_ENONFINITE, -14);

VALUE(VGG_LOG_DEBUG, 0);
VALUE(VGG_LOG_INFO, 1);
VALUE(VGG_LOG_WARNING, 2);
VALUE(VGG_GEMM_AUTO, 0);
VALUE(VGG_GEMM_OPENBLAS, 1);
VALUE(VGG_GEMM_OWN, 2);
VALUE(VGG_CONV_AUTO, 0);
VALUE(VGG_CONV_COLUMNS, 1);
VALUE(VGG_CONV_WINOGRAD2, 2);
VALUE(VGG_CONV_WINOGRAD4, 3);
VALUE(VGG_CONV_MEASURED, 4);
VALUE(VGG_BLAS_LEAVE, 0);
VALUE(VGG_BLAS_TAKE, 1);

VALUE(VGG_F32, 0);
VALUE(VGG_F64, 1);
VALUE(VGG_U8, 2);
VALUE(VGG_I32, 3);
VALUE(VGG_I64, 4);

VALUE(VGG_HEAD_FLATTEN, 0);
VALUE(VGG_HEAD_ADAPTIVE, 1);
VALUE(VGG_HEAD_GAP, 2);
VALUE(VGG_HEAD_NONE, 3);
VALUE(VGG_POOL_MAX, 0);
VALUE(VGG_POOL_AVERAGE, 1);

VALUE(VGG_LAYER_CONV, 0);
VALUE(VGG_LAYER_BATCH_NORM, 1);
VALUE(VGG_LAYER_RELU, 2);
VALUE(VGG_LAYER_POOL, 3);
VALUE(VGG_LAYER_ADAPTIVE_POOL, 4);
VALUE(VGG_LAYER_FLATTEN, 5);
VALUE(VGG_LAYER_LINEAR, 6);
VALUE(VGG_LAYER_DROPOUT, 7);

VALUE(VGG_INIT_XAVIER, 0);
VALUE(VGG_INIT_TORCHVISION, 1);
VALUE(VGG_INIT_HE, 2);

VALUE(VGG_MODE_INFER, 0);
VALUE(VGG_MODE_TRAIN, 1);
VALUE(VGG_MODE_GRAD, 2);
VALUE(VGG_FP32, 0);
VALUE(VGG_FP64, 1);
VALUE(VGG_TF32, 2);
VALUE(VGG_BF16, 3);
VALUE(VGG_SGD, 0);
VALUE(VGG_ADAM, 1);
VALUE(VGG_ADAMW, 2);

VALUE(VGG_FIT_COVER, 0);
VALUE(VGG_FIT_STRETCH, 1);
VALUE(VGG_RESIZE_OPENCV, 0);
VALUE(VGG_RESIZE_EXACT, 1);
VALUE(VGG_RESIZE_PILLOW, 2);

VALUE(VGG_AVERAGE_MACRO, 0);
VALUE(VGG_AVERAGE_WEIGHTED, 1);

VALUE(VGG_SCHEDULE_CONSTANT, 0);
VALUE(VGG_SCHEDULE_STEP, 1);
VALUE(VGG_SCHEDULE_MULTISTEP, 2);
VALUE(VGG_SCHEDULE_COSINE, 3);

FROZEN(vgg_status, 4);
FROZEN(vgg_dtype, 4);
FROZEN(vgg_log_level, 4);
FROZEN(vgg_pool_kind, 4);
FROZEN(vgg_layer_kind, 4);
FROZEN(vgg_init, 4);
FROZEN(vgg_average, 4);

int main(void)
{
    return 0;
}
