/* SPDX-License-Identifier: Apache-2.0 */
/* The three products of a convolution, each by the route that it is given, and what
 * stands around them.
 *
 * Backward takes the gradient of the pooled output to that of the convolution's own
 * (dz: put where the maximum was, masked by the ReLU), and dz to bias, weights and
 * input. */
#include "cudnn/conv.h"

bool vgg__conv_is_first(const vgg_stage *s)
{
    return s->pool != VGG_AVERAGE_POOL && s->relu &&
           vgg__conv_first_takes(s->in.c, s->out.c, s->kernel, s->pool);
}

static struct vgg__conv_first_back_args first_back_shape(const vgg_stage *s,
                                                         uint32_t batch)
{
    return (struct vgg__conv_first_back_args){.n = batch,
                                              .h = s->in.h,
                                              .wd = s->in.w,
                                              .ic = s->in.c,
                                              .oc = s->out.c,
                                              .pool = s->pool};
}

static size_t weight_count(const vgg_stage *s)
{
    return (size_t)s->out.c * s->kernel * s->kernel * s->in.c;
}

struct vgg__conv_scratch vgg__conv_scratch(const struct vgg__cudnn *device,
                                           const vgg_stage *s, uint32_t batch,
                                           enum vgg__type type)
{
    struct vgg__conv_scratch at = {0};
    const size_t full = vgg__size_mul(vgg__size_mul(vgg__extent_count(s->mid), batch),
                                      vgg__type_bytes(type));
    const size_t row = weight_count(s) + s->out.c;
    size_t sums = VGG__MAX_PARTIAL * (size_t)s->out.c;
    size_t rows = vgg__conv_mma_rows(device, s, batch, type);
    if (vgg__conv_is_first(s)) {
        const struct vgg__conv_first_back_args back = first_back_shape(s, batch);
        rows = vgg__conv_first_back_launch(&back, type).grid.blocks[0];
    }
    if (rows * row > sums) sums = rows * row;
    at.dw = s->pool != VGG_NO_POOL ? vgg__cudnn_round_up(full) : 0;
    at.partial =
        vgg__size_add(at.dw, vgg__cudnn_round_up(weight_count(s) * sizeof(float)));
    at.total = vgg__size_add(at.partial, vgg__cudnn_round_up(sums * sizeof(float)));
    return at;
}

static struct vgg__conv_scratch scratch_of(const struct vgg__cudnn_call *call)
{
    return vgg__conv_scratch(call->device, call->stage, call->batch, call->type);
}

static float *partial_of(const struct vgg__cudnn_call *call)
{
    return (float *)((unsigned char *)call->scratch + scratch_of(call).partial);
}

static vgg_status run_plan(const struct vgg__cudnn_call *call,
                           const struct vgg__dnn_plan *plan, struct vgg__dnn_pointers p)
{
    struct vgg__cudnn *device = call->device;
    const struct vgg__dnn_target target = {.api = device->api, .handle = device->dnn};
    p.workspace = vgg__cudnn_workspace(device, call->stream);
    cudnnStatus_t status = device->api->dnnSetStream(device->dnn, call->stream);
    if (status == CUDNN_STATUS_SUCCESS) status = vgg__dnn_run(&target, plan, &p);
    if (status == CUDNN_STATUS_SUCCESS) return VGG_OK;
    return vgg__cudnn_dnn_failed(device, call->stage->name, status, VGG__AGAIN);
}

static vgg_status run_plain(const struct vgg__cudnn_call *call, uint32_t what,
                            const void *dz, void *out)
{
    const vgg_stage *s = call->stage;
    const struct vgg__conv_plain_args args = {.x = call->x,
                                              .w = call->weight_typed,
                                              .dy = dz,
                                              .out = out,
                                              .n = call->batch,
                                              .h = s->mid.h,
                                              .wd = s->mid.w,
                                              .ic = s->in.c,
                                              .oc = s->out.c,
                                              .kernel = s->kernel,
                                              .what = what};
    return vgg__queue(call, &vgg__kernel_conv_plain[call->type],
                      vgg__conv_plain_grid(&args), &args);
}

/* ---- Forward --------------------------------------------------------------------- */

static vgg_status forward_first(const struct vgg__cudnn_call *call)
{
    const vgg_stage *s = call->stage;
    const struct vgg__conv_first_args args = {
        .x = call->x,
        .w = call->weight,
        .bias = call->bias,
        .y = call->y,
        .winner = s->pool == VGG_MAX_POOL ? call->saved : NULL,
        .n = call->batch,
        .h = s->in.h,
        .wd = s->in.w,
        .ic = s->in.c,
        .oc = s->out.c,
        .relu = s->relu,
        .pool = s->pool,
        .round_weights = call->type == VGG__BF16};
    const struct vgg__first_launch how = vgg__conv_first_launch(&args, call->type);
    return vgg__cudnn_launch(call->device, call->stream, how.kernel, how.grid,
                             how.shared, &args);
}

/* Bias and ReLU, if they are still to be done, and pooling; `full` is the product. */
static vgg_status finish_forward(const struct vgg__cudnn_call *call, void *full,
                                 bool done)
{
    const vgg_stage *s = call->stage;
    if (s->pool == VGG_NO_POOL && done) return VGG_OK;
    if (s->pool == VGG_NO_POOL) {
        const struct vgg__bias_relu_args args = {.x = full,
                                                 .y = call->y,
                                                 .bias = call->bias,
                                                 .rows = (uint64_t)call->batch *
                                                         s->mid.h * s->mid.w,
                                                 .c = s->out.c,
                                                 .relu = s->relu};
        return vgg__queue(call, &vgg__kernel_bias_relu[call->type],
                          vgg__grid_elements(vgg__batch_count(call, s->mid)), &args);
    }
    const bool maximum = s->pool == VGG_MAX_POOL;
    /* A kept product is needed with its ReLU. */
    if (!maximum && !done) {
        const struct vgg__bias_relu_args args = {.x = full,
                                                 .y = full,
                                                 .bias = call->bias,
                                                 .rows = (uint64_t)call->batch *
                                                         s->mid.h * s->mid.w,
                                                 .c = s->out.c,
                                                 .relu = s->relu};
        const vgg_status status =
            vgg__queue(call, &vgg__kernel_bias_relu[call->type],
                       vgg__grid_elements(vgg__batch_count(call, s->mid)), &args);
        if (status != VGG_OK) return status;
        done = true;
    }
    const struct vgg__pool_args args = {.x = full,
                                        .y = call->y,
                                        .winner = maximum ? call->saved : NULL,
                                        .bias = done ? NULL : call->bias,
                                        .n = call->batch,
                                        .ih = s->mid.h,
                                        .iw = s->mid.w,
                                        .h = s->out.h,
                                        .w = s->out.w,
                                        .c = s->out.c,
                                        .maximum = maximum,
                                        .relu = !done && s->relu};
    return vgg__queue(call, &vgg__kernel_pool[call->type],
                      vgg__grid_elements(vgg__batch_count(call, s->out)), &args);
}

vgg_status vgg__conv_forward(const struct vgg__cudnn_call *call,
                             const struct vgg__conv_route *route)
{
    const vgg_stage *s = call->stage;
    if (route->way == VGG__CONV_FIRST) return forward_first(call);
    if (route->way == VGG__CONV_MMA)
        return vgg__conv_mma_run(call,
                                 &(struct vgg__conv_mma){VGG__CONV_MMA_FORWARD,
                                                         s->pool == VGG_MAX_POOL,
                                                         route->tile},
                                 NULL, NULL, NULL);
    const bool keeps = s->pool == VGG_AVERAGE_POOL && call->mode != VGG_MODE_INFER;
    void *full = s->pool == VGG_NO_POOL ? call->y : keeps ? call->saved : call->scratch;
    const bool fused = route->way == VGG__CONV_DNN_FUSED;
    const struct vgg__dnn_pointers pointers = {.x = call->x,
                                               .w = call->weight_typed,
                                               .bias = fused ? call->bias_typed : NULL,
                                               .out = full};
    const vgg_status status = route->way == VGG__CONV_PLAIN
                                  ? run_plain(call, 0, NULL, full)
                                  : run_plan(call, &route->plan, pointers);
    return status == VGG_OK ? finish_forward(call, full, fused) : status;
}

/* ---- Gradients of input and weights ---------------------------------------------- */

vgg_status vgg__conv_data(const struct vgg__cudnn_call *call,
                          const struct vgg__conv_route *route, const void *dz,
                          bool pooled)
{
    if (route->way == VGG__CONV_PLAIN) return run_plain(call, 1, dz, call->dx);
    if (route->way == VGG__CONV_MMA)
        return vgg__conv_mma_run(
            call, &(struct vgg__conv_mma){VGG__CONV_MMA_DATA, pooled, route->tile}, dz,
            NULL, NULL);
    const struct vgg__dnn_pointers pointers = {
        .w = call->weight_typed,
        .dy = dz,
        .mask = route->way == VGG__CONV_DNN_FUSED ? call->x : NULL,
        .out = call->dx};
    return run_plan(call, &route->plan, pointers);
}

/* Partial sums [rows][weights, biases], added to the gradients. */
static vgg_status add_partial(const struct vgg__cudnn_call *call, const float *partial,
                              uint32_t rows)
{
    const uint32_t weights = (uint32_t)weight_count(call->stage);
    const struct vgg__sum_rows_args args = {.partial = partial,
                                            .out = call->dweight,
                                            .rows = rows,
                                            .c = weights + call->stage->out.c,
                                            .add = 1,
                                            .split = weights,
                                            .rest = call->dbias};
    return vgg__queue(call, &vgg__kernel_sum_rows, vgg__grid_columns(args.c), &args);
}

/* Weights and bias of a first layer, straight from the pooled gradient. */
static vgg_status weights_first(const struct vgg__cudnn_call *call)
{
    const vgg_stage *s = call->stage;
    struct vgg__conv_first_back_args args = first_back_shape(s, call->batch);
    args.x = call->x;
    args.dy = call->dy;
    args.y = s->relu && !call->dy_masked ? call->y : NULL;
    args.winner = s->pool == VGG_MAX_POOL ? call->saved : NULL;
    args.partial = partial_of(call);
    const struct vgg__first_launch how = vgg__conv_first_back_launch(&args, call->type);
    const vgg_status status = vgg__cudnn_launch(call->device, call->stream, how.kernel,
                                                how.grid, how.shared, &args);
    if (status != VGG_OK) return status;
    return add_partial(call, args.partial, how.grid.blocks[0]);
}

/* The same by the tensor-core kernels. */
static vgg_status weights_mma(const struct vgg__cudnn_call *call,
                              const struct vgg__conv_mma *how, const void *dz)
{
    float *partial = partial_of(call);
    uint32_t rows;
    const vgg_status status = vgg__conv_mma_run(call, how, dz, partial, &rows);
    return status == VGG_OK ? add_partial(call, partial, rows) : status;
}

/* dweight += the product, by way of scratch. */
vgg_status vgg__conv_weights(const struct vgg__cudnn_call *call,
                             const struct vgg__conv_route *route, const void *dz,
                             bool pooled)
{
    const vgg_stage *s = call->stage;
    if (route->way == VGG__CONV_FIRST) return weights_first(call);
    if (route->way == VGG__CONV_MMA)
        return weights_mma(
            call, &(struct vgg__conv_mma){VGG__CONV_MMA_WEIGHTS, pooled, route->tile},
            dz);
    const struct vgg__conv_scratch at = scratch_of(call);
    void *dw = (unsigned char *)call->scratch + at.dw;
    const struct vgg__dnn_pointers pointers = {.x = call->x, .dy = dz, .out = dw};
    const vgg_status status = route->way == VGG__CONV_PLAIN
                                  ? run_plain(call, 2, dz, dw)
                                  : run_plan(call, &route->plan, pointers);
    if (status != VGG_OK || call->dweight == NULL) return status;
    const struct vgg__accumulate_args args = {dw, call->dweight, weight_count(s)};
    return vgg__queue(
        call, &vgg__kernel_accumulate[route->single_out ? VGG__F32 : call->type],
        vgg__grid_elements(args.count), &args);
}

/* ---- What comes before them ------------------------------------------------------ */

/* out += the sum of rows of partial sums. */
static vgg_status add_rows(const struct vgg__cudnn_call *call, const float *partial,
                           uint32_t rows, uint32_t c, float *out)
{
    const struct vgg__sum_rows_args args = {partial, out, rows, c, .add = 1};
    return vgg__queue(call, &vgg__kernel_sum_rows, vgg__grid_columns(c), &args);
}

/* dz = the gradient of y where y is above 0, in place or not at all, and its sums. */
static vgg_status mask(const struct vgg__cudnn_call *call, bool masks,
                       vgg_extent extent, float *sums)
{
    const uint64_t rows = (uint64_t)call->batch * extent.h * extent.w;
    const struct vgg__grid grid = vgg__grid_rows(rows, extent.c);
    const struct vgg__mask_args args = {.dy = call->dy,
                                        .y = masks ? call->y : NULL,
                                        .dz = masks ? call->dy : NULL,
                                        .partial = sums,
                                        .rows = rows,
                                        .c = extent.c,
                                        .scale = 1};
    if (!masks && sums == NULL) return VGG_OK;
    const vgg_status status =
        vgg__queue(call, &vgg__kernel_mask[call->type], grid, &args);
    if (status != VGG_OK || sums == NULL) return status;
    return add_rows(call, sums, grid.blocks[0], extent.c, call->dbias);
}

/* dz where the pool's winners were, or spread evenly, masked likewise. */
static vgg_status unpool(const struct vgg__cudnn_call *call, bool masks, void *dz,
                         float *sums)
{
    const vgg_stage *s = call->stage;
    const bool average = s->pool == VGG_AVERAGE_POOL;
    const struct vgg__grid grid =
        vgg__grid_rows((uint64_t)call->batch * s->mid.h * s->mid.w, s->out.c);
    const struct vgg__unpool_args args = {.dy = call->dy,
                                          .y = !masks    ? NULL
                                               : average ? call->saved
                                                         : call->y,
                                          .winner = average ? NULL : call->saved,
                                          .dx = dz,
                                          .partial = sums,
                                          .n = call->batch,
                                          .ih = s->mid.h,
                                          .iw = s->mid.w,
                                          .h = s->out.h,
                                          .w = s->out.w,
                                          .c = s->out.c,
                                          .maximum = !average};
    const vgg_status status =
        vgg__queue(call, &vgg__kernel_unpool[call->type], grid, &args);
    if (status != VGG_OK || sums == NULL) return status;
    return add_rows(call, sums, grid.blocks[0], s->out.c, call->dbias);
}

vgg_status vgg__conv_make_dz(const struct vgg__cudnn_call *call, bool pooled,
                             const void **dz)
{
    const vgg_stage *s = call->stage;
    float *sums = call->dbias != NULL ? partial_of(call) : NULL;
    const bool masks = s->relu && (!call->dy_masked || s->pool == VGG_AVERAGE_POOL);
    *dz = call->dy;
    if (pooled || s->pool == VGG_NO_POOL) return mask(call, masks, s->out, sums);
    void *full = (unsigned char *)call->scratch + scratch_of(call).dz;
    *dz = full;
    return unpool(call, masks, full, sums);
}
