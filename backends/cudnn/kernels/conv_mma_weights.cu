/* SPDX-License-Identifier: Apache-2.0 */
/* 3x3 convolutions of few channels: gradients of weights and biases, as partial sums.
 *
 * A weight's gradient is a product of dz, turned on its side (16 output channels x 16
 * pixels), and x (16 pixels x 8 input channels), summed over all pixels. A warp keeps
 * the sums of 16 output and 16 input channels for all nine taps in registers from the
 * kernel's begin to its end; 16 pixels are 2 rows of 8, so that rows of x that were
 * read for one step serve in the next, and for three taps. A further product with ones
 * gives the biases'.
 *
 * A block has `group` output channels and takes regions of pixels in turn. Warps that
 * are more than there are sums share the columns of a region, and are added up in the
 * end. A block writes one row of `partial`.
 *
 * Floors on an H200 (bytes / 4.3 TB/s; products at 400 TFLOP/s) and what is to be
 * expected, batch 128, in us:
 *   16 ->  32 @ 112 pooled  21  37   45
 *   32 ->  64 @ 56          18  37   48
 *   64 ->  64 @ 56 pooled   17  74   95
 *   64 -> 128 @ 28           9  37   50
 *  128 -> 128 @ 28 pooled    9  74  105
 *  128 -> 128 @ 14           3  19   35 */
#include "conv_mma.cuh"

namespace vgg
{
namespace
{

constexpr int SIDE = 16; /* channels of a warp's sums, of either kind */

/* Bytes of the parts of shared memory. Stages hold what is fetched for a region: x, and
 * dz unless that is pooled; then dz is made from windows. */
struct plan {
    uint32_t x, dz, windows;
    uint32_t stage, stages;
};

__host__ __device__ __forceinline__ plan plan_of(const vgg__conv_mma_tile &tile,
                                                 uint32_t ic, bool pool)
{
    plan p;
    p.x = (tile.rows + 2) * (tile.cols + 2) * ic * 2;
    p.dz = tile.rows * tile.cols * tile.group * 2;
    p.windows = pool ? windows<0>(tile.rows, tile.cols, tile.group).bytes() : 0;
    p.stage = pool ? p.x : p.x + p.dz;
    p.stages = tile.buffers * p.stage;
    return p;
}

/* ---- Sums ------------------------------------------------------------------------ */

/* of[tap][t]: input channels 8 t on, as products leave them; bias: the same for all
 * columns. */
struct sums {
    float of[9][2][4], bias[4];
};
constexpr int SUMS = sizeof(sums) / 4;

/* Which sums a warp has, and which columns of a region it looks at. */
struct role {
    uint32_t oc, ic; /* first channels, in the block's group and in the layer */
    uint32_t share, shares;
};

__device__ __forceinline__ role own_role(const vgg__conv_mma_args &args,
                                         const vgg__conv_mma_tile &tile)
{
    const uint32_t across = args.ic / SIDE, units = tile.group / SIDE * across;
    const uint32_t warp = threadIdx.x / 32, unit = warp % units;
    return {unit / across * SIDE, unit % across * SIDE, warp / units,
            blockDim.x / 32 / units};
}

/* Two rows of 8 pixels of x for each column of taps: [dx][row][8 channels]. */
typedef uint32_t row_pair[3][4];

/* Addresses that a lane reads: lane 8 i + j row i / 2, column j, half i % 2 of 16
 * channels. */
template <int IC> struct reach {
    uint32_t x[3]; /* by the column of taps */
    uint32_t dz;
    bool bias; /* the warp has biases' sums as well */
};

/* Two rows of dz with the four of x that they meet; the lower two are read `offset`
 * away from the lane's place, a column of taps at a time. */
template <int IC>
__device__ __forceinline__ void multiply(sums &sum, const uint32_t (&dz)[4],
                                         const row_pair &above, row_pair &below,
                                         const reach<IC> &from, uint32_t offset)
{
#pragma unroll
    for (int dx = 0; dx < 3; dx++) {
        load_matrices_across(below[dx], from.x[dx] + offset);
#pragma unroll
        for (int t = 0; t < 2; t++) {
            multiply_bf16(sum.of[dx][t], dz, above[dx][t], above[dx][2 + t]);
            multiply_bf16(sum.of[3 + dx][t], dz, above[dx][2 + t], below[dx][t]);
            multiply_bf16(sum.of[6 + dx][t], dz, below[dx][t], below[dx][2 + t]);
        }
    }
    constexpr uint32_t one = 0x3f803f80;
    if (from.bias) multiply_bf16(sum.bias, dz, one, one);
}

/* A region's part of the sums. `rows` of it are in the image. */
template <int IC, int Group>
__device__ __forceinline__ void
add_region(sums &sum, uint32_t x, uint32_t dz, const role &own,
           const vgg__conv_mma_tile &tile, uint32_t rows)
{
    using x_lay = layout<IC>;
    using dz_lay = layout<Group>;
    const uint32_t lane = threadIdx.x % 32, column = lane % 8;
    const uint32_t half = lane / 8 % 2;
    const uint32_t x_row = (tile.cols + 2) * x_lay::pitch;
    const uint32_t dz_row = tile.cols * dz_lay::pitch, strips = tile.cols / SPOT;
    reach<IC> from;
    from.bias = own.ic == 0;
    __syncwarp();
#pragma unroll 1
    for (uint32_t strip = own.share; strip < strips; strip += own.shares) {
#pragma unroll
        for (uint32_t dx = 0; dx < 3; dx++)
            from.x[dx] = x + lane / 16 * x_row +
                         x_lay::place(strip * SPOT + column + dx, own.ic / 8 + half);
        from.dz = dz + lane / 16 * dz_row +
                  dz_lay::place(strip * SPOT + column, own.oc / 8 + half);
        row_pair even, odd;
        uint32_t of_dz[4], offset = 0;
#pragma unroll
        for (int dx = 0; dx < 3; dx++) load_matrices_across(even[dx], from.x[dx]);
#pragma unroll 1
        for (uint32_t y = 0; y < rows; y += 4) {
            load_matrices_across(of_dz, from.dz);
            multiply(sum, of_dz, even, odd, from, offset += 2 * x_row);
            load_matrices_across(of_dz, from.dz + 2 * dz_row);
            multiply(sum, of_dz, odd, even, from, offset += 2 * x_row);
            from.dz += 4 * dz_row;
        }
    }
}

/* ---- The end --------------------------------------------------------------------- */

/* Add the sums of warps with the same channels to those of the first, in turn. */
__device__ __forceinline__ void add_shares(sums &sum, float *memory, const role &own,
                                           uint32_t units)
{
    float *const at = memory + threadIdx.x / 32 % units * SUMS * 32 + threadIdx.x % 32;
    float *const mine = (float *)&sum;
    for (uint32_t share = 1; share < own.shares; share++) {
        __syncthreads(); /* all are done with the memory */
        if (own.share == share) {
#pragma unroll
            for (int i = 0; i < SUMS; i++) at[i * 32] = mine[i];
        }
        __syncthreads();
        if (own.share == 0) {
#pragma unroll
            for (int i = 0; i < SUMS; i++) mine[i] += at[i * 32];
        }
    }
}

template <int IC, int Group>
__device__ __forceinline__ void put(const vgg__conv_mma_args &args, const role &own,
                                    const sums &sum)
{
    if (own.share != 0) return;
    const uint32_t g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    const uint32_t oc = blockIdx.y * Group + own.oc + g;
    float *const row = args.partial + (size_t)blockIdx.x * args.oc * (9 * IC + 1);
    float *const to = row + (size_t)oc * 9 * IC + own.ic + 2 * q;
#pragma unroll
    for (int i = 0; i < 36; i++) {
        const int tap = i / 4, t = i / 2 % 2, lower = i % 2;
        const float(&c)[4] = sum.of[tap][t];
        const float both[2] = {c[2 * lower], c[2 * lower + 1]};
        store<2>(to + (lower * 8 * 9 + tap) * IC + 8 * t, both);
    }
    if (own.ic != 0 || q != 0) return;
    float *const bias = row + (size_t)args.oc * 9 * IC + oc;
    bias[0] = sum.bias[0];
    bias[8] = sum.bias[2];
}

/* ---- The kernel ------------------------------------------------------------------ */

template <int IC, int Group, bool Pool>
__device__ __forceinline__ void fetch_stage(uint32_t to, const vgg__conv_mma_args &args,
                                            const vgg__conv_mma_tile &tile,
                                            uint32_t index)
{
    const region at = region_at(args, tile, index);
    const image x = {args.x, args.h, args.wd, IC / 8, 0};
    fetch_region<IC, 1>(to, x, at, tile);
    if constexpr (!Pool) {
        const image dz = {args.dy, args.h, args.wd, args.oc / 8,
                          blockIdx.y * (Group / 8)};
        to += (tile.rows + 2) * (tile.cols + 2) * IC * 2;
        fetch_region<Group, 0>(to, dz, at, tile);
    }
}

template <int Group>
__device__ __forceinline__ void
fetch_pooled(uint32_t to, const vgg__conv_mma_args &args,
             const vgg__conv_mma_tile &tile, uint32_t index)
{
    const image from = {args.dy, args.h / 2, args.wd / 2, args.oc / 8,
                        blockIdx.y * (Group / 8)};
    fetch_windows<0>(whole_block(), to, windows<0>(tile.rows, tile.cols, Group), from,
                     args.winner, region_at(args, tile, index));
}

template <int IC, int Group, bool Pool>
__global__ void __launch_bounds__(MOST_WARPS * 32)
    conv_mma_weights(vgg__conv_mma_args args)
{
    vgg__conv_mma_tile &tile = shared<vgg__conv_mma_tile>();
    uint32_t &count = shared<uint32_t>();
    uint8_t *const memory = dynamic_shared();
    const uint32_t stages = shared_at(memory);

    if (threadIdx.x == 0) {
        tile = args.tile;
        count = regions_of(args);
    }
    {
        const plan p = plan_of(args.tile, IC, Pool);
        fetch_stage<IC, Group, Pool>(stages, args, args.tile, blockIdx.x);
        if constexpr (Pool)
            fetch_pooled<Group>(stages + p.stages + p.dz, args, args.tile, blockIdx.x);
        copy_group();
    }
    __syncthreads();
    sums sum = {};
    for (uint32_t index = blockIdx.x; index < count; index += gridDim.x) {
        const uint32_t next = index + gridDim.x;
        copy_wait<0>();
        __syncthreads(); /* all have theirs, and are done with the region before */
        if constexpr (Pool) {
            uint8_t *const dz = memory + plan_of(tile, IC, Pool).stages;
            spread_region<Group, 0>(dz, dz + plan_of(tile, IC, Pool).dz, tile);
            __syncthreads();
            const plan p = plan_of(tile, IC, Pool);
            if (next < count)
                fetch_pooled<Group>(stages + p.stages + p.dz, args, tile, next);
        }
        if (tile.buffers == 2 && next < count) {
            const uint32_t turn = next / gridDim.x % 2;
            const uint32_t other = stages + turn * plan_of(tile, IC, Pool).stage;
            fetch_stage<IC, Group, Pool>(other, args, tile, next);
        }
        copy_group();
        const plan p = plan_of(tile, IC, Pool);
        const uint32_t x = stages + index / gridDim.x % tile.buffers * p.stage;
        add_region<IC, Group>(sum, x, Pool ? stages + p.stages : x + p.x,
                              own_role(args, tile), tile,
                              min(tile.rows, args.h - region_at(args, tile, index).y));
        if (tile.buffers == 1) {
            __syncthreads(); /* all are done with the region */
            if (next < count) fetch_stage<IC, Group, Pool>(stages, args, tile, next);
            copy_group();
        }
    }
    const role own = own_role(args, tile);
    add_shares(sum, (float *)memory, own, Group / SIDE * (IC / SIDE));
    put<IC, Group>(args, own, sum);
}

/* ---- The host's side ------------------------------------------------------------- */

struct choice {
    uint32_t ic, group;
    struct vgg__kernel kernel[2]; /* not pooled, pooled */
};

template <int IC, int Group> choice both()
{
    constexpr uint32_t threads = MOST_WARPS * 32;
    return {
        IC,
        Group,
        {entry<conv_mma_weights<IC, Group, false>>("conv_mma_weights", threads),
         entry<conv_mma_weights<IC, Group, true>>("conv_mma_weights_pool", threads)}};
}

const choice choices[] = {
    both<16, 16>(), both<16, 32>(),  both<16, 64>(),  both<16, 128>(), both<32, 16>(),
    both<32, 32>(), both<32, 64>(),  both<32, 128>(), both<64, 16>(),  both<64, 32>(),
    both<64, 64>(), both<128, 16>(), both<128, 32>()};

} // namespace

const struct vgg__kernel *conv_mma_weights_kernel(const vgg__conv_mma_args &args)
{
    const choice *at = choices;
    while (at->ic != args.ic || at->group != args.tile.group) at++;
    return &at->kernel[args.pool != 0];
}

uint32_t conv_mma_weights_units(const vgg__conv_mma_args &args)
{
    return args.tile.group / SIDE * (args.ic / SIDE);
}

size_t conv_mma_weights_shared(const vgg__conv_mma_args &args)
{
    const plan p = plan_of(args.tile, args.ic, args.pool != 0);
    const size_t pixels = p.stages + (args.pool ? p.dz + p.windows : 0);
    const uint32_t units = conv_mma_weights_units(args);
    const size_t shares =
        args.tile.warps > units ? units * SUMS * 32 * sizeof(float) : 0;
    return pixels > shares ? pixels : shares;
}

} // namespace vgg
