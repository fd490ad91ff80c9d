/* SPDX-License-Identifier: Apache-2.0 */
/* Running a compiled network: forward, loss, backward, step; see program.h. */
#include <math.h>
#include <string.h>

#include "cudnn/program.h"

/* ---- Queueing, recording, replaying ---------------------------------------------- */

static vgg_status queue_forward(struct vgg__cudnn_program *p, cudaStream_t stream)
{
    vgg_status status = VGG_OK;
    for (uint32_t i = 0; status == VGG_OK && i < p->layout.stage_count; i++) {
        const struct vgg__layout_stage *s = &p->layout.stages[i];
        if (s->need.identity || s->stage.kind == VGG_STAGE_LOSS) continue;
        const struct vgg__cudnn_call call = vgg__cudnn_forward_call(p, i, stream);
        status = vgg__cudnn_impl_of(s->impl)->forward(&call);
    }
    return status;
}

static vgg_status clear_gradients(struct vgg__cudnn_program *p, cudaStream_t stream)
{
    if (!p->is_step || p->small.gradient == NULL) return VGG_OK;
    return vgg__cudnn_check(p->device,
                            p->device->api->memsetAsync(p->small.gradient, 0,
                                                        p->store->small * sizeof(float),
                                                        stream),
                            "clear gradients");
}

/* Parameters whose gradient a step has kept. */
static vgg_status update(struct vgg__cudnn_program *p, cudaStream_t stream)
{
    if (!p->is_step || p->chunk_count == 0) return VGG_OK;
    const struct vgg__update_args_gpu args = {.value = p->store->value,
                                              .gradient = p->small.gradient,
                                              .shadow = p->store->shadow,
                                              .chunks = p->chunks,
                                              .kind = VGG_SGD,
                                              .from_step = 1,
                                              .step = p->small.step};
    return vgg__cudnn_launch(p->device, stream, &vgg__kernel_update,
                             vgg__grid_blocks(p->chunk_count), 0, &args);
}

static vgg_status queue_backward(struct vgg__cudnn_program *p, cudaStream_t stream)
{
    vgg_status status = clear_gradients(p, stream);
    if (status == VGG_OK) status = vgg__cudnn_fork(p->device, stream);
    if (status != VGG_OK) return status;
    for (uint32_t i = p->layout.stage_count; status == VGG_OK && i-- > 0;) {
        const struct vgg__layout_stage *s = &p->layout.stages[i];
        if (!s->backward) continue;
        const struct vgg__cudnn_call call = vgg__cudnn_backward_call(p, i, stream);
        status = vgg__cudnn_impl_of(s->impl)->backward(&call);
    }
    /* Whatever happened: what was forked must be over before anything else begins. */
    const vgg_status joined = vgg__cudnn_join(p->device, stream);
    if (status == VGG_OK) status = joined;
    return status == VGG_OK ? update(p, stream) : status;
}

static vgg_status queue(struct vgg__cudnn_program *p, int which, cudaStream_t stream)
{
    return which == VGG__RECORDED_FORWARD ? queue_forward(p, stream)
                                          : queue_backward(p, stream);
}

/* The calls of a phase as a graph that can be launched. The side stream, which becomes
 * part of the recording, has nothing else to do then: the answer may be on its way. */
static vgg_status record(struct vgg__cudnn_program *p, int which)
{
    struct vgg__cudnn *device = p->device;
    const struct vgg__api *api = device->api;
    cudaGraph_t graph = NULL;
    cudaError_t begun = api->streamSynchronize(device->side);
    if (begun == cudaSuccess)
        begun =
            api->streamBeginCapture(device->capture, cudaStreamCaptureModeThreadLocal);
    vgg_status status = vgg__cudnn_check(device, begun, "begin recording");
    if (status != VGG_OK) return status;
    const vgg_status queued = queue(p, which, device->capture);
    const cudaError_t ended = api->streamEndCapture(device->capture, &graph);
    status = queued;
    if (queued == VGG_OK)
        status = vgg__cudnn_check(device, ended, "end recording");
    else if (ended != cudaSuccess)
        api->getLastError(); /* the first error is the one to tell */
    if (status == VGG_OK)
        status = vgg__cudnn_check(
            device, api->graphInstantiate(&p->recorded[which].graph, graph, 0),
            "make a graph of what was recorded");
    if (graph != NULL) api->graphDestroy(graph);
    return status;
}

static vgg_status play(struct vgg__cudnn_program *p, int which)
{
    struct vgg__cudnn_recorded *recorded = &p->recorded[which];
    struct vgg__cudnn *device = p->device;
    if (!recorded->ran) {
        const vgg_status status = queue(p, which, device->stream);
        recorded->ran = status == VGG_OK;
        return status;
    }
    if (recorded->graph == NULL) {
        const vgg_status status = record(p, which);
        if (status != VGG_OK) return status;
    }
    return vgg__cudnn_check(device,
                            device->api->graphLaunch(recorded->graph, device->stream),
                            "launch a graph");
}

/* ---- Phases ---------------------------------------------------------------------- */

static vgg_status forward(struct vgg__cudnn_program *p, const vgg_run *run)
{
    void *input = vgg__cudnn_value(p, 0);
    p->count = run->count;
    p->consumed = false;
    p->step.seed = run->seed;
    p->step.step = run->step;
    p->step.first = run->first;
    p->step.count = run->count;
    vgg_status status = vgg__cudnn_store_refresh(p->store);
    if (status == VGG_OK) status = vgg__cudnn_send_step(p);
    if (status == VGG_OK)
        status = run->data != NULL
                     ? vgg__cudnn_gather(p, run, input)
                     : vgg__cudnn_take_in(p, run->input, p->layout.stages[0].stage.in,
                                          vgg__cudnn_type(p), input);
    return status == VGG_OK ? play(p, VGG__RECORDED_FORWARD) : status;
}

/* Loss and gradient of every sample. Logits that are not f32 take their gradient as
 * they are, by way of scratch. */
static vgg_status queue_samples(struct vgg__cudnn_program *p)
{
    struct vgg__cudnn *device = p->device;
    const struct vgg__layout *layout = &p->layout;
    const uint32_t last = layout->stage_count - 1;
    const struct vgg__layout_stage *s = &layout->stages[last];
    const enum vgg__type type = vgg__cudnn_type(p);
    const bool wide = vgg__cudnn_value_type(p, s->x) == VGG__F32;
    const struct vgg__cudnn_call call =
        vgg__cudnn_forward_call(p, last, device->stream);
    void *gradient = p->consumed ? NULL : vgg__cudnn_gradient(p, s->x);
    const struct vgg__loss_args args = {
        .logits = call.x,
        .labels = p->small.labels,
        .loss = p->small.loss,
        .correct = p->small.correct,
        .dlogits = gradient == NULL || wide ? gradient : call.scratch,
        .n = layout->batch,
        .classes = s->stage.in.c,
        .in_f32 = wide,
        .step = p->small.step};
    const vgg_status status = vgg__queue(&call, &vgg__kernel_loss[type],
                                         vgg__grid_warps(layout->batch), &args);
    if (status != VGG_OK || gradient == NULL || wide) return status;
    const struct vgg__linear_mask_args narrow = {.dy = call.scratch,
                                                 .dz = gradient,
                                                 .n = layout->batch,
                                                 .c = s->stage.in.c,
                                                 .in_f32 = 1,
                                                 .scale = 1};
    return vgg__queue(&call, &vgg__kernel_linear_mask[type],
                      vgg__grid_columns(s->stage.in.c), &narrow);
}

/* Labels come and the answer goes by the side stream: labels while the forward runs,
 * the answer while the device goes on with what has been queued after it. */
static vgg_status queue_loss(struct vgg__cudnn_program *p, const vgg_run *run)
{
    struct vgg__cudnn *device = p->device;
    const struct vgg__api *api = device->api;
    const size_t bytes = p->count * sizeof *run->labels;
    const struct vgg__loss_sum_args sum = {p->small.loss, p->small.correct,
                                           p->small.result, p->small.step};
    memcpy(p->pinned.labels, run->labels, bytes);
    p->step.smoothing = run->smoothing;
    p->step.gradient_scale = run->scale;
    vgg_status status =
        vgg__cudnn_check(device,
                         api->memcpyAsync(p->small.labels, p->pinned.labels, bytes,
                                          cudaMemcpyHostToDevice, device->side),
                         "copy labels");
    if (status == VGG_OK) status = vgg__cudnn_join(device, device->stream);
    if (status == VGG_OK) status = vgg__cudnn_send_step(p);
    if (status == VGG_OK) status = queue_samples(p);
    if (status == VGG_OK)
        status = vgg__cudnn_launch(device, device->stream, &vgg__kernel_loss_sum,
                                   vgg__grid_blocks(1), 0, &sum);
    if (status == VGG_OK) status = vgg__cudnn_fork(device, device->stream);
    if (status == VGG_OK)
        status =
            vgg__cudnn_check(device,
                             api->memcpyAsync(p->pinned.result, p->small.result,
                                              sizeof *p->pinned.result,
                                              cudaMemcpyDeviceToHost, device->side),
                             "copy the loss");
    if (status == VGG_OK)
        status = vgg__cudnn_check(device, api->eventRecord(p->answered, device->side),
                                  "mark the loss");
    return status;
}

/* What queue_loss() has asked. */
static vgg_status take_answer(struct vgg__cudnn_program *p, const vgg_run *run)
{
    const vgg_status status = vgg__cudnn_check(
        p->device, p->device->api->eventSynchronize(p->answered), "wait for the loss");
    if (status != VGG_OK) return status;
    if (run->loss_sum != NULL) *run->loss_sum = p->pinned.result->sum;
    if (run->correct != NULL) *run->correct = p->pinned.result->correct;
    if (isfinite(p->pinned.result->sum)) return VGG_OK;
    return p->device->machine.host.fail(VGG_ENONFINITE,
                                        "loss: not finite over %u samples", p->count);
}

static vgg_status loss(struct vgg__cudnn_program *p, const vgg_run *run)
{
    if (p->layout.stages[p->layout.stage_count - 1].stage.kind != VGG_STAGE_LOSS)
        return p->device->machine.host.fail(VGG_ESTATE,
                                            "loss: the program has no loss stage");
    const vgg_status status = queue_loss(p, run);
    return status == VGG_OK ? take_answer(p, run) : status;
}

/* What the caller adds to the gradients of taps, to where their stages look for it. */
static vgg_status take_tap_gradients(struct vgg__cudnn_program *p, const vgg_run *run)
{
    struct vgg__cudnn *device = p->device;
    vgg_status status = VGG_OK;
    for (uint32_t i = 0; status == VGG_OK && i < p->layout.stage_count; i++) {
        const struct vgg__layout_stage *s = &p->layout.stages[i];
        if (s->stage.kind != VGG_STAGE_TAP || !s->backward) continue;
        void *to = vgg__cudnn_backward_call(p, i, device->stream).saved;
        const float *from =
            run->tap_gradients ? run->tap_gradients[s->stage.tap] : NULL;
        status = from != NULL
                     ? vgg__cudnn_take_in(p, from, s->stage.out, vgg__cudnn_type(p), to)
                     : vgg__cudnn_check(device,
                                        device->api->memsetAsync(to, 0, s->need.saved,
                                                                 device->stream),
                                        "clear the gradient of a tap");
    }
    return status;
}

static vgg_status backward(struct vgg__cudnn_program *p, const vgg_run *run)
{
    const struct vgg__layout *layout = &p->layout;
    void *gradient = vgg__cudnn_gradient(p, layout->output);
    vgg_status status = VGG_OK;
    if (run->output_gradient != NULL && gradient != NULL)
        status = vgg__cudnn_take_in(p, run->output_gradient, layout->output_extent,
                                    vgg__cudnn_value_type(p, layout->output), gradient);
    if (status == VGG_OK) status = take_tap_gradients(p, run);
    if (status == VGG_OK) status = play(p, VGG__RECORDED_BACKWARD);
    p->consumed = true;
    return status;
}

/* The update is queued before the loss is known: loss_sum takes its rate away if the
 * loss is not finite. */
static vgg_status step(struct vgg__cudnn_program *p, const vgg_run *run)
{
    p->step.lr = (float)run->update->lr;
    p->step.weight_decay = (float)run->update->weight_decay;
    vgg_status status = queue_loss(p, run);
    if (status == VGG_OK) status = backward(p, run);
    return status == VGG_OK ? take_answer(p, run) : status;
}

vgg_status vgg__cudnn_run(void *program, vgg_phase phase, const vgg_run *run)
{
    static vgg_status (*const phases[])(struct vgg__cudnn_program *,
                                        const vgg_run *) = {
        [VGG_PHASE_FORWARD] = forward,
        [VGG_PHASE_LOSS] = loss,
        [VGG_PHASE_BACKWARD] = backward,
        [VGG_PHASE_STEP] = step,
    };
    struct vgg__cudnn_program *p = program;
    vgg_status status = vgg__cudnn_enter(p->device);
    if (status != VGG_OK) return status;
    status = phases[phase](p, run);
    /* A loss that is not finite has changed the step that the device has. */
    if (status != VGG_OK) p->told = false;
    vgg__cudnn_leave(p->device);
    return status;
}

vgg_status vgg__cudnn_read(void *program, vgg_view view, uint32_t index, void *out,
                           vgg_dtype dtype)
{
    struct vgg__cudnn_program *p = program;
    const struct vgg__layout *layout = &p->layout;
    vgg_extent extent = layout->output_extent;
    uint32_t value = layout->output;
    const void *from = NULL;
    if (view == VGG_VIEW_OUTPUT) {
        from = vgg__cudnn_value(p, value);
    } else if (view == VGG_VIEW_INPUT_GRADIENT) {
        extent = layout->stages[0].stage.in;
        value = 0;
        if (layout->input_gradient) from = vgg__cudnn_gradient(p, 0);
    } else if (view == VGG_VIEW_TAP_GRADIENT) {
        const int64_t stage = vgg__layout_tap_stage(layout, index);
        if (stage >= 0) {
            const uint32_t i = (uint32_t)stage;
            extent = layout->stages[i].stage.in;
            value = layout->stages[i].x;
            from = vgg__cudnn_backward_call(p, i, p->device->stream).saved;
        }
    } else {
        const int64_t found = vgg__layout_tap(layout, index, &extent);
        if (found >= 0) from = vgg__cudnn_value(p, value = (uint32_t)found);
    }
    if (from == NULL)
        return p->device->machine.host.fail(VGG_ESTATE,
                                            "read: the program does not keep this");
    vgg_status status = vgg__cudnn_enter(p->device);
    if (status != VGG_OK) return status;
    status = vgg__cudnn_give_out(p, from, extent, vgg__cudnn_value_type(p, value), out,
                                 dtype);
    vgg__cudnn_leave(p->device);
    return status;
}
