/* SPDX-License-Identifier: Apache-2.0 */
/* Images of a data set on the device to the network's input, bit for bit as lib/data
 * makes it on the host: resize, crop, move, flip, look up, erase.
 *
 * A block makes some rows of one image: it mixes the input rows that it needs along x
 * into shared memory (at the places where the output wants them), then mixes those
 * along y. Columns are numbered along [w][c]. A rule differs in what a mixed element is
 * and in its arithmetic; what lies outside of the image is mixed to 0 and becomes pixel
 * 0. */
#include "kernel.cuh"
#include "tiles.h"

namespace
{

using vgg::bf16;
using vgg::packet;

constexpr uint32_t threads = VGG__THREADS;
constexpr uint32_t rows_of_block = VGG__GATHER_ROWS;
constexpr uint32_t room = 24 * 1024; /* bytes of mixed rows */
constexpr uint32_t most_channels = 4;

/* ---- Rules ----------------------------------------------------------------------- */

/* One axis of an output pixel. */
struct taps {
    const uint32_t *at;
    const int32_t *weight;
    uint32_t count;
};

__device__ __forceinline__ taps taps_of(const vgg__kernel_axis &axis, uint32_t i)
{
    const uint64_t first = (uint64_t)i * axis.taps;
    return taps{axis.at + first, axis.weight + first, axis.taps};
}

/* Two taps in registers. */
struct two_taps {
    uint32_t at[2];
    int32_t weight[2];
};

__device__ __forceinline__ two_taps read_two(const taps &t)
{
    return two_taps{{t.at[0], t.at[1]}, {t.weight[0], t.weight[1]}};
}

/* Each has: type, what a mixed element is; read(), what of a column's taps is kept from
 * row to row; mix(), of a row of bytes; blend(), of V columns of mixed rows: rows(k)
 * are those of tap k. */
struct opencv {
    using type = int16_t;

    __device__ static two_taps read(const taps &t)
    {
        return read_two(t);
    }

    __device__ static int mix(const uint8_t *row, const two_taps &t)
    {
        return (int16_t)((row[t.at[0]] * t.weight[0] + row[t.at[1]] * t.weight[1]) >>
                         4);
    }

    template <int V, typename Rows>
    __device__ static void blend(const vgg__gather_args &, const taps &t,
                                 const Rows &rows, uint32_t (&to)[V])
    {
        const packet<type, V> top = rows(0), bottom = rows(1);
        const int w0 = (int16_t)t.weight[0], w1 = (int16_t)t.weight[1];
#pragma unroll
        for (int i = 0; i < V; i++) {
            const int high0 = (int16_t)(top.at[i] * w0 >> 16);
            const int high1 = (int16_t)(bottom.at[i] * w1 >> 16);
            to[i] = (uint8_t)((int16_t)(high0 + high1 + 2) >> 2);
        }
    }
};

struct exact {
    using type = int32_t;

    __device__ static two_taps read(const taps &t)
    {
        return read_two(t);
    }

    __device__ static int mix(const uint8_t *row, const two_taps &t)
    {
        return row[t.at[0]] * t.weight[0] + row[t.at[1]] * t.weight[1];
    }

    template <int V, typename Rows>
    __device__ static void blend(const vgg__gather_args &a, const taps &t,
                                 const Rows &rows, uint32_t (&to)[V])
    {
        const packet<type, V> top = rows(0), bottom = rows(1);
        const double w0 = t.weight[0], w1 = t.weight[1];
        const double one = 4.0 * a.x.out * a.y.out;
        const double half = one / 2 + 0.5, inverse = 1.0 / one;
#pragma unroll
        for (int i = 0; i < V; i++)
            to[i] = (uint8_t)(int32_t)((top.at[i] * w0 + bottom.at[i] * w1 + half) *
                                       inverse);
    }
};

struct pillow {
    using type = uint8_t;
    static constexpr int bits = 22;

    __device__ static uint8_t rounded(int32_t sum)
    {
        sum >>= bits;
        return (uint8_t)(sum > 255 ? 255 : sum);
    }

    __device__ static const taps &read(const taps &t)
    {
        return t;
    }

    __device__ static int mix(const uint8_t *row, const taps &t)
    {
        int32_t sum = 1 << (bits - 1);
        for (uint32_t k = 0; k < t.count; k++)
            if (t.weight[k] != 0) sum += row[t.at[k]] * t.weight[k];
        return rounded(sum);
    }

    template <int V, typename Rows>
    __device__ static void blend(const vgg__gather_args &, const taps &t,
                                 const Rows &rows, uint32_t (&to)[V])
    {
        int32_t sum[V];
        for (int i = 0; i < V; i++) sum[i] = 1 << (bits - 1);
        for (uint32_t k = 0; k < t.count; k++) {
            const int32_t weight = t.weight[k];
            if (weight == 0) continue;
            const packet<type, V> row = rows(k);
#pragma unroll
            for (int i = 0; i < V; i++) sum[i] += row.at[i] * weight;
        }
        for (int i = 0; i < V; i++) to[i] = rounded(sum[i]);
    }
};

struct unchanged {
    using type = uint8_t;
};

template <typename Rule> constexpr bool resizes = true;
template <> constexpr bool resizes<unchanged> = false;

/* ---- Where an output pixel comes from -------------------------------------------- */

/* Of one sample. Columns and rows of the resized image; -1: outside. */
struct view {
    const vgg__gather_args &a;
    vgg__kernel_sample sample;

    __device__ int64_t column(uint32_t x) const
    {
        const uint32_t shown = sample.flip != 0 ? a.w - 1 - x : x;
        const int64_t from = (int64_t)shown + sample.right;
        return from >= 0 && from < a.w ? from + a.left : -1;
    }

    __device__ int64_t row(uint32_t y) const
    {
        const int64_t from = (int64_t)y + sample.down;
        return from >= 0 && from < a.h ? from + a.top : -1;
    }

    __device__ const uint8_t *input_row(uint32_t channel, uint32_t y) const
    {
        return a.images + ((sample.index * a.c + channel) * a.y.in + y) * a.x.in;
    }

    __device__ bool erases(uint32_t y) const
    {
        return y - sample.erase_top < sample.erase_height;
    }

    __device__ bool erases_column(uint32_t x) const
    {
        return x - sample.erase_left < sample.erase_width;
    }
};

/* Input rows from `begin` to before `end`. */
struct span {
    uint32_t begin, end;
};

/* Those that a resized row is made of. */
template <typename Rule>
__device__ __forceinline__ span rows_behind(const vgg__gather_args &a, uint32_t row)
{
    if constexpr (resizes<Rule>) {
        const taps t = taps_of(a.y, row);
        span s = {UINT32_MAX, 0};
        for (uint32_t k = 0; k < t.count; k++) {
            const uint32_t at = t.at[k];
            if (t.weight[k] != 0) s = span{min(s.begin, at), max(s.end, at + 1)};
        }
        return s;
    } else {
        return span{row, row + 1};
    }
}

/* ---- Mixed rows ------------------------------------------------------------------ */

/* Output rows from y on, the mixed rows that they need, and a part of the columns. */
struct band {
    uint32_t y, count;
    span rows;
    uint32_t column, width;
};

/* One column of some input rows; `line` counts them from the first. */
template <typename Rule, typename Put>
__device__ __forceinline__ void mix_column(const view &v, uint32_t first,
                                           uint32_t column, span lines, uint32_t step,
                                           const Put &put)
{
    const uint32_t x = v.a.c == 1 ? column : column / v.a.c;
    const int64_t from = v.column(x);
    const uint8_t *const image = v.input_row(column - x * v.a.c, first);
    if (from < 0) {
        for (uint32_t line = lines.begin; line < lines.end; line += step) put(line, 0);
    } else if constexpr (resizes<Rule>) {
        const auto t = Rule::read(taps_of(v.a.x, (uint32_t)from));
#pragma unroll 4
        for (uint32_t line = lines.begin; line < lines.end; line += step)
            put(line, Rule::mix(image + (uint64_t)line * v.a.x.in, t));
    } else {
        for (uint32_t line = lines.begin; line < lines.end; line += step)
            put(line, image[(uint64_t)line * v.a.x.in + from]);
    }
}

template <typename Rule>
__device__ __forceinline__ int mix_one(const view &v, uint32_t row, uint32_t column)
{
    int to = 0;
    mix_column<Rule>(v, row, column, span{0, 1}, 1,
                     [&](uint32_t, int value) { to = value; });
    return to;
}

/* Threads lie side by side along a row, and in several rows of a narrow image. */
template <typename Rule>
__device__ __forceinline__ void mix_rows(const view &v, const band &b,
                                         typename Rule::type *mixed, uint32_t stride)
{
    const uint32_t lines = b.rows.end - b.rows.begin;
    const uint32_t across = min(b.width, threads), down = threads / across;
    const uint32_t line = threadIdx.x / across, place = threadIdx.x - line * across;
    if (line >= down) return;
    for (uint32_t column = place; column < b.width; column += across)
        mix_column<Rule>(v, b.rows.begin, b.column + column, span{line, lines}, down,
                         [&](uint32_t at, int value) {
                             mixed[at * stride + column] = (typename Rule::type)value;
                         });
}

/* Pixel values of V columns of a resized row, from mixed rows in shared memory. */
template <typename Rule> struct mixed_rows {
    using type = typename Rule::type;
    const type *of;
    uint32_t stride;
    span rows;

    template <int V>
    __device__ void values(const vgg__gather_args &a, uint32_t row, uint32_t column,
                           uint32_t (&to)[V]) const
    {
        if constexpr (resizes<Rule>) {
            const taps t = taps_of(a.y, row);
            Rule::blend(
                a, t,
                [&](uint32_t k) {
                    /* a tap of no weight may be in another row */
                    const uint32_t at = min(max(t.at[k], rows.begin), rows.end - 1);
                    return vgg::load_packet<V>(of + (at - rows.begin) * stride +
                                               column);
                },
                to);
        } else {
            const type *const from = of + (row - rows.begin) * stride + column;
            for (int i = 0; i < V; i++) to[i] = from[i];
        }
    }
};

/* The same without them, for a resize that needs more rows than there is room for. */
template <typename Rule> struct unmixed_rows {
    using type = typename Rule::type;
    const view &v;
    uint32_t first; /* column */

    template <int V>
    __device__ void values(const vgg__gather_args &a, uint32_t row, uint32_t column,
                           uint32_t (&to)[V]) const
    {
        if constexpr (resizes<Rule>) {
            const taps t = taps_of(a.y, row);
            Rule::blend(
                a, t,
                [&](uint32_t k) {
                    packet<type, V> p;
                    for (int i = 0; i < V; i++)
                        p.at[i] = (type)mix_one<Rule>(v, t.at[k],
                                                      first + column + (uint32_t)i);
                    return p;
                },
                to);
        } else {
            for (int i = 0; i < V; i++)
                to[i] = (uint32_t)mix_one<Rule>(v, row, first + column + (uint32_t)i);
        }
    }
};

/* ---- Output ---------------------------------------------------------------------- */

/* Neighbouring elements of an output row: the first, in the band and in the row. */
struct run {
    uint32_t y, at, column;
};

/* V of them. */
template <typename T, int V, typename Rows>
__device__ __forceinline__ void write_run(const view &v, const Rows &rows, const run &r,
                                          const float *table, T *out)
{
    const uint32_t y = r.y, at = r.at, column = r.column, c = v.a.c;
    const uint32_t first = c == 1 ? column : column / c; /* pixel */
    const int64_t row = v.row(y);
    uint32_t values[V] = {};
    if (row >= 0) rows.values(v.a, (uint32_t)row, at, values);
    float to[V];
    if (c == 1) {
#pragma unroll
        for (int i = 0; i < V; i++) to[i] = table[values[i]];
    } else {
        uint32_t channel = column - first * c;
#pragma unroll
        for (int i = 0; i < V; i++) {
            to[i] = table[channel * 256 + values[i]];
            if (++channel == c) channel = 0;
        }
    }
    if (v.erases(y)) {
        uint32_t x = first, rest = c - (column - first * c);
#pragma unroll
        for (int i = 0; i < V; i++) {
            if (v.erases_column(x)) to[i] = 0;
            if (--rest == 0) {
                rest = c;
                x++;
            }
        }
    }
    vgg::store(out, to);
}

/* Threads lie as in mix_rows(). */
template <typename T, int V, typename Rows>
__device__ __forceinline__ void write_band(const view &v, const Rows &rows,
                                           const band &b, const float *table, T *image)
{
    const uint32_t width = v.a.w * v.a.c, runs = b.width / V;
    const uint32_t across = min(runs, threads), down = threads / across;
    const uint32_t line = threadIdx.x / across, place = threadIdx.x - line * across;
    if (line >= down) return;
    for (uint32_t at = place * V; at < b.width; at += across * V) {
        T *const column = image + b.column + at;
        for (uint32_t y = b.y + line; y < b.y + b.count; y += down)
            write_run<T, V>(v, rows, run{y, at, b.column + at}, table,
                            column + (uint64_t)y * width);
    }
}

/* Mixed rows that output rows y to before `end` need: none, {0, 0}, if all of those
 * show what lies outside. */
template <typename Rule>
__device__ __forceinline__ span rows_needed(const view &v, uint32_t y, uint32_t end)
{
    while (y < end && v.row(y) < 0) y++;
    while (end > y && v.row(end - 1) < 0) end--;
    if (y == end) return span{0, 0};
    return span{rows_behind<Rule>(v.a, (uint32_t)v.row(y)).begin,
                rows_behind<Rule>(v.a, (uint32_t)v.row(end - 1)).end};
}

/* As many output rows from y on as `most` mixed rows are enough for, which are then
 * b.rows; none: the first needs more. */
template <typename Rule>
__device__ __forceinline__ band plan_band(const view &v, uint32_t y, uint32_t end,
                                          uint32_t most)
{
    band b = {y, end - y, rows_needed<Rule>(v, y, end), 0, 0};
    for (;;) {
        const uint32_t needed = b.rows.end - b.rows.begin;
        if (needed <= most) return b;
        b.count = b.count == 1 ? 0 : max(1u, b.count * most / needed);
        b.rows = rows_needed<Rule>(v, y, y + b.count);
    }
}

template <typename T, int V, typename Rule>
__device__ __forceinline__ void make_rows(const view &v, uint32_t y, uint32_t end,
                                          const float *table, T *image)
{
    using element = typename Rule::type;
    using memory = uint4[room / sizeof(uint4)];
    element *const mixed = (element *)vgg::shared<memory>();
    const uint32_t width = v.a.w * v.a.c, most_columns = room / sizeof(element) / 4;
    const uint32_t columns = width < most_columns ? width : most_columns / V * V;
    const uint32_t stride = (columns + 7) / 8 * 8;
    const uint32_t most = room / (stride * (uint32_t)sizeof(element));
    while (y < end) {
        band b = plan_band<Rule>(v, y, end, most);
        const bool fits = b.count > 0;
        if (!fits) b.count = 1;
        for (b.column = 0; b.column < width; b.column += columns) {
            const uint32_t rest = width - b.column;
            b.width = rest < columns ? rest : columns;
            if (fits) {
                __syncthreads(); /* who still reads the rows before */
                mix_rows<Rule>(v, b, mixed, stride);
                __syncthreads();
                write_band<T, V>(v, mixed_rows<Rule>{mixed, stride, b.rows}, b, table,
                                 image);
            } else {
                write_band<T, V>(v, unmixed_rows<Rule>{v, b.column}, b, table, image);
            }
        }
        y += b.count;
    }
}

template <typename T, int V>
__device__ __forceinline__ void clear_rows(const vgg__gather_args &a, uint32_t y,
                                           uint32_t end, T *image)
{
    const uint64_t width = (uint64_t)a.w * a.c, last = end * width;
    const float zeros[V] = {};
    for (uint64_t i = y * width + threadIdx.x * V; i < last; i += threads * V)
        vgg::store(image + i, zeros);
}

template <typename T, int V>
__device__ __forceinline__ void make_image(const vgg__gather_args &a, uint64_t n,
                                           uint32_t y, const float *table)
{
    const uint32_t end = y + rows_of_block < a.h ? y + rows_of_block : a.h;
    T *const image = (T *)a.out + n * a.h * a.w * a.c;
    if (n >= a.step->count) {
        clear_rows<T, V>(a, y, end, image);
        return;
    }
    const view v = {a, a.samples[n]};
    if (a.resize_rule == 0)
        make_rows<T, V, opencv>(v, y, end, table, image);
    else if (a.resize_rule == 1)
        make_rows<T, V, exact>(v, y, end, table, image);
    else if (a.resize_rule == 2)
        make_rows<T, V, pillow>(v, y, end, table, image);
    else
        make_rows<T, V, unchanged>(v, y, end, table, image);
}

template <typename T>
__global__ void __launch_bounds__(threads, 4) gather(const vgg__gather_args a)
{
    using list = float[most_channels * 256];
    list &table = vgg::shared<list>();
    for (uint32_t i = threadIdx.x; i < a.c * 256; i += threads) table[i] = a.table[i];
    __syncthreads();
    const uint32_t parts = (a.h + rows_of_block - 1) / rows_of_block;
    const uint64_t all = (uint64_t)a.n * parts;
    for (uint64_t i = blockIdx.x; i < all; i += gridDim.x) {
        const uint64_t n = i / parts;
        const uint32_t y = (uint32_t)(i - n * parts) * rows_of_block;
        if (a.w * a.c % vgg::lanes<T> == 0)
            make_image<T, vgg::lanes<T>>(a, n, y, table);
        else
            make_image<T, 1>(a, n, y, table);
    }
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_gather[VGG__TYPES] = {
    vgg::entry<gather<float>>("gather f32", threads),
    vgg::entry<gather<bf16>>("gather bf16", threads)};
