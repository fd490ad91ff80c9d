/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops of the CPU engine, built once per instruction set from one source.
 *
 * kernels.c is written in portable vector extensions and compiled several times; a device
 * takes the widest table that its processor runs, when it opens. Between stages the engine
 * keeps images as [n][h][w][c]: channels are the vectors' axis. */
#ifndef VGG_CPU_KERNELS_H
#define VGG_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Instruction sets, in the order in which a processor grows. */
enum vgg__isa {
    VGG_ISA_BASE = 0, /* SSE2, or NEON on aarch64 */
    VGG_ISA_AVX = 1,  /* never ours, but an OpenBLAS core may be of it */
    VGG_ISA_AVX2 = 2, /* and FMA */
    VGG_ISA_AVX512 = 3
};

/* c[rows][cols] (+)= a * b over k, for a block of C that is held in registers. */
struct vgg__tile {
    size_t k;
    const float *a; /* element (i, l) at a[i * a_row + l * a_col] */
    size_t a_row, a_col;
    const float *b; /* row l at b + l * b_row, `cols` of the table wide */
    size_t b_row;
    float *c;
    size_t c_row;
    bool accumulate;
};

/* Epilogue of a convolution: rows of y = relu(x + bias), pooled 2x2. */
struct vgg__pool_row {
    const float *top, *bottom; /* [2 * w][c]: the two rows of a window */
    size_t w, c;               /* w: windows */
    float *y;                  /* [w][c] */
    uint8_t *winner;           /* [w][c], 0..3 in reading order; NULL: not kept */
};

struct vgg__kernels {
    const char *name;
    uint32_t isa;
    uint32_t rows, cols; /* of a full block of C */
    /* `rows` here: 1 .. the table's. `wide` false: only cols / 2 columns. */
    void (*tile)(uint32_t rows, bool wide, const struct vgg__tile *tile);
    /* x += bias, then max(x, 0) if relu; NaN stays NaN. x [rows][c], in place. */
    void (*bias_relu)(float *x, size_t rows, size_t c, const float *bias, bool relu);
    void (*max_pool)(const struct vgg__pool_row *row);
    void (*average_pool)(const struct vgg__pool_row *row);
    /* d = y > 0 ? d : 0, also 0 where y is NaN. */
    void (*relu_mask)(float *out, const float *d, const float *y, size_t count);
    /* sum[c] += column sums of x [rows][c], in the order of rows. */
    void (*add_rows)(float *sum, const float *x, size_t rows, size_t c);
    /* y += x. */
    void (*add)(float *y, const float *x, size_t count);
};

#if defined(__x86_64__)
extern const struct vgg__kernels vgg__kernels_sse2;
extern const struct vgg__kernels vgg__kernels_avx2;
extern const struct vgg__kernels vgg__kernels_avx512;
#else
extern const struct vgg__kernels vgg__kernels_base;
#endif

/* The widest table that the processor runs and that is not above `most`. */
const struct vgg__kernels *vgg__kernels_choose(uint32_t most);

/* "AVX-512", ... */
const char *vgg__isa_name(uint32_t isa);

/* The processor's name as it says itself, or the architecture's. */
void vgg__processor_name(char *text, size_t size);

#endif
