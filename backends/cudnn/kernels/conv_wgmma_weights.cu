/* SPDX-License-Identifier: Apache-2.0 */
/* 3x3 convolutions' gradients of weights and biases by warp groups, for Hopper: partial
 * sums as in conv_mma_weights.cu.
 *
 * A product is 64 output channels x 16 pixels of dz, turned on their side in registers,
 * times the same pixels x N input channels of x, moved by a tap: 16 pixels are 2 rows
 * of 8. A block has three warp groups, one for each row of taps, which keep the sums of
 * its three taps in registers from the kernel's begin to its end. A further product
 * with ones gives the biases'.
 *
 * All three read the same regions, which come in by pairs: two pairs are on their way
 * while one is worked on. Products end before the next pair begins: sums that are under
 * way from one round of a loop to the next are nothing that the compiler can follow.
 *
 * Floors on an H200 (bytes / 4.3 TB/s; products at 800 TFLOP/s, half of them wasted
 * with 32 output channels) and what is to be expected, batch 128, in us:
 *   16 ->  32 @ 112 pooled  21  37   60 (if 16 columns take half the time of 32)
 *   32 ->  64 @ 56          18  19   32
 *   64 ->  64 @ 56 pooled   21  37   54
 *   64 -> 128 @ 28          13  19   36
 *  128 -> 128 @ 28 pooled   13  37   62
 *  128 -> 128 @ 14           7  12   26 */
#include "conv_wgmma.cuh"

namespace vgg
{
namespace
{

constexpr int ROWS = 3;   /* of taps: warp groups */
constexpr int STAGES = 3; /* pairs of regions in shared memory */

/* ---- Shared memory --------------------------------------------------------------- */

/* A stage holds two regions, each x with its border and then dz, or the windows that it
 * is made from; behind the stages are the pair of dz that were made, and ones. */
template <int N, int Group, bool Pool, int Cols> struct parts {
    using x = planes<N, SPOT + 2, Cols + 2>;
    using dz = planes<Group, SPOT, Cols>;
    static constexpr uint32_t raw = windows<0>(SPOT, Cols, Group).bytes();
    static constexpr uint32_t region =
        x::bytes + (Pool ? (raw + 127) / 128 * 128 : dz::bytes);
    static constexpr uint32_t stage = 2 * region, made = STAGES * stage;
    static constexpr uint32_t ones = made + (Pool ? 2 * dz::bytes : 0);
    static constexpr uint32_t bytes = ones + 256;
};

/* ---- Sums ------------------------------------------------------------------------ */

template <int N> struct sums {
    float of[3][N / 2], bias[4];
};

/* Two rows of 8 pixels of dz each, 16 output channels of a warp: as multiply_bf16 has
 * its left factor. */
template <int Cols> using held = uint32_t[Cols / SPOT * 4][4];

template <int Group, int Cols>
__device__ __forceinline__ void take_dz(held<Cols> &to, uint32_t dz)
{
    using lay = planes<Group, SPOT, Cols>;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x % GROUP / 32;
    const bool some = warp < Group / 16; /* the same for the whole warp */
    const uint32_t at =
        dz + lay::place(lane / 16, lane % 8, (some ? warp * 2 : 0) + lane / 8 % 2);
#pragma unroll
    for (uint32_t i = 0; i < Cols / SPOT * 4; i++) {
        load_matrices_across(to[i], at + lay::place(i % 4 * 2, i / 4 * SPOT, 0));
        if (some) continue;
#pragma unroll
        for (int j = 0; j < 4; j++) to[i][j] = 0;
    }
}

/* A region's part of the sums of one row of taps, and of the biases'. */
template <int N, int Cols, bool Biases>
__device__ __forceinline__ void multiply(sums<N> &sum, const held<Cols> &dz, uint32_t x,
                                         uint32_t ones)
{
    using lay = planes<N, SPOT + 2, Cols + 2>;
    const uint64_t right = matrix_at(x, lay::row, lay::plane);
#pragma unroll
    for (uint32_t i = 0; i < Cols / SPOT * 4; i++)
#pragma unroll
        for (uint32_t tap = 0; tap < 3; tap++)
            multiply_group<N>(sum.of[tap], dz[i],
                              right + lay::place(i % 4 * 2, i / 4 * SPOT + tap, 0) / 16,
                              1);
#pragma unroll
    for (uint32_t i = 0; Biases && i < Cols / SPOT * 4; i++)
        multiply_group<8>(sum.bias, dz[i], matrix_at(ones, 128, 128), 1);
}

/* ---- The end --------------------------------------------------------------------- */

template <int N, int Group>
__device__ __forceinline__ void put(const vgg__conv_mma_args &args, const sums<N> &sum,
                                    uint32_t row_of_taps, uint32_t oc, uint32_t ic)
{
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x % GROUP / 32;
    if (warp >= Group / 16) return;
    oc += warp * 16 + lane / 4;
    const size_t columns = (size_t)args.oc * (9 * args.ic + 1);
    float *const row = args.partial + blockIdx.x * columns;
    float *const to =
        row + ((size_t)oc * 9 + row_of_taps * 3) * args.ic + ic + lane % 4 * 2;
#pragma unroll
    for (int tap = 0; tap < 3; tap++)
#pragma unroll
        for (int i = 0; i < N / 4; i++) {
            const float both[2] = {sum.of[tap][2 * i], sum.of[tap][2 * i + 1]};
            const size_t lower = i % 2 * (size_t)8 * 9 * args.ic;
            store<2>(to + lower + tap * args.ic + i / 2 * 8, both);
        }
    if (row_of_taps != 0 || ic != 0 || lane % 4 != 0) return;
    float *const bias = row + (size_t)args.oc * 9 * args.ic + oc;
    bias[0] = sum.bias[0];
    bias[8] = sum.bias[2];
}

/* ---- The kernel ------------------------------------------------------------------ */

/* One region, or zeros. */
template <int N, int Group, bool Pool, int Cols>
__device__ __forceinline__ void fetch_region(uint32_t to,
                                             const vgg__conv_mma_args &args,
                                             const region &at, uint32_t oc, uint32_t ic)
{
    const uint32_t h = at.image < args.n ? args.h : 0; /* no row is below that */
    const image x = {args.x, h, args.wd, args.ic / 8, ic / 8};
    fetch_planes<N, 1, Cols>(whole_block(), to, x, at);
    to += parts<N, Group, Pool, Cols>::x::bytes;
    if constexpr (Pool) {
        const image dz = {args.dy, h / 2, args.wd / 2, args.oc / 8, oc / 8};
        fetch_windows<0>(whole_block(), to, windows<0>(SPOT, Cols, Group), dz,
                         args.winner, at);
    } else {
        const image dz = {args.dy, h, args.wd, args.oc / 8, oc / 8};
        fetch_planes<Group, 0, Cols>(whole_block(), to, dz, at);
    }
}

/* A group's whole work, for its row of taps. The first one has the biases as well:
 * asking in between would make the products wait for one another. */
template <int N, int Group, bool Pool, int Cols, bool Biases>
__device__ __forceinline__ void work(const vgg__conv_mma_args &args, uint32_t taps)
{
    using part = parts<N, Group, Pool, Cols>;
    uint8_t *const memory = dynamic_shared();
    const uint32_t start = shared_at(memory);
    const uint32_t across = args.ic / N;
    const uint32_t oc = blockIdx.y / across * Group, ic = blockIdx.y % across * N;
    const uint32_t pairs = (regions_of(args) + 1) / 2;
    journey<Cols> coming(args, 2 * blockIdx.x, 2 * gridDim.x);
    uint32_t fetched = blockIdx.x;

    const auto fetch_next = [&](uint32_t stage) {
        const uint32_t to = start + stage * part::stage;
        if (fetched < pairs) {
            fetch_region<N, Group, Pool, Cols>(to, args, coming.place(), oc, ic);
            fetch_region<N, Group, Pool, Cols>(to + part::region, args, coming.behind(),
                                               oc, ic);
        }
        copy_group();
        coming.next();
        fetched += gridDim.x;
    };
    if (Biases && threadIdx.x < 64)
        *(uint32_t *)(memory + part::ones + threadIdx.x * 4) = 0x3f803f80;
    for (uint32_t stage = 0; stage < STAGES - 1; stage++) fetch_next(stage);
    sums<N> sum = {};
    uint32_t stage = 0;
    for (uint32_t pair = blockIdx.x; pair < pairs; pair += gridDim.x) {
        const uint32_t x = start + stage * part::stage;
        copy_wait<STAGES - 2>();
        if constexpr (Pool) {
            __syncthreads(); /* windows are there, and the dz before has been taken */
#pragma unroll
            for (uint32_t i = 0; i < 2; i++)
                spread_planes<Group, 0, Cols>(
                    whole_block(), memory + part::made + i * part::dz::bytes,
                    memory + (x - start) + i * part::region + part::x::bytes);
        }
        fence_shared();
        __syncthreads(); /* all is there, and the pair before is done with */
        held<Cols> dz[2];
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
            take_dz<Group, Cols>(dz[i], Pool ? start + part::made + i * part::dz::bytes
                                             : x + i * part::region + part::x::bytes);
        products_begin();
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
            multiply<N, Cols, Biases>(sum, dz[i],
                                      x + i * part::region + taps * part::x::row,
                                      start + part::ones);
        products_commit();
        fetch_next(stage == 0 ? STAGES - 1 : stage - 1);
        products_wait<0>();
#pragma unroll
        for (int tap = 0; tap < 3; tap++) products_done(sum.of[tap]);
        if constexpr (Biases) products_done(sum.bias);
        stage = stage + 1 < STAGES ? stage + 1 : 0;
    }
    copy_wait<0>();
    put<N, Group>(args, sum, taps, oc, ic);
}

template <int N, int Group, bool Pool, int Cols>
__global__ void __launch_bounds__(ROWS *GROUP)
    conv_wgmma_weights(vgg__conv_mma_args args)
{
    const uint32_t taps = __shfl_sync(0xffffffffu, threadIdx.x / GROUP, 0);
    if (taps == 0 && blockIdx.y % (args.ic / N) == 0) /* the same channels come again */
        work<N, Group, Pool, Cols, true>(args, taps);
    else
        work<N, Group, Pool, Cols, false>(args, taps);
}

/* ---- The host's side ------------------------------------------------------------- */

struct choice {
    uint32_t n, group, cols;
    size_t shared[2]; /* not pooled, pooled */
    struct vgg__kernel kernel[2];
};

template <int N, int Group, int Cols> choice both()
{
    constexpr uint32_t threads = ROWS * GROUP;
    return {N,
            Group,
            Cols,
            {parts<N, Group, false, Cols>::bytes, parts<N, Group, true, Cols>::bytes},
            {entry<conv_wgmma_weights<N, Group, false, Cols>>("conv_wgmma_weights",
                                                              threads),
             entry<conv_wgmma_weights<N, Group, true, Cols>>("conv_wgmma_weights_pool",
                                                             threads)}};
}

const choice choices[] = {both<16, 32, 16>(), both<16, 64, 16>(), both<32, 32, 16>(),
                          both<32, 64, 16>(), both<64, 32, 8>(),  both<64, 64, 8>()};

const choice *find(const vgg__conv_mma_args &args)
{
    for (const choice &one : choices)
        if (one.n == min(args.ic, 64u) && one.group == args.tile.group) return &one;
    return nullptr;
}

} // namespace

bool conv_wgmma_weights_tile(const vgg__conv_mma_device &device,
                             vgg__conv_mma_args args, vgg__conv_mma_tile &found)
{
    if (args.oc < 32) return false;
    args.tile = {};
    args.tile.group = min(args.oc, 64u);
    const choice *const one = find(args);
    found = {SPOT, one->cols, one->group, ROWS * GROUP / 32, STAGES, 1, 0};
    args.tile = found;
    const uint32_t parts = conv_wgmma_weights_parts(args);
    const uint32_t pairs = (regions_of(args) + 1) / 2;
    found.blocks = min(pairs, max(device.multiprocessors / parts, 1u));
    return one->shared[args.pool != 0] + 1024 <= device.shared_block;
}

uint32_t conv_wgmma_weights_parts(const vgg__conv_mma_args &args)
{
    return args.oc / args.tile.group * (args.ic / min(args.ic, 64u));
}

const struct vgg__kernel *conv_wgmma_weights_kernel(const vgg__conv_mma_args &args)
{
    return &find(args)->kernel[args.pool != 0];
}

size_t conv_wgmma_weights_shared(const vgg__conv_mma_args &args)
{
    return find(args)->shared[args.pool != 0];
}

} // namespace vgg
