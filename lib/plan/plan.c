/* SPDX-License-Identifier: Apache-2.0 */
/* Making and measuring plans. Every option, shape and size is checked here, so that an
 * engine may assume that they hold. */
#include "plan/plan.h"

#include <string.h>

#include "core/context.h"
#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "core/options.h"
#include "plan/lower.h"

/* Most elements of one activation of a whole batch: keeps all byte counts in 64
 * bits. */
#define MAX_ACTIVATION (UINT64_C(1) << 44)
#define MAX_TAPS       256

static vgg_status check_options(const vgg_plan_options *opts)
{
    if (opts->batch < 1 || opts->batch > INT32_MAX)
        return vgg__fail(VGG_EINVAL, "batch is %u; expected 1 to %d", opts->batch,
                         INT32_MAX);
    if (opts->mode > VGG_MODE_GRAD)
        return vgg__fail(VGG_EINVAL, "mode is %u; expected a vgg_mode, 0 to 2",
                         opts->mode);
    if (opts->precision > VGG_BF16)
        return vgg__fail(VGG_EINVAL,
                         "precision is %u; expected a vgg_precision, 0 to 3",
                         opts->precision);
    if (opts->input_gradient > 1)
        return vgg__fail(VGG_EINVAL, "input_gradient is %u; expected 0 or 1",
                         opts->input_gradient);
    if (opts->input_gradient && opts->mode == VGG_MODE_INFER)
        return vgg__fail(VGG_EINVAL, "an input gradient needs mode train or grad");
    if (opts->tap_count > 0 && opts->taps == NULL)
        return vgg__fail(VGG_EINVAL, "taps is NULL; expected %u names",
                         opts->tap_count);
    if (opts->tap_count > MAX_TAPS)
        return vgg__fail(VGG_EINVAL, "tap_count is %u; expected at most %d",
                         opts->tap_count, MAX_TAPS);
    if (opts->deterministic > 1)
        return vgg__fail(VGG_EINVAL, "deterministic is %u; expected 0 or 1",
                         opts->deterministic);
    if (opts->tap_gradients > 1)
        return vgg__fail(VGG_EINVAL, "tap_gradients is %u; expected 0 or 1",
                         opts->tap_gradients);
    if (opts->tap_gradients && (opts->mode == VGG_MODE_INFER || opts->tap_count == 0))
        return vgg__fail(VGG_EINVAL,
                         "tap_gradients needs taps, and mode train or grad");
    return VGG_OK;
}

static vgg_status check_weights(const vgg_plan_options *opts, const vgg_device *device)
{
    if (opts->weights != VGG_FP32 && opts->weights != VGG_BF16)
        return vgg__fail(VGG_EINVAL,
                         "weights is %u; expected VGG_FP32 (0) or VGG_BF16 (3)",
                         opts->weights);
    if (opts->weights == VGG_FP32) return VGG_OK;
    if (opts->mode != VGG_MODE_INFER)
        return vgg__fail(VGG_EINVAL, "weights in bf16 need mode infer");
    if (!(device->engine->abilities & VGG_CAN_BF16_WEIGHTS))
        return vgg__fail(VGG_EUNSUPPORTED,
                         "engine %s can't keep weights in bf16: that needs the engine "
                         "cpu",
                         device->engine->name);
    if (opts->precision != VGG_FP32)
        return vgg__fail(VGG_EUNSUPPORTED,
                         "weights in bf16 need precision fp32, found %u",
                         opts->precision);
    return VGG_OK;
}

static vgg_status check_sizes(const vgg_model *model, uint32_t batch)
{
    for (uint32_t i = 0; i < model->layer_count; i++) {
        const vgg_layer *layer = model->layers[i];
        uint64_t in = 0, out = 0;
        VGG_TRY(vgg_shape_count(&layer->in, &in));
        VGG_TRY(vgg_shape_count(&layer->out, &out));
        const uint64_t most = in > out ? in : out;
        if (most > MAX_ACTIVATION / batch)
            return vgg__fail(VGG_ELIMIT,
                             "%s: batch %u of %llu elements is over the limit of 2^44",
                             layer->name, batch, (unsigned long long)most);
    }
    return VGG_OK;
}

/* Read the options and lower the model: the part that needs no memory on the device. */
static vgg_status prepare(vgg_model *model, vgg_device *device,
                          const vgg_plan_options *given, vgg_plan_options *opts,
                          struct vgg__lowered **lowered)
{
    *lowered = NULL;
    *opts = (vgg_plan_options)VGG_PLAN_OPTIONS_INIT;
    VGG_TRY(vgg__options_read("vgg_plan_options", given,
                              VGG_SIZE_UP_TO(vgg_plan_options, max_bytes), opts,
                              sizeof *opts));
    VGG_TRY(check_options(opts));
    VGG_TRY(check_weights(opts, device));
    VGG_TRY(check_sizes(model, opts->batch));
    return vgg__lower(model, device, opts, lowered);
}

/* Elements of a sample that comes out of a stage. */
static uint64_t sample_count(const vgg_stage *stage)
{
    return (uint64_t)stage->out.c * stage->out.h * stage->out.w;
}

/* Bytes of gradients handed in by the caller, kept until backward: the output's, then
 * those of stages of taps, one after the other. */
static uint64_t handed_bytes(const vgg_model *model, const vgg_program_desc *desc)
{
    if (desc->mode == VGG_MODE_INFER || desc->step) return 0;
    uint64_t count = 0;
    vgg_shape_count(vgg_model_output_shape(model), &count);
    for (uint32_t i = 0; i < desc->stage_count; i++)
        if (desc->stages[i].kind == VGG_STAGE_TAP)
            count += sample_count(&desc->stages[i]);
    return count * desc->batch * sizeof(float);
}

/* A program that steps uses up each gradient at once: the store has none. */
static bool keeps_gradients(const vgg_program_desc *desc)
{
    return desc->mode != VGG_MODE_INFER && !desc->step;
}

static uint64_t store_bytes(const vgg_model *model, const vgg_program_desc *desc)
{
    const uint64_t element =
        desc->precision == VGG_FP64 ? sizeof(double) : sizeof(float);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < model->param_count; i++) {
        const vgg_param *param = model->params[i];
        bytes += param->count * element;
        if (keeps_gradients(desc) && param->trainable) bytes += param->count * element;
    }
    return bytes;
}

static vgg_status measure(const vgg_model *model, vgg_device *device,
                          uint64_t max_bytes, const struct vgg__lowered *lowered,
                          uint64_t *bytes)
{
    const vgg_program_desc *desc = &lowered->desc;
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = device->engine->measure(device->state, desc, bytes);
    vgg__fpmode_leave(mode);
    if (status != VGG_OK) return status;
    *bytes += handed_bytes(model, desc);
    if (max_bytes != 0 && *bytes > max_bytes)
        return vgg__fail(
            VGG_ELIMIT,
            "the plan needs %llu bytes, over max_bytes %llu: use a smaller "
            "batch (%u)",
            (unsigned long long)*bytes, (unsigned long long)max_bytes, desc->batch);
    return VGG_OK;
}

static vgg_status measure_all(vgg_model *model, vgg_device *device,
                              const vgg_plan_options *opts, uint64_t bytes[2])
{
    vgg_plan_options read;
    struct vgg__lowered *lowered;
    VGG_TRY(prepare(model, device, opts, &read, &lowered));
    const vgg_status status =
        measure(model, device, read.max_bytes, lowered, &bytes[0]);
    bytes[1] = store_bytes(model, &lowered->desc);
    vgg__lowered_free(lowered);
    return status;
}

vgg_status vgg_plan_measure(vgg_model *model, vgg_device *device,
                            const vgg_plan_options *opts, uint64_t *plan_bytes,
                            uint64_t *shared_bytes)
{
    uint64_t bytes[2] = {0, 0};
    if (plan_bytes != NULL) *plan_bytes = 0;
    if (shared_bytes != NULL) *shared_bytes = 0;
    VGG_REQUIRE(model != NULL && device != NULL);
    VGG_TRY(measure_all(model, device, opts, bytes));
    if (plan_bytes != NULL) *plan_bytes = bytes[0];
    if (shared_bytes != NULL) *shared_bytes = bytes[1];
    return VGG_OK;
}

static bool has_batch_norm(const vgg_model *model)
{
    for (uint32_t i = 0; i < model->layer_count; i++)
        if (model->layers[i]->kind == VGG_LAYER_BATCH_NORM) return true;
    return false;
}

/* Where the gradients of taps are handed in: one list of places, and one of those that
 * are set, by the number of the tap. */
static vgg_status place_taps(vgg_plan *plan)
{
    const vgg_program_desc *desc = &plan->lowered->desc;
    uint64_t at = 0;
    vgg_shape_count(vgg_model_output_shape(plan->model), &at);
    at *= desc->batch;
    plan->tap_places = vgg__calloc(plan->ctx, plan->opts.tap_count, sizeof(float *));
    plan->tap_gradients = vgg__calloc(plan->ctx, plan->opts.tap_count, sizeof(float *));
    if (plan->tap_places == NULL || plan->tap_gradients == NULL) return VGG_ENOMEM;
    for (uint32_t i = 0; i < desc->stage_count; i++) {
        const vgg_stage *stage = &desc->stages[i];
        if (stage->kind != VGG_STAGE_TAP) continue;
        plan->tap_places[stage->tap] = plan->handed + at;
        at += sample_count(stage) * desc->batch;
    }
    return VGG_OK;
}

/* The part of a plan that the device holds. */
static vgg_status compile(vgg_plan *plan)
{
    const vgg_program_desc *desc = &plan->lowered->desc;
    VGG_TRY(measure(plan->model, plan->device, plan->opts.max_bytes, plan->lowered,
                    &plan->bytes));
    VGG_TRY(vgg__store_acquire(plan->model, plan->device, plan->opts.precision,
                               keeps_gradients(desc), &plan->store));
    plan->holds_gradients = keeps_gradients(desc);
    if (plan->holds_gradients) {
        plan->handed = vgg__alloc(plan->ctx, handed_bytes(plan->model, desc));
        if (plan->handed == NULL) return VGG_ENOMEM;
    }
    struct vgg__error kept; /* a choice that fails is no failure of the whole */
    vgg__error_keep(&kept);
    VGG_TRY(plan->device->engine->compile(plan->device->state, plan->store->handle,
                                          desc, &plan->program));
    vgg__error_restore(&kept);
    plan->text = vgg__plan_text(plan);
    if (plan->opts.tap_gradients) VGG_TRY(place_taps(plan));
    return plan->text != NULL ? VGG_OK : VGG_ENOMEM;
}

static vgg_status create(vgg_model *model, vgg_device *device,
                         const vgg_plan_options *opts, bool step, vgg_plan **out)
{
    vgg_plan_options read;
    struct vgg__lowered *lowered;
    VGG_TRY(prepare(model, device, opts, &read, &lowered));
    lowered->desc.step = step;
    vgg_plan *plan = vgg__calloc(model->ctx, 1, sizeof *plan);
    if (plan == NULL) {
        vgg__lowered_free(lowered);
        return VGG_ENOMEM;
    }
    plan->ctx = vgg__context_ref(model->ctx);
    plan->model = vgg__model_ref(model);
    plan->device = vgg__device_ref(device);
    plan->lowered = lowered;
    plan->opts = read;
    plan->opts.taps = NULL; /* the caller's; lowered has the layers */
    plan->step = step;
    plan->has_batch_norm = has_batch_norm(model);
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = compile(plan);
    vgg__fpmode_leave(mode);
    if (status != VGG_OK) {
        vgg_plan_free(plan);
        return status;
    }
    model->sealed = true;
    *out = plan;
    return VGG_OK;
}

vgg_status vgg_plan_create(vgg_model *model, vgg_device *device,
                           const vgg_plan_options *opts, vgg_plan **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(model != NULL && device != NULL);
    return create(model, device, opts, false, out);
}

vgg_status vgg__plan_create_step(vgg_model *model, vgg_device *device,
                                 const vgg_plan_options *opts, vgg_plan **out)
{
    *out = NULL;
    return create(model, device, opts, true, out);
}

void vgg_plan_free(vgg_plan *plan)
{
    if (plan == NULL) return;
    if (plan->program != NULL) plan->device->engine->program_free(plan->program);
    vgg__store_release(plan->store, plan->holds_gradients);
    vgg__lowered_free(plan->lowered);
    vgg__free(plan->handed);
    vgg__free(plan->tap_places);
    vgg__free(plan->tap_gradients);
    vgg__free(plan->text);
    vgg_device_free(plan->device);
    vgg_model_free(plan->model);
    vgg_context *ctx = plan->ctx;
    vgg__free(plan);
    vgg__context_unref(ctx);
}

const char *vgg_plan_describe(const vgg_plan *plan)
{
    return plan != NULL ? plan->text : NULL;
}

uint64_t vgg_plan_bytes(const vgg_plan *plan)
{
    return plan != NULL ? plan->bytes : 0;
}
