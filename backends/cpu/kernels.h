/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops of the CPU engine, built once per instruction set from one source.
 *
 * kernels.c is written in portable vector extensions and compiled several times; a
 * device takes the widest table that its processor runs, when it opens. Between stages
 * the engine keeps images as [n][h][w][c]: channels are the vectors' axis. */
#ifndef VGG_CPU_KERNELS_H
#define VGG_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Instruction sets, in the order in which a processor grows. */
enum vgg__isa {
    VGG_ISA_BASE = 0, /* SSE2, or NEON on aarch64 */
    VGG_ISA_AVX2 = 1, /* and FMA */
    VGG_ISA_AVX512 = 2
};

/* Plain SGD: c -= rate * (a * b + decay * c); a decay of 0 leaves c out of it. */
struct vgg__descent {
    float rate, decay;
};

#define VGG__MOST_COLS 32 /* of a block of C, in any table */

/* c[rows][cols] (+)= a * b over k, for a block of C that is held in registers. */
struct vgg__tile {
    size_t k;
    const float *a; /* element (i, l) at a[i * a_row + l * a_col] */
    size_t a_row, a_col;
    size_t a_skip;  /* more elements of a between steps 15 and 16, 31 and 32, ... */
    const float *b; /* row l at b + l * b_row, `cols` of the table wide */
    size_t b_row;
    float *c;
    size_t c_row;
    bool accumulate;
    const struct vgg__descent *descent; /* not NULL: an update instead */
    /* Meanwhile bring lines of 64 bytes of these rows to the cache. */
    const char *ahead;
    size_t ahead_row; /* bytes */
    uint32_t ahead_rows, ahead_lines;
};

/* Pixels of a map and their neighbours, laid side by side: the left-hand matrix of a
 * convolution. */
struct vgg__columns {
    const float *x;    /* [h][w][c] */
    size_t h, w, c;    /* outside of it all is zero */
    size_t top, left;  /* first pixel */
    size_t rows, cols; /* pixels */
    size_t kernel;     /* 1 or 3 */
    float *out;        /* [rows][cols][stride]: kh, kw, c, and nothing in the rest */
    size_t stride;
};

#define VGG__NONE 255 /* in `kept`: no pixel of the window gets a gradient */

/* A row of 2x2 windows. */
struct vgg__windows {
    const float *top, *bottom; /* [2 * count][c] */
    size_t count, c;
    float *y; /* [count][c] */
    /* [count][c]; NULL: not kept. Maximum: the winner's place, 0..3 in reading order,
     * or VGG__NONE where the ReLU behind it gives zero (bias_relu_kept() says so).
     * Average: bit i is set if the value at place i passes the ReLU. */
    uint8_t *kept;
};

/* What a map's pixels are read from. */
enum vgg__source_kind {
    VGG__PLAIN,         /* x [h][w][c] */
    VGG__MASKED,        /* x where y > 0 or NaN, both [h][w][c] */
    VGG__MAX_POOLED,    /* x [h/2][w/2][c], at the place that `kept` says, if any */
    VGG__AVERAGE_POOLED /* a quarter of x [h/2][w/2][c] where `kept` has the bit */
};

/* A map; all is zero outside of it. */
struct vgg__source {
    uint32_t kind;
    const float *x, *y;
    const uint8_t *kept; /* [h/2][w/2][c], as struct vgg__windows has it */
    size_t h, w, c;
    size_t channels; /* to be taken, from the first on */
};

/* The same from channel `first` on. */
static inline struct vgg__source vgg__source_from(const struct vgg__source *source,
                                                  size_t first)
{
    struct vgg__source from = *source;
    from.x += first;
    if (from.y) from.y += first;
    if (from.kept) from.kept += first;
    from.channels -= first;
    return from;
}

/* What becomes of a convolution's sums, and where. */
struct vgg__output {
    size_t h, w, c; /* of the map, before pooling */
    size_t width;   /* channels that are written: at most two vectors */
    /* At the first of them of the map [h][w][c], pooled [h/2][w/2][c]. */
    float *y;
    uint8_t *kept; /* pooled, as struct vgg__windows has it; NULL: not kept */
    const float *bias;
    bool relu;
    uint32_t pool;
};

/* A row of gradients before pooling, from the gradients behind it. */
struct vgg__unpool {
    const float *dy;     /* [count][c] of windows */
    const uint8_t *kept; /* as above */
    size_t c;
    size_t begin, end; /* columns of the map before pooling */
    uint8_t row;       /* of the window, 0 or 1 */
    float *out;        /* [end - begin][c] */
};

/* Dropout's choice for blocks of four elements, as common/dropout.h defines it. */
struct vgg__draw {
    uint64_t seed, step;
    uint64_t index; /* of the first block */
    uint32_t purpose;
    float rate;
    size_t blocks;
    uint8_t *keep; /* [blocks][4] */
};

struct vgg__winograd_kernels; /* winograd.h */
struct vgg__first_kernels;    /* first.h */
struct vgg__linear_kernels;

struct vgg__kernels {
    const char *name;
    uint32_t isa;
    uint32_t rows, cols; /* of a full block of C; cols is two vectors */
    const struct vgg__winograd_kernels *winograd;
    const struct vgg__first_kernels *first;
    /* `rows` here: 1 .. the table's. `wide` false: only cols / 2 columns. */
    void (*tile)(uint32_t rows, bool wide, const struct vgg__tile *tile);
    const struct vgg__linear_kernels *linear; /* kernels_linear.h */
    void (*columns)(const struct vgg__columns *columns);
    /* x [rows][c] += bias (NULL: none), then max(x, 0) if relu; NaN stays NaN. */
    void (*bias_relu)(float *x, size_t rows, size_t c, const float *bias, bool relu);
    /* The same with a ReLU, and VGG__NONE in kept[i] where it gives zero. */
    void (*bias_relu_kept)(float *x, size_t rows, size_t c, const float *bias,
                           uint8_t *kept);
    void (*max_pool)(const struct vgg__windows *windows);
    /* The average of max(x, 0) if relu. */
    void (*average_pool)(const struct vgg__windows *windows, bool relu);
    void (*max_unpool)(const struct vgg__unpool *unpool);
    void (*average_unpool)(const struct vgg__unpool *unpool);
    /* out = y <= 0 ? 0 : d; out may be d. */
    void (*relu_mask)(float *out, const float *d, const float *y, size_t count);
    /* sum[c] += column sums of x [rows][c], in the order of rows. */
    void (*add_rows)(float *sum, const float *x, size_t rows, size_t c);
    /* y += x. */
    void (*add)(float *y, const float *x, size_t count);
    void (*draw)(const struct vgg__draw *draw);
    /* out = keep ? x * scale : 0; out may be x. */
    void (*drop)(float *out, const float *x, const uint8_t *keep, float scale,
                 size_t count);
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
