/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's own kernels and their arguments: one struct each, passed by value.
 *
 * Conventions, unless an entry says otherwise:
 *   - activations and their gradients are [n][h][w][c], of the element type that the
 *     kernel was chosen for (enum vgg__type); sums, biases, statistics and parameters
 *     are f32;
 *   - `n` is the batch that the program was compiled for; samples from step->count on
 *     are padding: kernels that read the boundary's data write zeros there;
 *   - outputs are overwritten; what is added to says so;
 *   - arrays are aligned to 16 bytes and do not overlap (but in place where said);
 *   - sums over many elements are made in a fixed order: the same bits every time.
 *
 * Sums over pixels come in two steps: every block writes a row of partial sums
 * [blocks][c], and vgg__kernel_sum_rows adds them up. */
#ifndef VGG_CUDNN_KERNELS_H
#define VGG_CUDNN_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum vgg__type { VGG__F32, VGG__BF16, VGG__TYPES };

struct vgg__grid {
    uint32_t blocks[3], threads[3];
};

/* One kernel for one element type. */
struct vgg__kernel {
    const char *name;
    const void *function;           /* for cudaLaunchKernel; NULL in a host build */
    void (*host)(const void *args); /* one thread of it, in a host build; else NULL */
    size_t args;                    /* bytes of its argument */
    uint32_t threads;               /* most of a block */
};

/* What differs from run to run. Lives in device memory, so that a captured graph can be
 * replayed: the host writes it before each phase. */
struct vgg__step {
    uint64_t seed, step;
    uint32_t first; /* place of the first sample in the step's whole batch */
    uint32_t count; /* samples of this run */
    float smoothing;
    float gradient_scale; /* of the loss' gradient, beside 1 / count */
    /* update */
    float lr, weight_decay;
};

/* The result of a loss, written by vgg__kernel_loss_sum. */
struct vgg__loss_result {
    double sum;
    uint32_t correct, reserved;
};

/* *to = value (step.cu): a launch carries the step to the device, so that no host
 * memory has to outlive it. */
struct vgg__set_step_args {
    struct vgg__step value;
    struct vgg__step *to;
};
extern const struct vgg__kernel vgg__kernel_set_step; /* one thread */

/* ---- Boundary -------------------------------------------------------------------- */

/* f32 [n][c][h][w] to [n][h][w][c] of the type; padding samples become zeros. */
struct vgg__take_in_args {
    const float *in;
    void *out;
    uint32_t n, c, h, w;
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_take_in[VGG__TYPES];

/* [n][h][w][c] of the type to f32 [n][c][h][w]. */
struct vgg__give_out_args {
    const void *in;
    float *out;
    uint32_t n, c, h, w;
};
extern const struct vgg__kernel vgg__kernel_give_out[VGG__TYPES];

/* [n][h][w][c] to [n][c][h][w] of the same type (`back`: the other way): flatten. What
 * is not above 0 in `mask`, which lies as `out`, becomes 0; a NaN there lets pass. */
struct vgg__flatten_args {
    const void *in;
    void *out;
    uint32_t n, c, h, w;
    uint32_t back;
    const void *mask; /* NULL: none */
};
extern const struct vgg__kernel vgg__kernel_flatten[VGG__TYPES];

/* One axis of a resize, in device memory; see vgg_axis in backend.h. Along the axis,
 * and from tap to tap of a pixel, at[] does not descend; a tap of weight 0 may be
 * anywhere on it. */
struct vgg__kernel_axis {
    uint32_t in, out, taps;
    const uint32_t *at;
    const int32_t *weight;
};

/* As vgg_sample in backend.h, 48 bytes. */
struct vgg__kernel_sample {
    uint64_t index;
    int32_t down, right;
    uint32_t flip;
    uint32_t erase_top, erase_left, erase_height, erase_width;
    uint32_t reserved;
};

/* Images of a data set on the device to input [n][h][w][c] of the type: resized bit for
 * bit as lib/data does, cropped, moved, looked up, erased. */
struct vgg__gather_args {
    const uint8_t *images; /* [count][c][y.in][x.in] */
    const struct vgg__kernel_sample *samples;
    void *out;
    const float *table;   /* [c][256] */
    uint32_t resize_rule; /* 0 OpenCV, 1 exact, 2 Pillow, UINT32_MAX none */
    struct vgg__kernel_axis x, y;
    uint32_t top, left;
    uint32_t n, c, h, w; /* of the output */
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_gather[VGG__TYPES];
struct vgg__grid vgg__gather_grid(const struct vgg__gather_args *args);

/* ---- Elementwise and small stages ------------------------------------------------ */

/* y = max(x + bias[c], 0), each part optional; in place allowed. NaN stays NaN. */
struct vgg__bias_relu_args {
    const void *x;
    void *y;
    const float *bias; /* NULL: none */
    uint64_t rows;     /* n * h * w */
    uint32_t c;
    uint32_t relu;
};
extern const struct vgg__kernel vgg__kernel_bias_relu[VGG__TYPES];

/* dz = (y > 0 ? dy * scale : 0), and partial sums of dz over rows for the bias. A NaN
 * in y passes the gradient, as in PyTorch. dz may be dy; NULL: only the sums are
 * wanted. */
struct vgg__mask_args {
    const void *dy;
    const void *y; /* NULL: nothing is masked */
    void *dz;
    float *partial; /* [blocks][c]; NULL: no sums */
    uint64_t rows;
    uint32_t c;
    float scale;
};
extern const struct vgg__kernel vgg__kernel_mask[VGG__TYPES];

/* 2x2 pooling, stride 2, floor; before it, if asked for, x + bias and ReLU. */
struct vgg__pool_args {
    const void *x;   /* [n][2h or 2h + 1][2w or 2w + 1][c]: ih, iw */
    void *y;         /* [n][h][w][c] */
    uint8_t *winner; /* place 0 .. 3 in the window, [n][h][w][c]; NULL: not kept */
    const float *bias;
    uint32_t n, ih, iw, h, w, c;
    uint32_t maximum, relu;
};
extern const struct vgg__kernel vgg__kernel_pool[VGG__TYPES];

/* Its backward: dx [n][ih][iw][c] is overwritten as a whole. With `y` (maximum: the
 * pooled output; average: the pool's input [n][ih][iw][c]) the gradient is masked where
 * it is not above 0. Partial sums of what dx gets, for a bias. */
struct vgg__unpool_args {
    const void *dy;
    const void *y; /* NULL: no mask */
    const uint8_t *winner;
    void *dx;
    float *partial; /* [blocks][c]; NULL */
    uint32_t n, ih, iw, h, w, c;
    uint32_t maximum;
};
extern const struct vgg__kernel vgg__kernel_unpool[VGG__TYPES];

/* out[c] += the sum over rows of partial[row][c] (`add` 0: overwrites). Columns from
 * `split` on, if that is not 0, go to rest[c - split]. NULL: they are not wanted. */
struct vgg__sum_rows_args {
    const float *partial;
    float *out;
    uint32_t rows, c;
    uint32_t add, split;
    float *rest;
};
extern const struct vgg__kernel vgg__kernel_sum_rows;

/* Average pooling to h x w as ref/adaptive_pool.c; and its backward (dy in `x`, dx in
 * `y`: each dx is gathered, so that nothing is added atomically). */
struct vgg__adaptive_pool_args {
    const void *x;
    void *y;
    uint32_t n, c, ih, iw, h, w;
    uint32_t backward;
};
extern const struct vgg__kernel vgg__kernel_adaptive_pool[VGG__TYPES];

/* Inverted dropout with the numbers of common/dropout.c, whose index is the canonical
 * [n][c][h][w] element. Forward and backward are the same. In place allowed. */
struct vgg__dropout_args {
    const void *x;
    void *y;
    uint32_t n, c, h, w;
    uint32_t layer;
    float rate;
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_dropout[VGG__TYPES];

/* ---- Batch normalisation ------------------------------------------------------------
 * statistics: two sums over the run's samples in partial [blocks][2][c] doubles: of x
 * and x * x about the channel's first value (x - x[0][c]); `finish` turns them into
 * mean and 1 / sqrt(var + epsilon), and moves the running statistics unless one of
 * these would not be finite. What a float leaves of the mean is `offset`, in units of
 * the spread: xhat = (x - mean) * inverse - offset. */
struct vgg__norm_sums_args {
    const void *x;
    double *partial;
    uint32_t n, hw, c;
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_norm_sums[VGG__TYPES];

struct vgg__norm_finish_args {
    const void *x; /* for the first values */
    const double *partial;
    float *mean, *inverse, *offset; /* out, [c] */
    float *running_mean, *running_var;
    uint32_t rows, hw, c; /* rows of partial */
    uint32_t batch;       /* 1: the batch's statistics; 0: the running ones */
    double epsilon, momentum;
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_norm_finish[VGG__TYPES];

/* y = xhat * gamma + beta, then ReLU if asked for. */
struct vgg__norm_apply_args {
    const void *x;
    void *y;
    const float *mean, *inverse, *offset, *gamma, *beta;
    uint64_t rows;
    uint32_t c, relu;
};
extern const struct vgg__kernel vgg__kernel_norm_apply[VGG__TYPES];

/* Sums of dy and dy * (xhat + offset) (dy masked where y is given and not above 0) over
 * the run's samples, partial [blocks][2][c] doubles. */
struct vgg__norm_back_sums_args {
    const void *x, *dy, *y;
    const float *mean, *inverse;
    double *partial;
    uint32_t n, hw, c;
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_norm_back_sums[VGG__TYPES];

/* Adds them up: dbeta += sum dy, dgamma += sum dy * xhat (each NULL: frozen), and
 * writes both sums to total [2][c]. */
struct vgg__norm_back_finish_args {
    const double *partial;
    double *total;
    const float *offset;
    float *dgamma, *dbeta;
    uint32_t rows, c;
};
extern const struct vgg__kernel vgg__kernel_norm_back_finish;

/* dx = gamma * inverse * (dy - [sum dy + xhat * sum dy xhat] / values), the bracket
 * only with `batch`; padding samples get 0. */
struct vgg__norm_back_args {
    const void *x, *dy, *y;
    void *dx;
    const float *mean, *inverse, *offset, *gamma;
    const double *total;
    uint32_t n, hw, c, batch;
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_norm_back[VGG__TYPES];

/* ---- Linear layers ------------------------------------------------------------------
 * y = dropout(relu(acc + bias)), acc f32 [n][c]. Output is of the kernel's type, or f32
 * with `out_f32` (the network's output). Element [i][j] is number i * c + j for
 * dropout. */
struct vgg__linear_finish_args {
    const float *acc;
    void *y;
    const float *bias;
    uint32_t n, c;
    uint32_t relu, out_f32;
    float rate; /* 0: no dropout */
    uint32_t layer;
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_linear_finish[VGG__TYPES];

/* dz of the type from dy (f32 with `in_f32`): as vgg__mask_args, rows = n. With `y`
 * NULL a conversion. bias: db[c] += the sum over rows, in row order; NULL: not wanted.
 * `y` is of the kernel's type. */
struct vgg__linear_mask_args {
    const void *dy;
    const void *y;
    void *dz;
    float *db;
    uint32_t n, c;
    uint32_t in_f32;
    float scale;
};
extern const struct vgg__kernel vgg__kernel_linear_mask[VGG__TYPES];

/* A whole step of a linear layer's weights by SGD: with g = dz^T x,
 *   w = w - step->lr * (g + step->weight_decay * w)
 * and no bit changed at a rate of 0. w is f32 [m][k], dz [n][m] and x [n][k] of the
 * type, n any number; `shadow` (NULL: none) gets w rounded to bf16. bf16 products go
 * through the tensor cores; f32 ones through FMA (`tf32` 0) or tensor cores (1). m and
 * k need not be multiples of anything; k % 8 == 0 and m % 8 == 0 are the fast case. */
struct vgg__linear_step_args {
    const void *dz, *x;
    float *w;
    void *shadow;
    uint32_t n, m, k;
    uint32_t tf32;
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_linear_step[VGG__TYPES];
struct vgg__grid vgg__linear_step_grid(const struct vgg__linear_step_args *args);
size_t vgg__linear_step_shared(const struct vgg__linear_step_args *args,
                               enum vgg__type type);

/* ---- Loss ---------------------------------------------------------------------------
 * As ref/loss.c: one warp a sample. dlogits f32 (NULL: not wanted) is 0 for padding. */
struct vgg__loss_args {
    const void *logits; /* f32 with `in_f32`, else of the type; [n][classes] */
    const uint32_t *labels;
    double *loss;      /* [n] */
    uint32_t *correct; /* [n], 0 or 1 */
    float *dlogits;
    uint32_t n, classes, in_f32;
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_loss[VGG__TYPES];

/* Sums in sample order; one block. A sum that is not finite makes step->lr 0, a rate at
 * which no update changes anything. */
struct vgg__loss_sum_args {
    const double *loss;
    const uint32_t *correct;
    struct vgg__loss_result *result;
    struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_loss_sum;

/* ---- Parameters ---------------------------------------------------------------------
 * The store keeps all parameters in one array, gradients and optimiser state in arrays
 * of the same form. A chunk is part of one parameter. */
struct vgg__chunk {
    uint64_t offset;
    uint32_t count, reserved;
};

/* Rules and rounding as common/update.c, with what it computes in double handed in. */
struct vgg__update_args_gpu {
    float *value;
    const float *gradient;
    float *state0, *state1; /* NULL where the rule has none */
    void *shadow;           /* bf16 copy of the values; NULL: none */
    const struct vgg__chunk *chunks;
    uint32_t kind; /* vgg_optimizer_kind */
    uint32_t nesterov, has_momentum;
    uint32_t first_step; /* 1: earlier state counts as zero */
    /* 1: lr and weight_decay are step's (plain SGD only); at a rate of 0 no bit
     * changes. */
    uint32_t from_step;
    float lr, weight_decay, momentum;
    float keep, share1, share2, beta2, epsilon, step_size, root2;
    const struct vgg__step *step;
};
extern const struct vgg__kernel vgg__kernel_update; /* a block a chunk */

/* shadow = bf16(value), round to nearest even. */
struct vgg__shadow_args {
    const float *value;
    void *shadow;
    uint64_t count;
};
extern const struct vgg__kernel vgg__kernel_shadow;

/* value *= factor */
struct vgg__scale_args {
    float *value;
    uint64_t count;
    float factor;
};
extern const struct vgg__kernel vgg__kernel_scale;

/* partial[chunk] = sum of squares of a chunk, in double. */
struct vgg__norm2_args {
    const float *value;
    const struct vgg__chunk *chunks;
    double *partial;
};
extern const struct vgg__kernel vgg__kernel_norm2; /* a block a chunk */

/* sum += in, and the same to `out`; all of the type: gradients that join. */
struct vgg__add_args {
    const void *in;
    void *sum, *out;
    uint64_t count;
};
extern const struct vgg__kernel vgg__kernel_add[VGG__TYPES];

/* out += in, `in` of the type: a convolution's weight gradient. */
struct vgg__accumulate_args {
    const void *in;
    float *out;
    uint64_t count;
};
extern const struct vgg__kernel vgg__kernel_accumulate[VGG__TYPES];

/* f32 [a][b][c] to [a][c][b]: weights OIHW to OHWI (b = I, c = H * W) and back. */
struct vgg__permute_args {
    const float *in;
    float *out;
    uint32_t a, b, c;
};
extern const struct vgg__kernel vgg__kernel_permute;

/* ---- Convolutions: the plain one, for whatever nothing else takes -------------------
 * x [n][h][w][ic], w of the type [oc][k][k][ic], y [n][h][w][oc]; stride 1, padding
 * k / 2. Forward writes x * w without bias. `what`: 0 forward; 1 data: dx from dy;
 * 2 weights: dw f32 [oc][k][k][ic] (overwritten) from x and dy. A thread an element, a
 * block an element for the weights. */
struct vgg__conv_plain_args {
    const void *x, *w, *dy;
    void *out;
    uint32_t n, h, wd, ic, oc, kernel;
    uint32_t what;
};
extern const struct vgg__kernel vgg__kernel_conv_plain[VGG__TYPES];
struct vgg__grid vgg__conv_plain_grid(const struct vgg__conv_plain_args *args);

/* First layer, ic <= 4: 3x3 convolution, bias, ReLU and 2x2 pooling in one pass, for oc
 * a multiple of 8 up to 64 (vgg__conv_first_takes). Weights are f32 [oc][3][3][ic],
 * rounded to bf16 first by the kernel for bf16 (tensor cores), and by that for f32
 * (FMA) with `round_weights`. */
struct vgg__conv_first_args {
    const void *x; /* [n][h][w][ic] */
    const float *w, *bias;
    void *y;         /* [n][h][w][oc], pooled: [n][h / 2][w / 2][oc] */
    uint8_t *winner; /* pooled by maximum, training; else NULL */
    uint32_t n, h, wd, ic, oc;
    uint32_t relu, pool; /* pool: 0 none, 1 maximum */
    uint32_t round_weights;
};
extern const struct vgg__kernel vgg__kernel_conv_first[VGG__TYPES];
extern const struct vgg__kernel
    vgg__kernel_conv_first_rows; /* bf16, ic 1, relu, pool */
int vgg__conv_first_takes(uint32_t ic, uint32_t oc, uint32_t kernel, uint32_t pool);

/* Its weight and bias gradients from the gradient of y (pooled if the forward was),
 * masked where y is not above 0 with `y` given. partial [blocks][oc * 9 * ic + oc]: the
 * weights' in [oc][3][3][ic] order, then the biases'; to be added by sum_rows. */
struct vgg__conv_first_back_args {
    const void *x, *dy;
    const void *y; /* NULL: no mask */
    const uint8_t *winner;
    float *partial;
    uint32_t n, h, wd, ic, oc;
    uint32_t pool;
};
extern const struct vgg__kernel vgg__kernel_conv_first_back[VGG__TYPES];
extern const struct vgg__kernel vgg__kernel_conv_first_rows_back;

/* Which kernel does it, and how it is launched: by tiles, or by rows where that goes.
 * They depend on the shape alone. */
struct vgg__first_launch {
    const struct vgg__kernel *kernel;
    struct vgg__grid grid;
    size_t shared;
};
struct vgg__first_launch vgg__conv_first_launch(const struct vgg__conv_first_args *args,
                                                enum vgg__type type);
struct vgg__first_launch
vgg__conv_first_back_launch(const struct vgg__conv_first_back_args *args,
                            enum vgg__type type);

/* ---- Grids --------------------------------------------------------------------------
 * How to launch what has no function of its own. They depend on shapes alone. `partial`
 * arrays have blocks[0] rows. Every kernel computes everything with any number of
 * blocks of 256 threads in one dimension; these are the numbers that make them fast. */

/* `count` elements, at most what fills the device: take_in, give_out, flatten,
 * bias_relu, pool (of y), adaptive_pool and dropout, norm_apply, norm_back,
 * linear_finish, shadow, scale, accumulate, permute. */
struct vgg__grid vgg__grid_elements(uint64_t count);
/* mask, unpool (rows = n * ih * iw), norm_sums, norm_back_sums (rows = n * hw) over
 * `rows` rows of c channels: at most VGG__MAX_PARTIAL blocks. */
struct vgg__grid vgg__grid_rows(uint64_t rows, uint32_t c);
/* Sums down c columns: sum_rows, norm_finish, norm_back_finish, linear_mask. */
struct vgg__grid vgg__grid_columns(uint32_t c);
/* A block for each of `count`: update, norm2 (chunks), loss_sum (1). */
struct vgg__grid vgg__grid_blocks(uint64_t count);
/* A warp for each of `count`: loss (n). */
struct vgg__grid vgg__grid_warps(uint64_t count);

#define VGG__MAX_PARTIAL 1056

#ifdef __cplusplus
}
#endif

#endif
