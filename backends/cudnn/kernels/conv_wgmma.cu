/* SPDX-License-Identifier: Apache-2.0 */
/* 3x3 convolutions by warp groups, for Hopper: forward and the gradient of the input as
 * in conv_mma.cu. Input and output stand for x and y, or for dz and dx; the input has K
 * channels, and N of the output's are made.
 *
 * A block keeps the matrices of all taps in shared memory. Each of its warp groups goes
 * its own way from region to region (8 x 8 or 8 x 16 pixels): fetch one with its
 * border, make 64 pixels times N sums by nine taps times K / 16 products, finish. While
 * one group fetches or finishes, the others multiply; nothing but a group's own barrier
 * holds them together. A thread has two rows of one column, so that half of a window of
 * the pooling is its own and the other half its neighbour's.
 *
 * Floors on an H200 (bytes / 4.3 TB/s; products by what shared memory gives, 128 bytes
 * a cycle) and what is to be expected, batch 128, in us:
 *                           forward               data
 *   16 ->  32 @ 112 pooled  21  26   45           33  40   57
 *   32 ->  64 @ 56          12  16   25           18  24   30
 *   64 ->  64 @ 56 pooled   17  35   42           29  36   45
 *   64 -> 128 @ 28           9  23   28           10  23   29
 *  128 -> 128 @ 28 pooled   11  46   53           18  47   55
 *  128 -> 128 @ 14           3  11   17            4  11   18 */
#include "conv_mma_end.cuh"
#include "conv_wgmma.cuh"

namespace vgg
{
namespace
{

enum kind { FORWARD, FORWARD_POOL, DATA, DATA_POOL };

__host__ __device__ constexpr bool is_forward(int kind)
{
    return kind == FORWARD || kind == FORWARD_POOL;
}

/* ---- Shared memory ------------------------------------------------------------------
 * The matrices, [tap][chunk of K][row][16 bytes], chunks 16 bytes further apart so that
 * those of a row, which are written together, do not meet in a bank; then of each group
 * the windows, if the gradient is pooled; then of each its buffers. */
template <int K, int N> struct matrices {
    static constexpr uint32_t along_k = N * 16 + 16, bytes = 9 * (K / 8) * along_k;

    static __device__ __forceinline__ uint32_t place(uint32_t row, uint32_t tap,
                                                     uint32_t chunk)
    {
        return (tap * (K / 8) + chunk) * along_k + row * 16;
    }
};

/* ---- Products -------------------------------------------------------------------- */

/* 64 pixels of planes with a border times all matrices. */
template <int K, int N, int Cols>
__device__ __forceinline__ void multiply(float (&sum)[N / 2], uint32_t pixels,
                                         uint32_t all)
{
    using lay = planes<K, SPOT + 2, Cols + 2>;
    const uint64_t left = matrix_at(pixels, lay::plane, lay::row);
    const uint64_t right = matrix_at(all, matrices<K, N>::along_k, 128);
#pragma unroll
    for (uint32_t tap = 0; tap < 9; tap++)
#pragma unroll
        for (uint32_t chunk = 0; chunk < K / 8; chunk += 2)
            multiply_group<N>(sum, left + lay::place(tap / 3, tap % 3, chunk) / 16,
                              right + matrices<K, N>::place(0, tap, chunk) / 16,
                              tap + chunk != 0);
}

/* ---- Results --------------------------------------------------------------------- */

/* What a thread has of a spot: two rows of one column, and `units` runs of `run`
 * channels, 32 apart. */
template <int N> struct share {
    static constexpr int units = N == 64 ? 2 : 1, run = N / 4 / units;
    uint32_t image, y, x, channel;

    __device__ __forceinline__ share(const region &at, uint32_t first)
        : image(at.image), y(at.y + threadIdx.x % GROUP / 32 * 2),
          x(at.x + threadIdx.x % 32 / 4), channel(first + threadIdx.x % 4 * run)
    {
    }

    __device__ __forceinline__ size_t pixel(const vgg__conv_mma_args &args,
                                            uint32_t row) const
    {
        return ((size_t)image * args.h + y + row) * args.wd + x;
    }
};

/* Its sums of row 0 or 1, from channel `first` of its own on. */
template <int Count, int Sums>
__device__ __forceinline__ void take(float (&to)[Count], const float (&sum)[Sums],
                                     int row, int first)
{
#pragma unroll
    for (int i = 0; i < Count; i++)
        to[i] = sum[(first + i) / 2 * 4 + row * 2 + (first + i) % 2];
}

template <int N>
__device__ __forceinline__ void put_forward(const vgg__conv_mma_args &args,
                                            const float (&sum)[N / 2],
                                            const share<N> &own)
{
    constexpr int run = share<N>::run;
#pragma unroll
    for (int i = 0; i < 2 * share<N>::units; i++) {
        const int row = i % 2, unit = i / 2;
        const uint32_t channel = own.channel + unit * 32;
        float value[run];
        take(value, sum, row, unit * run);
        finish<run>(value, args.bias != nullptr ? args.bias + channel : nullptr,
                    args.relu);
        if (own.y + row < args.h && own.x < args.wd)
            store<run>((bf16 *)args.y + own.pixel(args, row) * args.oc + channel,
                       value);
    }
}

/* Threads of neighbouring columns have half of each window: the even one makes the
 * first half of the channels, the odd one the second. */
template <int N>
__device__ __forceinline__ void put_pooled(const vgg__conv_mma_args &args,
                                           const float (&sum)[N / 2],
                                           const share<N> &own)
{
    constexpr int count = N / 8, apart = N == 64 ? 32 : count;
    const uint32_t odd = threadIdx.x / 4 % 2;
    columns<count> halves;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        take(halves.top[j], sum, 0, j * count);
        take(halves.bottom[j], sum, 1, j * count);
        const float *const bias =
            args.bias != nullptr ? args.bias + own.channel + j * apart : nullptr;
        finish<count>(halves.top[j], bias, 0);
        finish<count>(halves.bottom[j], bias, 0);
    }
    const windows_made<count> made = make_windows(halves);
    put_windows(args, made, own.image, own.y, own.x - odd, own.channel + odd * apart);
}

/* x of a thread's share, as words: read before the products, looked at behind them. */
template <int N> struct mask {
    static constexpr int run = share<N>::run;
    packet<bf16, run> of[share<N>::units][2];

    __device__ __forceinline__ void read(const vgg__conv_mma_args &args,
                                         const share<N> &own)
    {
        if (own.x >= args.wd) return;
#pragma unroll
        for (int i = 0; i < 2 * share<N>::units; i++)
            if (own.y + i % 2 < args.h)
                of[i / 2][i % 2] = load_packet<run>((const bf16 *)args.x +
                                                    own.pixel(args, i % 2) * args.ic +
                                                    own.channel + i / 2 * 32);
    }
};

template <int N>
__device__ __forceinline__ void put_data(const vgg__conv_mma_args &args,
                                         const float (&sum)[N / 2], const share<N> &own,
                                         const mask<N> &by)
{
    constexpr int run = share<N>::run;
#pragma unroll
    for (int i = 0; i < 2 * share<N>::units; i++) {
        const int row = i % 2, unit = i / 2;
        float value[run];
        take(value, sum, row, unit * run);
        packet<bf16, run> out = pack<bf16, run>(value);
        if (args.x != nullptr)
#pragma unroll
            for (int j = 0; j < run / 2; j++)
                out.set_word(j, masked(out.word(j), by.of[unit][row].word(j)));
        if (own.y + row < args.h && own.x < args.wd)
            store_packet((bf16 *)args.dx + own.pixel(args, row) * args.ic +
                             own.channel + unit * 32,
                         out);
    }
}

/* ---- The kernel ------------------------------------------------------------------ */

/* One group's part of shared memory. */
struct workplace {
    uint32_t windows, buffer, other; /* the one that is read, and the next */
    uint8_t *memory;                 /* where offsets count from */
};

template <int K, int Kind, int Cols>
__device__ __forceinline__ void fetch(const team &of, uint32_t to,
                                      const vgg__conv_mma_args &args, const region &at)
{
    if constexpr (Kind == DATA_POOL) {
        const image from = {args.dy, args.h / 2, args.wd / 2, K / 8, 0};
        fetch_windows<1>(of, to, windows<1>(SPOT, Cols, K), from, args.winner, at);
    } else {
        const image from = {Kind == DATA ? args.dy : args.x, args.h, args.wd, K / 8, 0};
        fetch_planes<K, 1, Cols>(of, to, from, at);
    }
    copy_group();
}

/* All that a group makes of a region that is in shared memory. While products are
 * under way it does what is to be done `meanwhile`. */
template <int K, int N, int Kind, int Cols, typename Meanwhile>
__device__ __forceinline__ void
make_region(const vgg__conv_mma_args &args, uint32_t pixels, uint32_t all,
            const region &at, const Meanwhile &meanwhile)
{
    constexpr int spots = Cols / SPOT;
    const uint32_t first = blockIdx.y * N;
    float sum[spots][N / 2];
    mask<N> by[spots];
#pragma unroll
    for (int i = 0; i < spots; i++) {
        const region spot = {at.image, at.y, at.x + i * SPOT};
        if (!is_forward(Kind) && args.x != nullptr)
            by[i].read(args, share<N>(spot, first));
    }
    products_begin();
#pragma unroll
    for (int i = 0; i < spots; i++)
        multiply<K, N, Cols>(sum[i], pixels + i * SPOT * 16, all);
    products_commit();
    meanwhile();
    products_wait<0>();
#pragma unroll
    for (int i = 0; i < spots; i++) products_done(sum[i]);
#pragma unroll
    for (int i = 0; i < spots; i++) {
        const share<N> own({at.image, at.y, at.x + i * SPOT}, first);
        if constexpr (Kind == FORWARD)
            put_forward<N>(args, sum[i], own);
        else if constexpr (Kind == FORWARD_POOL)
            put_pooled<N>(args, sum[i], own);
        else
            put_data<N>(args, sum[i], own, by[i]);
    }
}

template <int K, int N, int Kind, int Cols>
__global__ void __launch_bounds__(CONV_WGMMA_GROUPS *GROUP)
    conv_wgmma(vgg__conv_mma_args args)
{
    using lay = planes<K, SPOT + 2, Cols + 2>;
    constexpr uint32_t own_windows =
        Kind == DATA_POOL ? windows<1>(SPOT, Cols, K).bytes() : 0;
    uint8_t *const memory = dynamic_shared();
    const uint32_t start = shared_at(memory);
    const uint32_t buffers = args.tile.buffers;
    /* the same for all of a warp, which the compiler can't see */
    const uint32_t group = __shfl_sync(0xffffffffu, threadIdx.x / GROUP, 0);
    const uint32_t groups = blockDim.x / GROUP;
    const team of = {threadIdx.x % GROUP, GROUP};
    const uint32_t raw = matrices<K, N>::bytes + group * own_windows;
    const uint32_t first =
        matrices<K, N>::bytes + groups * own_windows + group * buffers * lay::bytes;
    const uint32_t count = regions_of(args);
    const uint32_t step = gridDim.x * groups;
    uint32_t index = group * gridDim.x + blockIdx.x, buffer = 0;
    journey<Cols> way(args, index, step);

    const auto place = [&](uint32_t row, uint32_t tap, uint32_t chunk) {
        return memory + matrices<K, N>::place(row, tap, chunk);
    };
    if constexpr (is_forward(Kind))
        fetch_matrices<K>(args, blockIdx.y * N, N, place);
    else
        turn_matrices<K>(args, blockIdx.y * N, N, place);
    copy_group();
    const uint32_t to = start + (Kind == DATA_POOL ? raw : first);
    if (index < count) fetch<K, Kind, Cols>(of, to, args, way.place());
    copy_wait<0>();
    fence_shared();
    __syncthreads(); /* the matrices are there */
    for (; index < count; index += step) {
        const region at = way.place();
        const bool more = index + step < count;
        way.next();
        copy_wait<0>();
        if constexpr (Kind == DATA_POOL) {
            group_barrier(group); /* windows are there, and the buffer is free */
            spread_planes<K, 1, Cols>(of, memory + first, memory + raw);
        }
        fence_shared();
        group_barrier(group); /* all is there, and the other buffer is free */
        const bool two = Kind != DATA_POOL && buffers == 2;
        const bool ahead = Kind == DATA_POOL || two;
        const uint32_t next = two ? buffer ^ 1 : 0;
        const uint32_t there =
            start + (Kind == DATA_POOL ? raw : first + next * lay::bytes);
        make_region<K, N, Kind, Cols>(
            args, start + first + buffer * lay::bytes, start, at, [&] {
                if (ahead && more) fetch<K, Kind, Cols>(of, there, args, way.place());
            });
        buffer = next;
        if (ahead) continue;
        group_barrier(group); /* all are done with the buffer */
        if (more) fetch<K, Kind, Cols>(of, there, args, way.place());
    }
}

/* ---- The host's side ------------------------------------------------------------- */

struct of_kinds {
    uint32_t k, n, cols;
    uint32_t matrices, buffer, windows; /* bytes: of a block, and twice of a group */
    struct vgg__kernel kind[4];
};

template <int K, int N, int Cols> of_kinds all_kinds()
{
    constexpr uint32_t most = CONV_WGMMA_GROUPS * GROUP;
    return {
        K,
        N,
        Cols,
        matrices<K, N>::bytes,
        planes<K, SPOT + 2, Cols + 2>::bytes,
        windows<1>(SPOT, Cols, K).bytes(),
        {entry<conv_wgmma<K, N, FORWARD, Cols>>("conv_wgmma_forward", most),
         entry<conv_wgmma<K, N, FORWARD_POOL, Cols>>("conv_wgmma_forward_pool", most),
         entry<conv_wgmma<K, N, DATA, Cols>>("conv_wgmma_data", most),
         entry<conv_wgmma<K, N, DATA_POOL, Cols>>("conv_wgmma_data_pool", most)}};
}

/* Few channels are worth two spots at a time. */
const of_kinds kernels[] = {
    all_kinds<16, 16, 16>(), all_kinds<16, 32, 16>(), all_kinds<16, 64, 8>(),
    all_kinds<32, 16, 16>(), all_kinds<32, 32, 16>(), all_kinds<32, 64, 8>(),
    all_kinds<64, 16, 8>(),  all_kinds<64, 32, 8>(),  all_kinds<64, 64, 8>(),
    all_kinds<128, 16, 8>(), all_kinds<128, 32, 8>(), all_kinds<128, 64, 8>()};

const of_kinds *find(bool forward, const vgg__conv_mma_args &args)
{
    const uint32_t k = forward ? args.ic : args.oc;
    for (const of_kinds &one : kernels)
        if (one.k == k && one.n == args.tile.group) return &one;
    return nullptr;
}

} // namespace

const struct vgg__kernel *conv_wgmma_kernel(bool forward,
                                            const vgg__conv_mma_args &args)
{
    return &find(forward, args)->kind[(forward ? FORWARD : DATA) + (args.pool != 0)];
}

uint32_t conv_wgmma_cols(bool forward, const vgg__conv_mma_args &args)
{
    return find(forward, args)->cols;
}

size_t conv_wgmma_shared(bool forward, const vgg__conv_mma_args &args)
{
    const of_kinds &of = *find(forward, args);
    const uint32_t raw = !forward && args.pool ? of.windows : 0;
    return of.matrices + args.tile.warps / 4 * (args.tile.buffers * of.buffer + raw);
}

} // namespace vgg
