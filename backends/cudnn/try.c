/* SPDX-License-Identifier: Apache-2.0 */
/* A small convolution by a kernel of the engine, a product and a convolution of the
 * libraries that must come out right before a device is used: kernels that were made
 * for another GPU and libraries that do not fit the driver or the GPU are found out
 * here, with a reason, and not in the middle of a training.
 *
 * All numbers are small integers, so every result is exact. */
#include <string.h>

#include "cudnn/dnn.h"
#include "cudnn/matmul.h"

enum { C = 8, SIDE = 4, PIXELS = SIDE * SIDE, TAPS = 9 };

static int number(int i)
{
    return (i * 7 + i / 5) % 5 - 2;
}

/* Element (pixel, oc) of the 3x3 convolution of x [SIDE][SIDE][C] with w [C][3][3][C].
 */
static float expected(const float *x, const float *w, int pixel, int oc)
{
    float sum = 0;
    for (int tap = 0; tap < TAPS; tap++) {
        const int h = pixel / SIDE + tap / 3 - 1, v = pixel % SIDE + tap % 3 - 1;
        if (h < 0 || h >= SIDE || v < 0 || v >= SIDE) continue;
        for (int c = 0; c < C; c++)
            sum += x[(h * SIDE + v) * C + c] * w[(oc * TAPS + tap) * C + c];
    }
    return sum;
}

struct trial {
    float x[PIXELS * C], w[C * TAPS * C];
    float own[PIXELS * C], y[PIXELS * C], product[PIXELS * C];
};

static void fill(struct trial *t)
{
    memset(t, 0, sizeof *t);
    for (int i = 0; i < PIXELS * C; i++) t->x[i] = (float)number(i);
    for (int i = 0; i < C * TAPS * C; i++) t->w[i] = (float)number(3 * i + 1);
}

/* What came out wrong; NULL: nothing. */
static const char *find_wrong(const struct trial *t)
{
    for (int i = 0; i < PIXELS * C; i++) {
        float product = 0; /* row i / C of x with row i % C of w's first [C][C] */
        for (int k = 0; k < C; k++)
            product += t->x[i / C * C + k] * t->w[i % C * C + k];
        const float sum = expected(t->x, t->w, i / C, i % C);
        if (t->own[i] != sum) return "a small convolution of the plugin's own";
        if (t->product[i] != product) return "a small product of cuBLASLt";
        if (t->y[i] != sum) return "a small convolution of cuDNN";
    }
    return NULL;
}

static vgg_status convolve_plainly(struct vgg__cudnn *device, struct trial *there)
{
    const struct vgg__conv_plain_args args = {.x = there->x,
                                              .w = there->w,
                                              .out = there->own,
                                              .n = 1,
                                              .h = SIDE,
                                              .wd = SIDE,
                                              .ic = C,
                                              .oc = C,
                                              .kernel = 3};
    const vgg_status status =
        vgg__cudnn_launch(device, device->stream, &vgg__kernel_conv_plain[VGG__F32],
                          vgg__conv_plain_grid(&args), 0, &args);
    return status == VGG_OK ? vgg__cudnn_wait(device) : status;
}

static vgg_status convolve(struct vgg__cudnn *device, struct trial *there)
{
    const struct vgg__dnn_target target = {
        .api = device->api, .handle = device->dnn, .most_workspace = VGG__WORKSPACE};
    const struct vgg__dnn_problem problem = {.what = VGG__DNN_FORWARD,
                                             .n = 1,
                                             .h = SIDE,
                                             .w = SIDE,
                                             .ic = C,
                                             .oc = C,
                                             .kernel = 3,
                                             .strict = true};
    const struct vgg__dnn_pointers pointers = {
        .x = there->x, .w = there->w, .out = there->y, .workspace = device->workspace};
    struct vgg__dnn_plan plan;
    uint32_t refused;
    if (vgg__dnn_plans(&target, &problem, &plan, 1, &refused) == 0)
        return vgg__cudnn_dnn_failed(device, "a plan for a small convolution",
                                     CUDNN_STATUS_NOT_SUPPORTED, VGG__UPDATE);
    cudnnStatus_t status = device->api->dnnSetStream(device->dnn, device->stream);
    if (status == CUDNN_STATUS_SUCCESS)
        status = vgg__dnn_run(&target, &plan, &pointers);
    const vgg_status waited = vgg__cudnn_wait(device);
    vgg__dnn_plan_free(device->api, &plan);
    if (status == CUDNN_STATUS_SUCCESS) return waited;
    return vgg__cudnn_dnn_failed(device, "a small convolution", status, VGG__UPDATE);
}

static vgg_status multiply(struct vgg__cudnn *device, struct trial *there)
{
    const struct vgg__matmul_shape shape = {
        .m = PIXELS, .n = C, .k = C, .b_across = true};
    const struct vgg__matmul_scratch matrices = {there->x, there->w, there->product};
    struct vgg__matmul matmul;
    vgg_status status = vgg__matmul_make(device, &shape, 1, NULL, &matmul);
    if (status != VGG_OK) return status;
    status = vgg__matmul_run(device, device->stream, &matmul, &matrices);
    const vgg_status waited = vgg__cudnn_wait(device);
    vgg__matmul_free(device, &matmul);
    return status != VGG_OK ? status : waited;
}

vgg_status vgg__cudnn_try(struct vgg__cudnn *device)
{
    struct trial *here = device->host_piece[0], *there = device->device_piece[0];
    const struct vgg__api *api = device->api;
    fill(here);
    vgg_status status =
        vgg__cudnn_check(device,
                         api->memcpyAsync(there, here, sizeof *here,
                                          cudaMemcpyHostToDevice, device->stream),
                         "copy a trial");
    if (status == VGG_OK) status = convolve_plainly(device, there);
    if (status == VGG_OK) status = multiply(device, there);
    if (status == VGG_OK) status = convolve(device, there);
    if (status == VGG_OK)
        status =
            vgg__cudnn_check(device,
                             api->memcpyAsync(here, there, sizeof *here,
                                              cudaMemcpyDeviceToHost, device->stream),
                             "copy a trial");
    if (status == VGG_OK) status = vgg__cudnn_wait(device);
    if (status != VGG_OK) return status;
    const char *wrong = find_wrong(here);
    if (wrong == NULL) return VGG_OK;
    return device->machine.host.fail(VGG_EDEVICE,
                                     "cuda:%d: %s came out wrong: " VGG__UPDATE,
                                     device->ordinal, wrong);
}
