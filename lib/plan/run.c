/* SPDX-License-Identifier: Apache-2.0 */
/* Running a plan: its phases, what goes in and what comes out. Gradients and values of
 * parameters are gradients.c's and store.c's.
 *
 * Every call enters the default floating-point mode and leaves the caller's as it
 * was. */
#include <math.h>
#include <string.h>

#include "core/error.h"
#include "core/fpmode.h"
#include "plan/lower.h"
#include "plan/plan.h"
#include "plan/resident.h"
#include "tensor/tensor.h"

static const vgg_engine *engine_of(const vgg_plan *plan)
{
    return plan->device->engine;
}

/* A tensor must be [n][...sample]; n is returned, 1 .. batch. */
static vgg_status check_batch(const vgg_plan *plan, const char *what,
                              const vgg_tensor *tensor, const vgg_shape *sample,
                              uint32_t *n)
{
    const vgg_shape *shape = vgg_tensor_shape(tensor);
    vgg_shape one = {sample->rank + 1, {shape->rank > 0 ? shape->dim[0] : 0}};
    memcpy(one.dim + 1, sample->dim, sample->rank * sizeof one.dim[0]);
    if (!vgg__shape_equal(shape, &one)) {
        char found[64], expected[64];
        vgg_shape_text(shape, found, sizeof found);
        vgg_shape_text(sample, expected, sizeof expected);
        return vgg__fail(VGG_ESHAPE, "%s is %s; expected nx%s", what, found, expected);
    }
    if (shape->dim[0] < 1 || shape->dim[0] > plan->opts.batch)
        return vgg__fail(VGG_ESHAPE, "%s has %u samples; the plan takes 1 to %u", what,
                         shape->dim[0], plan->opts.batch);
    *n = shape->dim[0];
    return VGG_OK;
}

/* An output must be real and [n][...sample] for the run's n. */
static vgg_status check_output(const vgg_plan *plan, const char *what,
                               const vgg_tensor *tensor, const vgg_shape *sample,
                               uint32_t count)
{
    if (!vgg__is_real(tensor))
        return vgg__fail(VGG_EINVAL, "%s is %s; expected f32 or f64", what,
                         vgg_dtype_name(vgg_tensor_dtype(tensor)));
    uint32_t n = 0;
    VGG_TRY(check_batch(plan, what, tensor, sample, &n));
    if (n != count)
        return vgg__fail(VGG_ESHAPE, "%s has %u samples; the run has %u", what, n,
                         count);
    return VGG_OK;
}

static vgg_status read_view(vgg_plan *plan, vgg_view view, uint32_t index,
                            vgg_tensor *out)
{
    const uint64_t mode = vgg__fpmode_enter(); /* f64 values may be rounded */
    const vgg_status status = engine_of(plan)->read(
        plan->program, view, index, vgg_tensor_data(out), vgg_tensor_dtype(out));
    vgg__fpmode_leave(mode);
    return status;
}

vgg_status vgg_plan_set_step(vgg_plan *plan, uint64_t seed, uint64_t step,
                             uint32_t first)
{
    VGG_REQUIRE(plan != NULL);
    plan->run.seed = seed;
    plan->run.step = step;
    plan->run.first = first;
    return VGG_OK;
}

static vgg_status forward(vgg_plan *plan, vgg_tensor *output)
{
    VGG_TRY(vgg__store_refresh(plan->store));
    VGG_TRY(engine_of(plan)->run(plan->program, VGG_PHASE_FORWARD, &plan->run));
    plan->spent.forwards++;
    if (plan->has_batch_norm && plan->opts.mode == VGG_MODE_TRAIN) {
        vgg__store_touched(plan->store);
        plan->model->batches_tracked++;
    }
    plan->has_output = true;
    if (output == NULL) return VGG_OK;
    return read_view(plan, VGG_VIEW_OUTPUT, 0, output);
}

static void clear_taps(vgg_plan *plan)
{
    for (uint32_t i = 0; plan->opts.tap_gradients && i < plan->opts.tap_count; i++)
        plan->tap_gradients[i] = NULL;
}

/* A run of `n` samples on an input that the plan's run names. */
static vgg_status begin_forward(vgg_plan *plan, const vgg_run *input,
                                vgg_tensor *output)
{
    if (output != NULL)
        VGG_TRY(check_output(plan, "output", output,
                             vgg_model_output_shape(plan->model), input->count));
    plan->run.count = input->count; /* a refused call leaves the last run's results */
    plan->has_output = plan->has_gradient = plan->has_back_gradients = false;
    plan->consumed = false;
    clear_taps(plan);
    plan->run.input = input->input;
    plan->run.data = input->data;
    plan->run.samples = input->samples;

    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = forward(plan, output);
    vgg__fpmode_leave(mode);
    return status;
}

vgg_status vgg_plan_forward(vgg_plan *plan, const vgg_tensor *input, vgg_tensor *output)
{
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(input != NULL);
    if (vgg_tensor_dtype(input) != VGG_F32)
        return vgg__fail(VGG_EINVAL, "input is %s; expected f32",
                         vgg_dtype_name(vgg_tensor_dtype(input)));
    uint32_t n = 0;
    VGG_TRY(check_batch(plan, "input", input, vgg_model_input_shape(plan->model), &n));
    const vgg_run run = {.count = n, .input = vgg_tensor_data_const(input)};
    return begin_forward(plan, &run, output);
}

vgg_status vgg__plan_forward_samples(vgg_plan *plan,
                                     const struct vgg__resident *resident,
                                     const vgg_sample *samples, uint32_t count,
                                     vgg_tensor *output)
{
    if (count < 1 || count > plan->opts.batch)
        return vgg__fail(VGG_ESHAPE, "%u samples; the plan takes 1 to %u", count,
                         plan->opts.batch);
    const vgg_run run = {.count = count, .data = resident->handle, .samples = samples};
    return begin_forward(plan, &run, output);
}

static vgg_status check_labels(const vgg_plan *plan, const uint32_t *labels)
{
    const vgg_shape *shape = vgg_model_output_shape(plan->model);
    if (shape->rank != 1)
        return vgg__fail(VGG_ESTATE,
                         "the loss needs a flat output; this one has %u axes",
                         shape->rank);
    for (uint32_t i = 0; i < plan->run.count; i++)
        if (labels[i] >= shape->dim[0])
            return vgg__fail(VGG_EINVAL, "label %u is %u; expected below %u", i,
                             labels[i], shape->dim[0]);
    return VGG_OK;
}

/* What a loss phase has left behind. */
struct loss {
    vgg_run run;
    double sum;
    uint32_t correct;
};

static void begin_loss(const vgg_plan *plan, const uint32_t *labels, float smoothing,
                       float scale, struct loss *loss)
{
    *loss = (struct loss){.run = plan->run};
    loss->run.labels = labels;
    loss->run.smoothing = smoothing;
    loss->run.scale = scale;
    loss->run.loss_sum = &loss->sum;
    loss->run.correct = &loss->correct;
}

/* What the phase has given, in the mode in which it computed; its status in the
 * caller's words where the loss is not finite. */
static vgg_status end_loss(vgg_plan *plan, const struct loss *loss, vgg_status status,
                           double *mean, uint32_t *correct)
{
    if (status != VGG_OK && status != VGG_ENONFINITE) return status;
    plan->spent.losses++;
    if (status == VGG_OK && isfinite(loss->sum)) {
        if (mean != NULL) *mean = loss->sum / loss->run.count;
        if (correct != NULL) *correct = loss->correct;
        return VGG_OK;
    }
    return vgg__fail(VGG_ENONFINITE,
                     "the loss is not finite (%s): weights or input have grown out "
                     "of range",
                     isnan(loss->sum) ? "nan" : "inf");
}

vgg_status vgg_plan_loss(vgg_plan *plan, const uint32_t *labels, float smoothing,
                         float scale, double *loss, uint32_t *correct)
{
    if (loss != NULL) *loss = 0.0;
    if (correct != NULL) *correct = 0;
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(labels != NULL);
    VGG_REQUIRE(smoothing >= 0.0f && smoothing < 1.0f);
    VGG_REQUIRE(isfinite(scale));
    if (!plan->has_output) return vgg__fail(VGG_ESTATE, "no forward was run before");
    VGG_TRY(check_labels(plan, labels));

    struct loss found;
    begin_loss(plan, labels, smoothing, scale, &found);
    const uint64_t mode = vgg__fpmode_enter();
    vgg_status status = engine_of(plan)->run(plan->program, VGG_PHASE_LOSS, &found.run);
    status = end_loss(plan, &found, status, loss, correct);
    vgg__fpmode_leave(mode);
    plan->has_gradient = false;
    VGG_TRY(status);
    plan->has_gradient = plan->opts.mode != VGG_MODE_INFER && !plan->consumed;
    plan->output_gradient = NULL;
    return VGG_OK;
}

vgg_status vgg__plan_step(vgg_plan *plan, const uint32_t *labels, float smoothing,
                          const vgg_update *update, double *loss, uint32_t *correct)
{
    if (!plan->step || !plan->has_output || plan->consumed)
        return vgg__fail(VGG_ESTATE, "a step needs a plan made for it, and a forward "
                                     "before it, each time");
    VGG_TRY(check_labels(plan, labels));
    struct loss found;
    begin_loss(plan, labels, smoothing, 1.0f, &found);
    found.run.update = update;
    const uint64_t mode = vgg__fpmode_enter();
    vgg_status status = vgg__store_refresh(plan->store);
    const bool began = status == VGG_OK;
    if (began) status = engine_of(plan)->run(plan->program, VGG_PHASE_STEP, &found.run);
    /* A step that fails halfway has changed some parameters all the same. */
    if (began && status != VGG_ENONFINITE) vgg__store_touched(plan->store);
    status = end_loss(plan, &found, status, loss, correct);
    vgg__fpmode_leave(mode);
    plan->has_gradient = false;
    plan->consumed = true;
    VGG_TRY(status);
    plan->spent.backwards++;
    plan->spent.updates++;
    return VGG_OK;
}

vgg_status vgg_plan_set_output_gradient(vgg_plan *plan, const vgg_tensor *gradient)
{
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(gradient != NULL);
    VGG_REQUIRE(vgg_tensor_dtype(gradient) == VGG_F32);
    VGG_TRY(vgg__plan_check_trains(plan));
    if (!plan->has_output || plan->consumed)
        return vgg__fail(VGG_ESTATE, "no forward was run since the last backward");
    VGG_TRY(check_output(plan, "output gradient", gradient,
                         vgg_model_output_shape(plan->model), plan->run.count));
    memcpy(plan->handed, vgg_tensor_data_const(gradient),
           (size_t)vgg_tensor_bytes(gradient));
    plan->output_gradient = plan->handed;
    plan->has_gradient = true;
    return VGG_OK;
}

vgg_status vgg_plan_backward(vgg_plan *plan)
{
    VGG_REQUIRE(plan != NULL);
    VGG_TRY(vgg__plan_check_trains(plan));
    if (!plan->has_gradient)
        return vgg__fail(
            VGG_ESTATE, "backward needs a forward and a loss (or a gradient handed in) "
                        "before it, each time");
    vgg_run run = plan->run;
    run.output_gradient = plan->output_gradient;
    run.tap_gradients = plan->tap_gradients;
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status =
        engine_of(plan)->run(plan->program, VGG_PHASE_BACKWARD, &run);
    vgg__fpmode_leave(mode);
    plan->has_gradient = false;
    plan->consumed = true;
    plan->has_back_gradients = status == VGG_OK;
    plan->spent.backwards += status == VGG_OK;
    return status;
}

vgg_status vgg_plan_input_gradient(vgg_plan *plan, vgg_tensor *out)
{
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(out != NULL);
    if (!plan->opts.input_gradient)
        return vgg__fail(VGG_ESTATE, "the plan was made without input_gradient");
    if (!plan->has_back_gradients)
        return vgg__fail(VGG_ESTATE, "no backward was run before");
    VGG_TRY(check_output(plan, "input gradient", out,
                         vgg_model_input_shape(plan->model), plan->run.count));
    return read_view(plan, VGG_VIEW_INPUT_GRADIENT, 0, out);
}

/* The layer of a tap by its name, and the tap's number; NULL: it is none. */
static const vgg_layer *find_tap(const vgg_plan *plan, const char *name,
                                 uint32_t *number)
{
    const vgg_layer *layer = vgg_model_find_layer(plan->model, name);
    for (uint32_t i = 0; layer != NULL && i < plan->opts.tap_count; i++) {
        if (plan->lowered->tap_layer[i] != layer) continue;
        *number = plan->lowered->tap_number[i];
        return layer;
    }
    vgg__fail(VGG_EINVAL, "\"%s\" is not a tap of this plan", name);
    return NULL;
}

/* The same of a tap that has a gradient. */
static const vgg_layer *find_gradient(const vgg_plan *plan, const char *name,
                                      uint32_t *number)
{
    const vgg_layer *layer = find_tap(plan, name, number);
    if (layer == NULL || plan->tap_places[*number] != NULL) return layer;
    vgg__fail(VGG_EINVAL,
              "%s is the network's output, whose gradient is handed in by "
              "vgg_plan_set_output_gradient()",
              name);
    return NULL;
}

vgg_status vgg_plan_tap(vgg_plan *plan, const char *name, vgg_tensor *out)
{
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(name != NULL);
    VGG_REQUIRE(out != NULL);
    if (!plan->has_output) return vgg__fail(VGG_ESTATE, "no forward was run before");
    uint32_t number = 0;
    const vgg_layer *layer = find_tap(plan, name, &number);
    if (layer == NULL) return VGG_EINVAL;
    VGG_TRY(check_output(plan, name, out, &layer->out, plan->run.count));
    return read_view(plan, VGG_VIEW_TAP, number, out);
}

vgg_status vgg_plan_set_tap_gradient(vgg_plan *plan, const char *name,
                                     const vgg_tensor *gradient)
{
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(name != NULL);
    VGG_REQUIRE(gradient != NULL);
    VGG_REQUIRE(vgg_tensor_dtype(gradient) == VGG_F32);
    if (!plan->opts.tap_gradients)
        return vgg__fail(VGG_ESTATE, "the plan was made without tap_gradients");
    if (!plan->has_output || plan->consumed)
        return vgg__fail(VGG_ESTATE, "no forward was run since the last backward");
    uint32_t number = 0;
    const vgg_layer *layer = find_gradient(plan, name, &number);
    if (layer == NULL) return VGG_EINVAL;
    VGG_TRY(check_output(plan, name, gradient, &layer->out, plan->run.count));
    memcpy(plan->tap_places[number], vgg_tensor_data_const(gradient),
           (size_t)vgg_tensor_bytes(gradient));
    plan->tap_gradients[number] = plan->tap_places[number];
    if (plan->has_gradient) return VGG_OK;
    /* Nothing is known of the output's gradient: it has none, until it is told. */
    uint64_t count = 0;
    vgg_shape_count(vgg_model_output_shape(plan->model), &count);
    memset(plan->handed, 0, (size_t)(count * plan->run.count * sizeof(float)));
    plan->output_gradient = plan->handed;
    plan->has_gradient = true;
    return VGG_OK;
}

vgg_status vgg_plan_tap_gradient(vgg_plan *plan, const char *name, vgg_tensor *out)
{
    VGG_REQUIRE(plan != NULL);
    VGG_REQUIRE(name != NULL);
    VGG_REQUIRE(out != NULL);
    if (!plan->opts.tap_gradients)
        return vgg__fail(VGG_ESTATE, "the plan was made without tap_gradients");
    if (!plan->has_back_gradients)
        return vgg__fail(VGG_ESTATE, "no backward was run before");
    uint32_t number = 0;
    const vgg_layer *layer = find_gradient(plan, name, &number);
    if (layer == NULL) return VGG_EINVAL;
    VGG_TRY(check_output(plan, name, out, &layer->out, plan->run.count));
    return read_view(plan, VGG_VIEW_TAP_GRADIENT, number, out);
}
