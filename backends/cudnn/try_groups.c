/* SPDX-License-Identifier: Apache-2.0 */
/* The products of warp groups on a small layer, before a device times them: how these
 * instructions read shared memory is theirs alone, so a GPU on which they should come
 * out otherwise, or which does not take them, goes on without them.
 *
 * All numbers are -1, 0 or 1, so every sum is exact in bfloat16. */
#include <stdio.h>
#include <string.h>

#include "cudnn/conv.h"

enum { SIDE = 8, HALF = SIDE / 2, IC = 16, OC = 32, TAPS = 9 };
enum { PIXELS = SIDE * SIDE, WINDOWS = HALF * HALF, ROW = OC * TAPS * IC + OC };

struct trial {
    uint16_t x[PIXELS][IC], w[OC][TAPS][IC];
    float bias[OC];
    uint16_t dy[WINDOWS][OC];
    uint8_t picked[WINDOWS][OC]; /* winners that go with dy */
    uint16_t y[WINDOWS][OC];
    uint8_t winner[WINDOWS][OC];
    uint16_t dx[PIXELS][IC];
    float partial[ROW];
};

/* The upper half of a float, which is exact here. */
static uint16_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static float value_of(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static int number(int i)
{
    return (i * 7 + i / 5 + i / 31) % 3 - 1;
}

static void fill(struct trial *t)
{
    memset(t, 0, sizeof *t);
    for (int i = 0; i < PIXELS * IC; i++)
        t->x[i / IC][i % IC] = bits_of((float)number(i));
    for (int i = 0; i < OC * TAPS * IC; i++)
        t->w[i / IC / TAPS][i / IC % TAPS][i % IC] = bits_of((float)number(3 * i + 1));
    for (int i = 0; i < OC; i++) t->bias[i] = (float)number(i + 2);
    for (int i = 0; i < WINDOWS * OC; i++) {
        t->dy[i / OC][i % OC] = bits_of((float)number(i + 4));
        t->picked[i / OC][i % OC] = (uint8_t)((i + i / 7) % 4);
    }
}

/* ---- What should come out -------------------------------------------------------- */

static float x_at(const struct trial *t, int y, int x, int c)
{
    if (y < 0 || y >= SIDE || x < 0 || x >= SIDE) return 0;
    return value_of(t->x[y * SIDE + x][c]);
}

static float dz_at(const struct trial *t, int y, int x, int c)
{
    if (y < 0 || y >= SIDE || x < 0 || x >= SIDE) return 0;
    const int window = y / 2 * HALF + x / 2;
    return t->picked[window][c] == y % 2 * 2 + x % 2 ? value_of(t->dy[window][c]) : 0;
}

static float activation(const struct trial *t, int y, int x, int oc)
{
    float sum = t->bias[oc];
    for (int tap = 0; tap < TAPS; tap++)
        for (int c = 0; c < IC; c++)
            sum += x_at(t, y + tap / 3 - 1, x + tap % 3 - 1, c) *
                   value_of(t->w[oc][tap][c]);
    return sum > 0 ? sum : 0;
}

static bool forward_right(const struct trial *t)
{
    for (int i = 0; i < WINDOWS * OC; i++) {
        const int window = i / OC, oc = i % OC;
        const int y = window / HALF * 2, x = window % HALF * 2;
        float best = activation(t, y, x, oc);
        int winner = 0;
        for (int place = 1; place < 4; place++) {
            const float other = activation(t, y + place / 2, x + place % 2, oc);
            if (other > best) winner = place;
            if (other > best) best = other;
        }
        if (t->y[window][oc] != bits_of(best) || t->winner[window][oc] != winner)
            return false;
    }
    return true;
}

static bool data_right(const struct trial *t)
{
    for (int i = 0; i < PIXELS * IC; i++) {
        const int y = i / IC / SIDE, x = i / IC % SIDE, c = i % IC;
        float sum = 0;
        for (int tap = 0; tap < TAPS; tap++)
            for (int oc = 0; oc < OC; oc++)
                sum += dz_at(t, y + 1 - tap / 3, x + 1 - tap % 3, oc) *
                       value_of(t->w[oc][tap][c]);
        if (x_at(t, y, x, c) <= 0) sum = 0;
        if (value_of(t->dx[i / IC][c]) != sum) return false;
    }
    return true;
}

static bool weights_right(const struct trial *t)
{
    for (int i = 0; i < ROW; i++) {
        const bool bias = i >= OC * TAPS * IC;
        const int oc = bias ? i - OC * TAPS * IC : i / IC / TAPS;
        const int tap = i / IC % TAPS;
        float sum = 0;
        for (int pixel = 0; pixel < PIXELS; pixel++) {
            const int y = pixel / SIDE, x = pixel % SIDE;
            sum += dz_at(t, y, x, oc) *
                   (bias ? 1 : x_at(t, y + tap / 3 - 1, x + tap % 3 - 1, i % IC));
        }
        if (t->partial[i] != sum) return false;
    }
    return true;
}

/* ---- The trial ------------------------------------------------------------------- */

/* One product by a tile of warp groups; without one nothing comes out. */
static cudaError_t try_product(struct vgg__cudnn *device, enum vgg__conv_mma_what what,
                               struct trial *there, const char **tried)
{
    struct vgg__conv_mma_args args = {
        .n = 1, .h = SIDE, .wd = SIDE, .ic = IC, .oc = OC, .relu = 1, .pool = 1};
    do
        if (!vgg__conv_mma_fit(what, &device->mma, &args)) return cudaSuccess;
    while (!args.tile.wide && ++args.rank);
    args.x = there->x;
    args.w = there->w;
    args.bias = there->bias;
    args.y = there->y;
    args.winner = what == VGG__CONV_MMA_FORWARD ? there->winner[0] : there->picked[0];
    args.dy = there->dy;
    args.dx = there->dx;
    args.partial = there->partial;
    const struct vgg__kernel *const kernel = vgg__conv_mma_kernel(what, &args);
    *tried = kernel->name;
    return vgg__launch(device->api, kernel, vgg__conv_mma_grid(what, &args),
                       vgg__conv_mma_shared(what, &args), &args, device->stream);
}

/* `tried` is what the error, if it is one, is of. */
static cudaError_t run(struct vgg__cudnn *device, struct trial *here,
                       struct trial *there, const char **tried)
{
    static const enum vgg__conv_mma_what whats[] = {
        VGG__CONV_MMA_FORWARD, VGG__CONV_MMA_DATA, VGG__CONV_MMA_WEIGHTS};
    const struct vgg__api *api = device->api;
    *tried = "copy a trial";
    cudaError_t error = api->memcpyAsync(there, here, sizeof *here,
                                         cudaMemcpyHostToDevice, device->stream);
    for (int i = 0; error == cudaSuccess && i < 3; i++)
        error = try_product(device, whats[i], there, tried);
    if (error != cudaSuccess) return error;
    *tried = "copy a trial back";
    error = api->memcpyAsync(here, there, sizeof *here, cudaMemcpyDeviceToHost,
                             device->stream);
    if (error == cudaSuccess) error = api->streamSynchronize(device->stream);
    return error;
}

/* Whatever the reason, it is not one to refuse a network that other kernels compute. */
static void go_on_without(struct vgg__cudnn *device, const char *reason)
{
    device->mma.wide = 0;
    device->machine.host.log(
        device->machine.host.ctx, VGG_LOG_WARNING,
        "cuda:%d: products of warp groups %s; going on without them", device->ordinal,
        reason);
}

vgg_status vgg__cudnn_try_groups(struct vgg__cudnn *device)
{
    struct trial *const here = device->host_piece[0];
    const char *tried;
    char reason[VGG__REASON];
    if (!device->mma.wide || device->groups_tried) return VGG_OK;
    vgg_status status = vgg__cudnn_wait(device); /* the piece may be on its way */
    if (status != VGG_OK) return status;
    fill(here);
    const cudaError_t error = run(device, here, device->device_piece[0], &tried);
    status = vgg__cudnn_check(device, error, tried);
    if (device->lost) return status;
    device->groups_tried = true;
    if (error != cudaSuccess) {
        vgg__cudnn_finish(device); /* of what has been queued */
        snprintf(reason, sizeof reason, "do not run (%s: %.200s, %s)", tried,
                 device->api->getErrorString(error), device->api->getErrorName(error));
        go_on_without(device, reason);
    } else if (!forward_right(here) || !data_right(here) || !weights_right(here)) {
        go_on_without(device, "come out wrong");
    }
    return VGG_OK;
}
