/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution by its definition, stride 1 and zeros around the map, for whatever
 * nothing else takes. x [n][h][w][ic], w [oc][k][k][ic], y and dy [n][h][w][oc]. */
#include "kernel.cuh"
#include "tiles.h"

namespace
{

using vgg::bf16;

constexpr uint32_t threads = VGG__THREADS;

struct pixel {
    uint64_t n;
    uint32_t h, w;
};

template <typename T> struct plain {
    const vgg__conv_plain_args &a;

    __device__ pixel find(uint64_t row) const
    {
        const uint64_t line = vgg::divide(row, a.wd), n = vgg::divide(line, a.h);
        return pixel{n, (uint32_t)(line - n * a.h), (uint32_t)(row - line * a.wd)};
    }

    /* The pixel that lies kh - pad rows below and kw - pad columns to the right (with
     * `back`: above and to the left), counted along [n][h][w]; -1: outside. */
    __device__ int64_t shifted(const pixel &p, uint32_t kh, uint32_t kw,
                               bool back) const
    {
        const int64_t pad = a.kernel / 2;
        const int64_t down = back ? pad - kh : kh - pad;
        const int64_t right = back ? pad - kw : kw - pad;
        const int64_t h = p.h + down, w = p.w + right;
        if (h < 0 || h >= a.h || w < 0 || w >= a.wd) return -1;
        return ((int64_t)p.n * a.h + h) * a.wd + w;
    }

    __device__ float x(int64_t row, uint32_t ic) const
    {
        return vgg::to_float(((const T *)a.x)[row * a.ic + ic]);
    }

    __device__ float dy(int64_t row, uint32_t oc) const
    {
        return vgg::to_float(((const T *)a.dy)[row * a.oc + oc]);
    }

    __device__ float weight(uint32_t oc, uint32_t kh, uint32_t kw, uint32_t ic) const
    {
        const uint64_t tap = ((uint64_t)oc * a.kernel + kh) * a.kernel + kw;
        return vgg::to_float(((const T *)a.w)[tap * a.ic + ic]);
    }

    __device__ float forward(const pixel &p, uint32_t oc) const
    {
        float sum = 0;
        for (uint32_t kh = 0; kh < a.kernel; kh++)
            for (uint32_t kw = 0; kw < a.kernel; kw++) {
                const int64_t from = shifted(p, kh, kw, false);
                for (uint32_t ic = 0; from >= 0 && ic < a.ic; ic++)
                    sum += x(from, ic) * weight(oc, kh, kw, ic);
            }
        return sum;
    }

    __device__ float data(const pixel &p, uint32_t ic) const
    {
        float sum = 0;
        for (uint32_t kh = 0; kh < a.kernel; kh++)
            for (uint32_t kw = 0; kw < a.kernel; kw++) {
                const int64_t from = shifted(p, kh, kw, true);
                for (uint32_t oc = 0; from >= 0 && oc < a.oc; oc++)
                    sum += dy(from, oc) * weight(oc, kh, kw, ic);
            }
        return sum;
    }

    /* This thread's part of the sum over all pixels. */
    __device__ double weights(uint32_t oc, uint32_t kh, uint32_t kw, uint32_t ic) const
    {
        const uint64_t rows = (uint64_t)a.n * a.h * a.wd;
        double sum = 0;
        for (uint64_t row = threadIdx.x; row < rows; row += threads) {
            const int64_t from = shifted(find(row), kh, kw, false);
            if (from >= 0) sum += (double)x(from, ic) * dy((int64_t)row, oc);
        }
        return sum;
    }

    __device__ void all_pixels() const
    {
        const uint32_t c = a.what == 0 ? a.oc : a.ic;
        const uint64_t count = (uint64_t)a.n * a.h * a.wd * c;
        for (uint64_t at = vgg::thread_number(); at < count;
             at += vgg::thread_count()) {
            const uint64_t row = vgg::divide(at, c);
            const uint32_t channel = (uint32_t)(at - row * c);
            const float sum =
                a.what == 0 ? forward(find(row), channel) : data(find(row), channel);
            ((T *)a.out)[at] = vgg::from_float<T>(sum);
        }
    }

    __device__ void all_weights() const
    {
        const uint64_t count = (uint64_t)a.oc * a.kernel * a.kernel * a.ic;
        for (uint64_t at = blockIdx.x; at < count; at += gridDim.x) {
            const uint64_t tap = at / a.ic, line = tap / a.kernel;
            const uint32_t oc = (uint32_t)(line / a.kernel);
            const double sum =
                weights(oc, (uint32_t)(line % a.kernel), (uint32_t)(tap % a.kernel),
                        (uint32_t)(at % a.ic));
            const double total = vgg::block_sum<threads>(sum);
            if (threadIdx.x == 0) ((float *)a.out)[at] = (float)total;
        }
    }
};

template <typename T>
__global__ void __launch_bounds__(threads) conv_plain(const vgg__conv_plain_args a)
{
    if (a.what == 2)
        plain<T>{a}.all_weights();
    else
        plain<T>{a}.all_pixels();
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_conv_plain[VGG__TYPES] = {
    vgg::entry<conv_plain<float>>("conv_plain f32", threads),
    vgg::entry<conv_plain<bf16>>("conv_plain bf16", threads)};
