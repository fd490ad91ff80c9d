/* SPDX-License-Identifier: Apache-2.0 */
/* What a first layer's two directions share: the image in tiles of 2x2 windows.
 *
 * A window is four neighbouring pixels of the convolution's output, places 0 .. 3 in
 * row-major order, and what a pool makes one of. All that it depends on is the patch of
 * 4x4 pixels around it. A block takes one tile after the other, brings its pixels and
 * those around them into shared memory, and works on 16 channels (blockIdx.y says
 * which). */
#ifndef VGG_CUDNN_CONV_FIRST_CUH
#define VGG_CUDNN_CONV_FIRST_CUH

#include "kernel.cuh"
#include "tiles.h"

namespace vgg
{

constexpr uint32_t first_threads = VGG__THREADS;
constexpr uint32_t first_warps = first_threads / 32;
constexpr uint32_t first_channels = VGG__FIRST_CHANNELS;
constexpr uint32_t first_lines = 2 * VGG__FIRST_ROWS + 2; /* of pixels */

struct first_tile {
    uint64_t n;
    uint32_t row, column; /* of its first window */
    uint32_t rows, columns;
};

/* The windows of all images; with pooling those that are whole, else all. */
struct first_tiling {
    uint32_t down, across; /* windows of an image */
    uint32_t bands, parts; /* tiles of an image */
    uint32_t columns;      /* windows of a part; the last may have fewer */

    __device__ __forceinline__ first_tiling(uint32_t h, uint32_t w, bool whole)
        : down(whole ? h / 2 : (h + 1) / 2), across(whole ? w / 2 : (w + 1) / 2)
    {
        bands = (down + VGG__FIRST_ROWS - 1) / VGG__FIRST_ROWS;
        parts = (across + VGG__FIRST_COLUMNS - 1) / VGG__FIRST_COLUMNS;
        columns = parts == 0 ? 0 : (across + parts - 1) / parts;
    }

    __device__ __forceinline__ first_tile tile(uint64_t i) const
    {
        const uint64_t line = divide(i, parts), n = divide(line, bands);
        const uint32_t row = (uint32_t)(line - n * bands) * VGG__FIRST_ROWS;
        const uint32_t column = (uint32_t)(i - line * parts) * columns;
        return first_tile{n, row, column, min(down - row, (uint32_t)VGG__FIRST_ROWS),
                          min(across - column, columns)};
    }

    __device__ __forceinline__ uint64_t count(uint32_t n) const
    {
        return (uint64_t)n * bands * parts;
    }
};

/* i / columns by a multiplication with inverse_of(columns), for up to 64 columns and
 * the numbers up to 1023 that occur. */
__device__ __forceinline__ uint32_t inverse_of(uint32_t columns)
{
    return (65536 + columns - 1) / columns;
}

__device__ __forceinline__ uint32_t line_of(uint32_t i, uint32_t inverse)
{
    return i * inverse >> 16;
}

/* Window i of a tile. */
struct first_place {
    uint32_t row, column;
};

__device__ __forceinline__ first_place place_in_tile(uint32_t i, uint32_t columns,
                                                     uint32_t inverse)
{
    const uint32_t row = line_of(i, inverse);
    return first_place{row, i - row * columns};
}

/* Two words of shared memory that are not kept in registers from one turn of a loop to
 * the next, of which there are too few for it. */
__device__ __forceinline__ uint2 read_again(const uint2 *from)
{
#ifdef VGG_HOST_CUDA
    return *from;
#else
    uint2 to;
    asm volatile("ld.volatile.shared.v2.u32 {%0, %1}, [%2];"
                 : "=r"(to.x), "=r"(to.y)
                 : "r"((uint32_t)__cvta_generic_to_shared(from)));
    return to;
#endif
}

/* The same of all that the loop reads, as far as the compiler's first half goes. */
__device__ __forceinline__ void read_again()
{
#ifndef VGG_HOST_CUDA
    asm volatile("" ::: "memory");
#endif
}

/* put(line, element, bits) for the pixels of `columns` windows of each of the tile's
 * rows and those around them: elements count along [pixel][ic]; zeros outside of the
 * image. Warps take pieces of 32 elements, and read many before they put the first. */
template <int IC, typename T, typename Put>
__device__ __forceinline__ void bring_pixels(const T *x, uint32_t h, uint32_t w,
                                             const first_tile &t, uint32_t columns,
                                             const Put &put)
{
    constexpr uint32_t ahead = 9;
    using bits =
        typename word<sizeof(T)>::type; /* a plain number stays in a register */
    const int32_t first = ((int32_t)t.column * 2 - 1) * IC, end = (int32_t)w * IC;
    const uint32_t width = (2 * columns + 2) * IC, pieces = (width + 31) / 32;
    const uint32_t all = (2 * t.rows + 2) * pieces, inverse = inverse_of(pieces);
    const bits *const image = (const bits *)x + (int64_t)t.n * h * end;
    for (uint32_t i = threadIdx.x / 32; i < all; i += ahead * first_warps) {
        bits values[ahead];
#pragma unroll
        for (uint32_t k = 0; k < ahead; k++) {
            const first_place p = place_in_tile(i + k * first_warps, pieces, inverse);
            const int32_t y = (int32_t)(2 * t.row + p.row) - 1;
            const int32_t at = first + (int32_t)(p.column * 32 + threadIdx.x % 32);
            const bool inside = i + k * first_warps < all && y >= 0 && y < (int32_t)h &&
                                at >= 0 && at < end;
            values[k] = inside ? image[(int64_t)y * end + at] : (bits)0;
        }
#pragma unroll
        for (uint32_t k = 0; k < ahead; k++) {
            const first_place p = place_in_tile(i + k * first_warps, pieces, inverse);
            const uint32_t e = p.column * 32 + threadIdx.x % 32;
            if (i + k * first_warps < all && e < width) put(p.row, e, values[k]);
        }
    }
}

} // namespace vgg

#endif
