/* SPDX-License-Identifier: Apache-2.0 */
/* Work on [rows][c]: how the threads of a block share it, and sums down its columns.
 *
 * A thread has V neighbouring channels and goes down the rows, so that what belongs to
 * a channel (bias, scale, sum) stays in its registers. V is 1 or divides c. */
#ifndef VGG_CUDNN_ROWS_CUH
#define VGG_CUDNN_ROWS_CUH

#include "kernel.cuh"
#include "tiles.h"

namespace vgg
{

constexpr uint32_t threads = VGG__THREADS;

/* Zeros if not `there`, and then nothing is read. Whole words come out of the branch:
 * elements would be taken apart in it, where their arrival is waited for. */
template <int N, typename T>
__device__ __forceinline__ packet<T, N> load_if(const T *from, bool there)
{
    constexpr int bytes = N * (int)sizeof(T), each = bytes < 16 ? bytes : 16;
    typename word<each>::type words[bytes / each] = {};
    if (there) copy<bytes>(words, from);
    packet<T, N> p;
    memcpy(&p, words, sizeof p);
    return p;
}

/* Of a block: `across` threads side by side, each with V channels, `down` rows. */
struct share {
    uint32_t groups; /* of V channels */
    uint32_t across, down;
    uint32_t column, row; /* of this thread; idle if row >= down */
};

template <int V> __device__ __forceinline__ share share_rows(uint32_t c)
{
    share s;
    s.groups = c / V;
    s.across = s.groups < threads ? s.groups : threads;
    s.down = threads / s.across;
    s.row = threadIdx.x / s.across;
    s.column = threadIdx.x - s.row * s.across;
    return s;
}

/* Add up the N sums of a block's rows: the first row's threads have the total. */
template <int N, typename S>
__device__ __forceinline__ void sum_block_rows(const share &s, S (&sums)[N])
{
    using table = S[N][threads];
    table &all = shared<table>();
    __syncthreads(); /* who still reads the sums before */
    if (s.row < s.down) {
#pragma unroll
        for (int i = 0; i < N; i++) all[i][threadIdx.x] = sums[i];
    }
    for (uint32_t n = s.down; n > 1;) {
        const uint32_t half = (n + 1) / 2;
        __syncthreads();
        if (s.row + half < n) {
#pragma unroll
            for (int i = 0; i < N; i++) {
                sums[i] += all[i][threadIdx.x + half * s.across];
                all[i][threadIdx.x] = sums[i];
            }
        }
        n = half;
    }
}

/* Work on every element of [rows][c] once. `Work` has, for V channels from `channel`
 * on of row `row`:
 *   held load(row, channel)            what it reads
 *   void use(held, row, channel)       what it computes and writes
 *   void begin(channel)                before the first row, for what stays
 * Two rows are read before the first is used. */
template <int V, typename Work>
__device__ __forceinline__ void go_down(const share &s, uint64_t rows, uint32_t channel,
                                        Work &work)
{
    const uint64_t step = (uint64_t)gridDim.x * s.down;
    uint64_t row = (uint64_t)blockIdx.x * s.down + s.row;
    for (; row + step < rows; row += 2 * step) {
        const typename Work::held a = work.load(row, channel);
        const typename Work::held b = work.load(row + step, channel);
        work.use(a, row, channel);
        work.use(b, row + step, channel);
    }
    if (row < rows) work.use(work.load(row, channel), row, channel);
}

template <int V, typename Work>
__device__ __forceinline__ void for_rows(uint64_t rows, uint32_t c, Work &work)
{
    const share s = share_rows<V>(c);
    if (s.row >= s.down) return;
    for (uint32_t group = s.column; group < s.groups; group += s.across) {
        work.begin(group * V);
        go_down<V>(s, rows, group * V, work);
    }
}

/* The same, and `Work` has sums of every channel (N = V, or V of each of several
 * kinds): S sums[N], cleared by begin(). partial is [blocks][N / V][c]; NULL: no
 * sums. */
template <int V, typename Work, typename S>
__device__ __forceinline__ void for_rows_with_sums(uint64_t rows, uint32_t c,
                                                   Work &work, S *partial)
{
    constexpr uint32_t kinds = sizeof work.sums / sizeof work.sums[0] / V;
    const share s = share_rows<V>(c);
    for (uint32_t first = 0; first < s.groups; first += s.across) {
        const uint32_t group = first + s.column, channel = group * V;
        const bool has = s.row < s.down && group < s.groups;
        work.begin(has ? channel : 0);
        if (has) go_down<V>(s, rows, channel, work);
        if (partial == nullptr) continue;
        sum_block_rows(s, work.sums);
        if (!has || s.row != 0) continue;
        for (uint32_t kind = 0; kind < kinds; kind++)
            for (int i = 0; i < V; i++)
                partial[((uint64_t)blockIdx.x * kinds + kind) * c + channel + i] =
                    work.sums[kind * V + i];
    }
}

} // namespace vgg

#endif
