/* SPDX-License-Identifier: Apache-2.0 */
/* 3x3 convolutions of few channels: forward with bias, ReLU and pooling, and the
 * gradient of their input. Both are one product: a pixel of the output is the sum over
 * nine taps of a pixel of the input (K channels) times a matrix (K x N). Input and
 * output stand for x and y, or for dz and dx.
 *
 * A block keeps the matrices of all taps for `group` of the N channels in shared memory
 * and takes regions in turn; the next one is on its way while one is worked on, where
 * there is room. A warp makes 8 x 8 pixels of 32 (or 16) channels: four products' rows
 * are 2 x 8 pixels each, so that a window of the pooling lies in a thread and its
 * neighbour, and pixels that were read for one tap serve the two others of its column.
 * Rows of the matrices are put in an order that leaves each thread with 8 (or 4)
 * channels side by side.
 *
 * Floors on an H200 (bytes / 4.3 TB/s; products at 400 TFLOP/s) and what is to be
 * expected, batch 128, in us:
 *                           forward               data
 *   16 ->  32 @ 112 pooled  21  37   40           33  37   50
 *   32 ->  64 @ 56          12  37   40           18  37   42
 *   64 ->  64 @ 56 pooled   17  74   80           29  74   85
 *   64 -> 128 @ 28           9  37   45           10  37   45
 *  128 -> 128 @ 28 pooled   11  74   95           18  74   95
 *  128 -> 128 @ 14           3  19   30            4  19   30 */
#include "conv_mma_end.cuh"

namespace vgg
{
namespace
{

enum kind { FORWARD, FORWARD_POOL, DATA, DATA_POOL };

/* What a block has in shared memory: bytes of its parts, in this order. */
struct plan {
    uint32_t matrices, buffer; /* `buffers` of these */
    uint32_t windows;          /* 0: none */
};

__host__ __device__ __forceinline__ plan plan_of(const vgg__conv_mma_args &args,
                                                 bool forward)
{
    const vgg__conv_mma_tile &tile = args.tile;
    const uint32_t k = forward ? args.ic : args.oc;
    return {9 * tile.group * k * 2, (tile.rows + 2) * (tile.cols + 2) * k * 2,
            !forward && args.pool ? windows<1>(tile.rows, tile.cols, k).bytes() : 0};
}

/* ---- Matrices: [row][tap][K] ----------------------------------------------------- */

/* Offset of a chunk of a row's tap. */
template <int K>
__device__ __forceinline__ uint32_t place_in_row(uint32_t row, uint32_t tap,
                                                 uint32_t chunk)
{
    using lay = layout<K>;
    return (row * 9 + tap) * lay::pitch + ((chunk ^ lay::turn(row)) << 4);
}

/* ---- Products -------------------------------------------------------------------- */

/* Of a warp: sum[m][t] are pixels of rows 2 m and 2 m + 1, channels of tile t. */
template <int Tiles> using sums = float[4][Tiles][4];

/* Addresses of a warp's operands: pixels, rows `row` bytes apart, and matrices. */
struct operands {
    uint32_t pixels, row, matrices;
};

template <int K, int Tiles>
__device__ __forceinline__ void multiply(sums<Tiles> &sum, const operands &from)
{
    using lay = layout<K>;
    /* Lane 8 i + j reads: of pixels row i / 2, column j, half i % 2 of 16 channels; of
     * matrices row 8 (i / 2) + j, the same half. */
    const uint32_t lane = threadIdx.x % 32, column = lane % 8, half = lane / 8 % 2;
    const uint32_t pixels = from.pixels + lane / 16 * from.row + column * lay::pitch;
    const uint32_t matrices = from.matrices + (lane / 16 * 8 + column) * 9 * lay::pitch;
    __syncwarp();
#pragma unroll 1
    for (uint32_t chunk = half; chunk < lay::chunks; chunk += 2) {
        const uint32_t in_row = matrices + ((chunk ^ lay::turn(column)) << 4);
#pragma unroll
        for (uint32_t dx = 0; dx < 3; dx++) {
            uint32_t at = pixels + dx * lay::pitch +
                          ((chunk ^ lay::turn((column + dx) % 8)) << 4);
            uint32_t a[5][4];
#pragma unroll
            for (uint32_t i = 0; i < 5; i++) {
                load_matrices(a[i], at);
                at += 2 * from.row;
            }
#pragma unroll
            for (uint32_t dy = 0; dy < 3; dy++) {
                uint32_t b[Tiles / 2][4];
#pragma unroll
                for (uint32_t j = 0; j < Tiles / 2; j++)
                    load_matrices(b[j],
                                  in_row + (j * 16 * 9 + dy * 3 + dx) * lay::pitch);
#pragma unroll
                for (uint32_t m = 0; m < 4; m++) {
                    const uint32_t top = 2 * m + dy, bottom = top + 1;
                    const uint32_t rows[4] = {
                        a[top / 2][top % 2 * 2], a[bottom / 2][bottom % 2 * 2],
                        a[top / 2][top % 2 * 2 + 1], a[bottom / 2][bottom % 2 * 2 + 1]};
#pragma unroll
                    for (uint32_t t = 0; t < Tiles; t++)
                        multiply_bf16(sum[m][t], rows, b[t / 2][t % 2 * 2],
                                      b[t / 2][t % 2 * 2 + 1]);
                }
            }
        }
    }
}

/* ---- Results --------------------------------------------------------------------- */

/* One of the 8 x 8 pixels of a region times the channels of a warp: its first. */
struct spot {
    uint32_t image, y, x, channel;
    uint32_t down, right; /* in the region */
};

/* Spot `i` of the region `index`. */
template <int Tiles>
__device__ __forceinline__ spot spot_at(const vgg__conv_mma_args &args,
                                        const vgg__conv_mma_tile &tile, uint32_t index,
                                        uint32_t i)
{
    const uint32_t units = tile.group / (8 * Tiles), across = tile.cols / SPOT;
    const region at = region_at(args, tile, index);
    const uint32_t right = i / units % across * SPOT, down = i / units / across * SPOT;
    return {at.image, at.y + down, at.x + right, i % units * 8 * Tiles, down, right};
}

/* The thread's own column and channels of it. */
template <int Tiles> __device__ __forceinline__ spot own(spot at, uint32_t group)
{
    const uint32_t lane = threadIdx.x % 32;
    at.x += lane / 4;
    at.channel += blockIdx.y * group + lane % 4 * 2 * Tiles;
    return at;
}

/* A thread's channels of one pixel: row 2 m + `row` of the spot. */
template <int Tiles>
__device__ __forceinline__ void take_channels(float (&to)[2 * Tiles],
                                              const sums<Tiles> &sum, int m, int row)
{
#pragma unroll
    for (int i = 0; i < 2 * Tiles; i++) to[i] = sum[m][i / 2][row * 2 + i % 2];
}

template <int Tiles>
__device__ __forceinline__ void put_forward(const vgg__conv_mma_args &args,
                                            const sums<Tiles> &sum, const spot &at)
{
    constexpr int count = 2 * Tiles;
    const float *const bias = args.bias != nullptr ? args.bias + at.channel : nullptr;
#pragma unroll
    for (int row = 0; row < SPOT; row++) {
        float value[count];
        take_channels<Tiles>(value, sum, row / 2, row % 2);
        if (at.y + row >= args.h || at.x >= args.wd) continue;
        finish<count>(value, bias, args.relu);
        const size_t pixel = ((size_t)at.image * args.h + at.y + row) * args.wd + at.x;
        store<count>((bf16 *)args.y + pixel * args.oc + at.channel, value);
    }
}

/* Threads of neighbouring columns have half of each window. The one with the even
 * column takes the window of product m, the other that of m + 1. */
template <int Tiles>
__device__ __forceinline__ void put_pooled(const vgg__conv_mma_args &args,
                                           const sums<Tiles> &sum, const spot &at)
{
    constexpr int count = 2 * Tiles;
    const float *const bias = args.bias != nullptr ? args.bias + at.channel : nullptr;
    const uint32_t odd = threadIdx.x / 4 % 2;
#pragma unroll
    for (int m = 0; m < 4; m += 2) {
        columns<count> halves;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            take_channels<Tiles>(halves.top[j], sum, m + j, 0);
            take_channels<Tiles>(halves.bottom[j], sum, m + j, 1);
            finish<count>(halves.top[j], bias, 0);
            finish<count>(halves.bottom[j], bias, 0);
        }
        const windows_made<count> made = make_windows(halves);
        put_windows(args, made, at.image, at.y + 2 * (m + odd), at.x - odd, at.channel);
    }
}

/* Which of a thread's sums are kept: a bit for each channel of each row. Read before
 * the products, so that only two registers wait for their end. */
struct mask {
    uint32_t rows[2]; /* four rows each */
};

template <int Tiles>
__device__ __forceinline__ mask mask_of(const vgg__conv_mma_args &args, const spot &at)
{
    constexpr int count = 2 * Tiles;
    mask kept = {{0xffffffffu, 0xffffffffu}};
    if (args.x == nullptr || at.x >= args.wd) return kept;
    const bf16 *x = (const bf16 *)args.x + at.channel;
    packet<bf16, count> row[SPOT];
#pragma unroll
    for (uint32_t y = 0; y < SPOT; y++) {
        const uint32_t inside = min(at.y + y, args.h - 1); /* the last is read again */
        row[y] = load_packet<count>(
            x + (((size_t)at.image * args.h + inside) * args.wd + at.x) * args.ic);
    }
#pragma unroll
    for (uint32_t y = 0; y < SPOT; y++)
#pragma unroll
        for (uint32_t j = 0; j < count; j++)
            if (to_float(row[y].at[j]) <= 0) /* a NaN passes */
                kept.rows[y / 4] &= ~(1u << (y % 4 * count + j));
    return kept;
}

template <int Tiles>
__device__ __forceinline__ void put_data(const vgg__conv_mma_args &args,
                                         const sums<Tiles> &sum, const spot &at,
                                         const mask &kept)
{
    constexpr int count = 2 * Tiles;
#pragma unroll
    for (uint32_t y = 0; y < SPOT; y++) {
        float value[count];
        take_channels<Tiles>(value, sum, y / 2, y % 2);
        if (at.y + y >= args.h || at.x >= args.wd) continue;
#pragma unroll
        for (uint32_t j = 0; j < count; j++)
            if (!(kept.rows[y / 4] >> (y % 4 * count + j) & 1)) value[j] = 0;
        const size_t pixel = ((size_t)at.image * args.h + at.y + y) * args.wd + at.x;
        store<count>((bf16 *)args.dx + pixel * args.ic + at.channel, value);
    }
}

/* ---- The kernel ------------------------------------------------------------------ */

/* All that a block makes of a region. Places are found anew after the products. */
template <int K, int Tiles, int Kind>
__device__ __forceinline__ void
make_region(const vgg__conv_mma_args &args, const vgg__conv_mma_tile &tile,
            uint32_t matrices, uint32_t buffer, uint32_t index)
{
    constexpr uint32_t pitch = layout<K>::pitch;
    const uint32_t spots =
        tile.rows / SPOT * (tile.cols / SPOT) * (tile.group / (8 * Tiles));
#pragma unroll 1
    for (uint32_t i = threadIdx.x / 32; i < spots; i += blockDim.x / 32) {
        const spot at = spot_at<Tiles>(args, tile, index, i);
        if (at.y >= args.h || at.x >= args.wd) continue;
        operands from;
        from.row = (tile.cols + 2) * pitch;
        from.pixels = buffer + at.down * from.row + at.right * pitch;
        from.matrices = matrices + at.channel * 9 * pitch;
        mask kept;
        if constexpr (Kind == DATA || Kind == DATA_POOL)
            kept = mask_of<Tiles>(args, own<Tiles>(at, tile.group));
        sums<Tiles> sum = {};
        multiply<K, Tiles>(sum, from);
        const spot to = own<Tiles>(spot_at<Tiles>(args, tile, index, i), tile.group);
        if constexpr (Kind == FORWARD)
            put_forward<Tiles>(args, sum, to);
        else if constexpr (Kind == FORWARD_POOL)
            put_pooled<Tiles>(args, sum, to);
        else
            put_data<Tiles>(args, sum, to, kept);
    }
}

/* What comes from global memory: regions, or windows of them. */
template <int K, int Kind>
__device__ __forceinline__ void fetch(uint32_t to, const vgg__conv_mma_args &args,
                                      const vgg__conv_mma_tile &tile, uint32_t index)
{
    const region at = region_at(args, tile, index);
    if constexpr (Kind == DATA_POOL) {
        const image from = {args.dy, args.h / 2, args.wd / 2, K / 8, 0};
        fetch_windows<1>(whole_block(), to, windows<1>(tile.rows, tile.cols, K), from,
                         args.winner, at);
    } else {
        const image from = {Kind == DATA ? args.dy : args.x, args.h, args.wd, K / 8, 0};
        fetch_region<K, 1>(to, from, at, tile);
    }
    copy_group();
}

/* With two buffers one is filled while the other is read; windows are fetched while the
 * region is read. The tile is read from shared memory each time: what follows from it
 * would take registers from the products. */
template <int K, int Tiles, int Kind>
__global__ void __launch_bounds__(MOST_WARPS * 32) conv_mma(vgg__conv_mma_args args)
{
    constexpr bool forward = Kind == FORWARD || Kind == FORWARD_POOL;
    vgg__conv_mma_tile &tile = shared<vgg__conv_mma_tile>();
    const plan p = plan_of(args, forward);
    uint8_t *const memory = dynamic_shared();
    const uint32_t matrices = shared_at(memory), buffers = matrices + p.matrices;
    const uint32_t first = blockIdx.y * args.tile.group, count = regions_of(args);
    const uint32_t raw = buffers + p.buffer;

    if (threadIdx.x == 0) tile = args.tile;
    const auto place = [&](uint32_t row, uint32_t tap, uint32_t chunk) {
        return memory + place_in_row<K>(row, tap, chunk);
    };
    if constexpr (forward)
        fetch_matrices<K>(args, first, args.tile.group, place);
    else
        turn_matrices<K>(args, first, args.tile.group, place);
    fetch<K, Kind>(Kind == DATA_POOL ? raw : buffers, args, args.tile, blockIdx.x);
    uint32_t buffer = buffers;
    for (uint32_t index = blockIdx.x; index < count; index += gridDim.x) {
        const uint32_t next = index + gridDim.x;
        copy_wait<0>();
        __syncthreads(); /* all have theirs, and are done with the region before */
        if constexpr (Kind == DATA_POOL) {
            spread_region<K, 1>(memory + p.matrices, memory + p.matrices + p.buffer,
                                tile);
            __syncthreads();
            if (next < count) fetch<K, Kind>(raw, args, tile, next);
        } else if (args.tile.buffers == 2 && next < count) {
            const uint32_t other = 2 * buffers + p.buffer - buffer;
            fetch<K, Kind>(other, args, tile, next);
        }
        make_region<K, Tiles, Kind>(args, tile, matrices, buffer, index);
        if (Kind == DATA_POOL) continue;
        if (args.tile.buffers == 2) {
            buffer = 2 * buffers + p.buffer - buffer;
        } else {
            __syncthreads(); /* all are done with the region */
            if (next < count) fetch<K, Kind>(buffers, args, tile, next);
        }
    }
}

/* ---- The host's side ------------------------------------------------------------- */

struct of_kinds {
    struct vgg__kernel kind[4];
};

template <int K, int Tiles> of_kinds all_kinds()
{
    constexpr uint32_t threads = MOST_WARPS * 32;
    return {{entry<conv_mma<K, Tiles, FORWARD>>("conv_mma_forward", threads),
             entry<conv_mma<K, Tiles, FORWARD_POOL>>("conv_mma_forward_pool", threads),
             entry<conv_mma<K, Tiles, DATA>>("conv_mma_data", threads),
             entry<conv_mma<K, Tiles, DATA_POOL>>("conv_mma_data_pool", threads)}};
}

const of_kinds kernels[4][2] = {{all_kinds<16, 2>(), all_kinds<16, 4>()},
                                {all_kinds<32, 2>(), all_kinds<32, 4>()},
                                {all_kinds<64, 2>(), all_kinds<64, 4>()},
                                {all_kinds<128, 2>(), all_kinds<128, 4>()}};

} // namespace

const struct vgg__kernel *conv_mma_kernel(bool forward, const vgg__conv_mma_args &args)
{
    const uint32_t k = forward ? args.ic : args.oc, n = forward ? args.oc : args.ic;
    uint32_t index = 0;
    while (16u << index < k) index++;
    const int kind = (forward ? FORWARD : DATA) + (args.pool != 0);
    return &kernels[index][tiles_of(n) / 4].kind[kind];
}

size_t conv_mma_shared(bool forward, const vgg__conv_mma_args &args)
{
    const plan p = plan_of(args, forward);
    return p.matrices + args.tile.buffers * p.buffer + p.windows;
}

} // namespace vgg
