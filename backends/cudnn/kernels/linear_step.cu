/* SPDX-License-Identifier: Apache-2.0 */
/* A linear layer's weight gradient and its SGD step in one pass over the weights.
 *
 * Bound by memory: a weight is read (4 bytes) and written (4, and 2 for the shadow)
 * once, and its gradient never leaves the chip. Floors at 4.3 TB/s, and what 85 % of
 * that would be:
 *   4096 x 6272   257 MB    60 us    70 us
 *   4096 x 4096   168 MB    39 us    46 us
 * The products (6.6 and 4.3 GFLOP) take a quarter of it and hide behind it.
 *
 * A block owns a run of tiles of 64 x 128 weights that go down a column of tiles, so
 * that its part of x mostly stays in shared memory. While a tile's products are made,
 * the next tile's dz and this tile's weights are on their way; the weights wait in
 * registers. Gradients change places in shared memory so that a warp touches whole rows
 * of weights.
 *
 * Shared memory: dz [2][slice][64], x [slice][128] and the gradients of half a tile
 * [32][128], rows 8 elements longer, so that none of the accesses meet in a bank. */
#include "mma.cuh"

namespace vgg
{
namespace
{

constexpr int ROWS = 64, COLS = 128, THREADS = 256, PAD = 8;
constexpr uint32_t FEW = 256;  /* so many tiles have a block each */
constexpr uint32_t RUN = 4;    /* more than that: tiles of a block */
constexpr int HALF = ROWS / 2; /* rows whose gradients are in shared memory at once */
constexpr int PITCH = COLS + PAD; /* of these */

/* Samples at once; a product takes `STEP` of them. */
template <typename T> constexpr int SLICE = sizeof(T) == 2 ? 128 : 32;
template <typename T> constexpr int STEP = sizeof(T) == 2 ? 16 : 8;
template <typename T, int Width> constexpr int BYTES = (Width + PAD) * (int)sizeof(T);

template <typename T> struct memory {
    alignas(16) uint8_t dz[2][SLICE<T>][BYTES<T, ROWS>];
    uint8_t x[SLICE<T>][BYTES<T, COLS>];
    float g[HALF][PITCH];
};

/* Where a step of the block's work is. */
struct place {
    uint32_t m, k, n; /* first row, column and sample */
    bool last;        /* of the tile's slices */
};

template <typename T>
__device__ __forceinline__ place place_of(const vgg__linear_step_args &args,
                                          uint32_t first, uint32_t step)
{
    const uint32_t slices = (args.n + SLICE<T> - 1) / SLICE<T>;
    const uint32_t rows = (args.m + ROWS - 1) / ROWS;
    const uint32_t tile = first + step / slices, slice = step % slices;
    return {tile % rows * ROWS, tile / rows * COLS, slice * SLICE<T>,
            slice + 1 == slices};
}

/* ---- Operands -------------------------------------------------------------------- */

/* dz or x, [n][c]. */
template <typename T> struct operand {
    const T *from;
    uint32_t n, c;
};

/* `rows` samples from `n` on of `Width` columns from `c` on; zeros beside them. */
template <int Width, typename T>
__device__ __forceinline__ void fetch(uint8_t *to, operand<T> what, uint32_t n,
                                      uint32_t c, uint32_t rows)
{
    constexpr uint32_t each = lanes<T>, chunks = Width / each;
    const bool whole = what.c % each == 0;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < rows * chunks; i += THREADS) {
        const uint32_t row = n + i / chunks, col = c + i % chunks * each;
        uint8_t *const at = to + i / chunks * BYTES<T, Width> + i % chunks * 16;
        const T *const from = what.from + (size_t)row * what.c + col;
        if (whole) {
            const bool valid = row < what.n && col < what.c;
            copy_async<16>(shared_at(at), valid ? from : what.from, valid);
            continue;
        }
        packet<T, each> p = {};
        for (uint32_t j = 0; j < each; j++)
            if (row < what.n && col + j < what.c) p.at[j] = from[j];
        store_packet((T *)at, p);
    }
}

/* Samples that a slice has, up to whole products. */
template <typename T>
__device__ __forceinline__ uint32_t rows_of(const vgg__linear_step_args &args,
                                            const place &at)
{
    const uint32_t rest = args.n - at.n;
    return rest >= SLICE<T> ? SLICE<T> : (rest + STEP<T> - 1) / STEP<T> * STEP<T>;
}

template <typename T>
__device__ __forceinline__ void fetch_dz(uint8_t *to, const vgg__linear_step_args &args,
                                         const place &at)
{
    const operand<T> dz = {(const T *)args.dz, args.n, args.m};
    fetch<ROWS>(to, dz, at.n, at.m, rows_of<T>(args, at));
}

template <typename T>
__device__ __forceinline__ void fetch_x(uint8_t *to, const vgg__linear_step_args &args,
                                        const place &at)
{
    const operand<T> x = {(const T *)args.x, args.n, args.k};
    fetch<COLS>(to, x, at.n, at.k, rows_of<T>(args, at));
}

/* ---- Products -------------------------------------------------------------------- */

/* A warp's 32 x 32 of the tile, in the order of fragments: sum[i][j] are rows 16 i and
 * columns 8 j on. */
typedef float sums[2][4][4];

/* With samples in rows, both operands lie across what the products want. */
__device__ __forceinline__ void multiply(sums &sum, const memory<bf16> &m,
                                         const uint8_t *dz, uint32_t rows)
{
    constexpr uint32_t a_row = BYTES<bf16, ROWS>, b_row = BYTES<bf16, COLS>;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t row = lane % 8, odd = lane / 8 % 2, second = lane / 16;
    uint32_t a_at =
        shared_at(dz) + (row + second * 8) * a_row + warp / 4 * 64 + odd * 16;
    uint32_t b_at =
        shared_at(m.x) + (row + odd * 8) * b_row + warp % 4 * 64 + second * 16;
    for (uint32_t n = 0; n < rows; n += 16) {
        uint32_t a[2][4], b[2][4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            load_matrices_across(a[i], a_at + i * 32);
            load_matrices_across(b[i], b_at + i * 32);
        }
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                multiply_bf16(sum[i][j], a[i], b[j / 2][j % 2 * 2],
                              b[j / 2][j % 2 * 2 + 1]);
        a_at += 16 * a_row;
        b_at += 16 * b_row;
    }
}

/* The warp's first column of sample 0, of dz (rows of weights) and of x. */
struct corner {
    const float *dz, *x;
};

__device__ __forceinline__ void multiply_tensor(sums &sum, corner at, uint32_t rows)
{
    constexpr int a_row = ROWS + PAD, b_row = COLS + PAD;
    const uint32_t g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    const float *dz = at.dz + q * a_row + g, *x = at.x + q * b_row + g;
    for (uint32_t n = 0; n < rows; n += 8) {
        uint32_t a[2][4], b[4][2];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int down = i % 4 / 2 * 4, right = i / 4 * 16 + i % 2 * 8;
            a[i / 4][i % 4] = to_tf32(dz[down * a_row + right]);
            b[i / 2][i % 2] = to_tf32(x[i % 2 * 4 * b_row + i / 2 * 8]);
        }
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                multiply_tf32(sum[i][j], a[i], b[j][0], b[j][1]);
        dz += 8 * a_row;
        x += 8 * b_row;
    }
}

__device__ __forceinline__ void multiply_plain(sums &sum, corner at, uint32_t rows)
{
    const uint32_t g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    const float *dz = at.dz + g, *x = at.x + 2 * q;
    for (uint32_t n = 0; n < rows; n++) {
        float a[4], b[4][2];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[i] = dz[i * 8];
            load<2>(x + i * 8, b[i]);
        }
#pragma unroll
        for (int i = 0; i < 32; i++) {
            const int tile = i / 16, c = i % 4;
            float *const to = &sum[tile][i / 4 % 4][c];
            *to = __fmaf_rn(a[tile * 2 + c / 2], b[i / 4 % 4][c % 2], *to);
        }
        dz += ROWS + PAD;
        x += COLS + PAD;
    }
}

__device__ __forceinline__ void multiply(sums &sum, const memory<float> &m,
                                         const uint8_t *dz, uint32_t rows,
                                         uint32_t tf32)
{
    const uint32_t warp = threadIdx.x / 32;
    const corner at = {(const float *)dz + warp / 4 * 32,
                       (const float *)m.x + warp % 4 * 32};
    if (tf32 != 0)
        multiply_tensor(sum, at, rows);
    else
        multiply_plain(sum, at, rows);
}

/* ---- Weights --------------------------------------------------------------------- */

/* What a thread has of half a tile: 4 columns of each of 4 rows. */
typedef float4 weights[4];

/* Row of the tile that is row `row` of its half `half`: each warp's products make 16
 * rows of a half. */
__device__ __forceinline__ uint32_t row_in_tile(uint32_t half, uint32_t row)
{
    return row / 16 * 32 + half * 16 + row % 16;
}

__device__ __forceinline__ void fetch_weights(weights &w,
                                              const vgg__linear_step_args &args,
                                              const place &at, uint32_t half)
{
    const uint32_t col = at.k + threadIdx.x % 32 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t row = at.m + row_in_tile(half, threadIdx.x / 32 * 4 + i);
        const float *const from = args.w + (size_t)row * args.k + col;
        w[i] = make_float4(0, 0, 0, 0);
        if (row >= args.m || col >= args.k) continue;
        if (args.k % 4 == 0) {
            w[i] = load_once(from);
            continue;
        }
        w[i].x = from[0];
        if (col + 1 < args.k) w[i].y = from[1];
        if (col + 2 < args.k) w[i].z = from[2];
        if (col + 3 < args.k) w[i].w = from[3];
    }
}

/* As common/update.c. A rate of 0 changes no bit, not even of a NaN or of -0. */
__device__ __forceinline__ float updated(float w, float g, float lr, float decay)
{
    if (decay != 0) g = __fadd_rn(g, __fmul_rn(decay, w));
    return lr != 0 ? __fsub_rn(w, __fmul_rn(lr, g)) : w;
}

__device__ __forceinline__ void step_weights(const weights &w, const float *g,
                                             const vgg__linear_step_args &args,
                                             const place &at, uint32_t half)
{
    const float lr = args.step->lr, decay = args.step->weight_decay;
    bf16 *const shadow = (bf16 *)args.shadow;
    const uint32_t col = at.k + threadIdx.x % 32 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t part = threadIdx.x / 32 * 4 + i;
        const uint32_t row = at.m + row_in_tile(half, part);
        if (row >= args.m || col >= args.k) continue;
        float gradient[4], value[4] = {w[i].x, w[i].y, w[i].z, w[i].w};
        load<4>(g + part * PITCH + threadIdx.x % 32 * 4, gradient);
#pragma unroll
        for (int j = 0; j < 4; j++)
            value[j] = updated(value[j], gradient[j], lr, decay);
        const size_t to = (size_t)row * args.k + col;
        if (args.k % 4 == 0) {
            store_once(args.w + to,
                       make_float4(value[0], value[1], value[2], value[3]));
            if (shadow != nullptr) store<4>(shadow + to, value);
            continue;
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (col + j >= args.k) break;
            args.w[to + j] = value[j];
            if (shadow != nullptr) shadow[to + j] = to_bf16(value[j]);
        }
    }
}

/* A warp's sums of half a tile to where all threads find them. */
__device__ __forceinline__ void put_gradients(float *g, const sums &sum, int half)
{
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t row = warp / 4 * 16 + lane / 4;
    float *const to = g + row * PITCH + warp % 4 * 32 + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const float(&c)[4] = sum[half][j];
        const float low[2] = {c[0], c[1]}, high[2] = {c[2], c[3]};
        store<2>(to + j * 8, low);
        store<2>(to + 8 * PITCH + j * 8, high);
    }
}

/* ---- The kernel ------------------------------------------------------------------ */

template <typename T>
__global__ void __launch_bounds__(THREADS, 2) linear_step(vgg__linear_step_args args)
{
    memory<T> &m = *(memory<T> *)dynamic_shared();
    const uint32_t tiles = (args.m + ROWS - 1) / ROWS * ((args.k + COLS - 1) / COLS);
    const uint32_t each = (tiles + gridDim.x - 1) / gridDim.x;
    const uint32_t first = blockIdx.x * each;
    const uint32_t slices = (args.n + SLICE<T> - 1) / SLICE<T>;
    if (first >= tiles) return;
    const uint32_t steps = min(tiles - first, each) * slices;

    place at = place_of<T>(args, first, 0);
    weights w[2];
    fetch_weights(w[0], args, at, 0);
    fetch_weights(w[1], args, at, 1);
    fetch_dz<T>(m.dz[0][0], args, at);
    fetch_x<T>(m.x[0], args, at);
    copy_group();
    sums sum = {};
    for (uint32_t step = 0; step < steps; step++) {
        const bool more = step + 1 < steps;
        const place next = more ? place_of<T>(args, first, step + 1) : at;
        copy_wait<0>();
        __syncthreads(); /* all have their operands, and are done with the others */
        if (more) fetch_dz<T>(m.dz[(step + 1) % 2][0], args, next);
        copy_group();
        if constexpr (sizeof(T) == 2)
            multiply(sum, m, m.dz[step % 2][0], rows_of<T>(args, at));
        else
            multiply(sum, m, m.dz[step % 2][0], rows_of<T>(args, at), args.tf32);
        if (next.k != at.k || next.n != at.n) {
            __syncthreads(); /* all are done with x */
            fetch_x<T>(m.x[0], args, next);
            copy_group();
        }
        if (at.last) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                if (half != 0) __syncthreads(); /* all have read the first half */
                put_gradients(m.g[0], sum, half);
                __syncthreads();
                step_weights(w[half], m.g[0], args, at, half);
                if (more) fetch_weights(w[half], args, next, half);
            }
#pragma unroll
            for (int i = 0; i < 32; i++) sum[i / 16][i / 4 % 4][i % 4] = 0;
        }
        at = next;
    }
}

} // namespace
} // namespace vgg

extern "C" {

const struct vgg__kernel vgg__kernel_linear_step[VGG__TYPES] = {
    vgg::entry<vgg::linear_step<float>>("linear_step", vgg::THREADS),
    vgg::entry<vgg::linear_step<vgg::bf16>>("linear_step_bf16", vgg::THREADS),
};

struct vgg__grid vgg__linear_step_grid(const struct vgg__linear_step_args *args)
{
    const uint32_t rows = (args->m + vgg::ROWS - 1) / vgg::ROWS;
    const uint32_t columns = (args->k + vgg::COLS - 1) / vgg::COLS;
    const uint32_t tiles = rows * columns, each = tiles <= vgg::FEW ? 1 : vgg::RUN;
    const uint32_t blocks = (tiles + each - 1) / each;
    return vgg__grid{{blocks, 1, 1}, {vgg::THREADS, 1, 1}};
}

size_t vgg__linear_step_shared(const struct vgg__linear_step_args *args,
                               enum vgg__type type)
{
    (void)args;
    return type == VGG__BF16 ? sizeof(vgg::memory<vgg::bf16>)
                             : sizeof(vgg::memory<float>);
}
}
