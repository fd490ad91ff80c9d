/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of engines that run stage by stage on host memory.
 *
 * An engine fills a table of struct vgg__stage_impl, indexed by vgg_stage_kind, and
 * puts the functions at the end of this file into its vgg_engine. The program owns one
 * arena with all activations, activation gradients, kept data and scratch, laid out by
 * arena.h.
 *
 * Activations are [n][c][h][w] in the element type of the precision (float or double),
 * or [n][h][w][c] where the machine says so.
 * Parameter gradients accumulate, activation gradients overwrite. All buffers are
 * aligned to 64 bytes and never overlap within a call. */
#ifndef VGG_COMMON_PROGRAM_H
#define VGG_COMMON_PROGRAM_H

#include "common/machine.h"

/* What a stage must know to say what it needs. */
struct vgg__stage_env {
    const struct vgg__machine *machine;
    const vgg_stage *stage;
    uint32_t batch; /* most samples of a run */
    uint32_t mode;  /* vgg_mode */
    uint32_t precision;
    bool wants_dx;      /* backward computes the input's gradient */
    bool wants_dparams; /* backward computes the gradient of at least one parameter */
    bool updates;       /* VGG_PHASE_STEP takes the place of loss and backward */
    bool half_weights;  /* linear: weights are to be kept in bf16 (VGG_MODE_INFER) */
    bool last;          /* its output is the network's, but for a loss */
};

/* What it needs; all zero before measure(). Bytes may be SIZE_MAX: too many to say. */
struct vgg__stage_need {
    const char *algorithm; /* constant text, for describe */
    bool identity;   /* output is the input: no buffer, and no call but measure() */
    bool reads_x;    /* backward reads the input */
    bool reads_y;    /* backward reads the output */
    size_t element;  /* bytes of an output's element; 0: the precision's */
    size_t prepared; /* derived from parameters by prepare(), kept for all runs */
    size_t saved;    /* kept from forward to backward; none in VGG_MODE_INFER */
    size_t forward_scratch;
    size_t backward_scratch;
    bool updates; /* in a step, backward can update the weight itself */
};

/* One call for a stage. Pointers that the call has no use for are NULL. */
struct vgg__stage_args {
    const struct vgg__machine *machine;
    const vgg_stage *stage;
    const vgg_run *run; /* forward: seed, step, first; loss stage: labels and so on */
    uint32_t count;     /* samples of this run */
    uint32_t batch;     /* most samples of a run, as when it was measured */
    uint32_t mode;      /* vgg_mode */
    const void *x;      /* [n][in.c][in.h][in.w] */
    void *y;            /* [n][out.c][out.h][out.w]; backward only reads it */
    void *dy; /* gradient of y; backward may overwrite it, it is not read again */
    void *dx; /* gradient of x, overwritten; NULL: not wanted */
    void *prepared;
    void *saved;
    void *scratch; /* contents undefined */
    const void *weight, *bias, *gamma, *beta;
    void *mean, *var;                       /* running statistics */
    void *dweight, *dbias, *dgamma, *dbeta; /* added to; NULL: frozen */
    /* Not NULL: dweight is the weight itself, to be updated by plain SGD once dx has
     * been computed from it (only where measure() said so). */
    const vgg_update *update;
};

/* A kind of stage. The loss stage has forward() alone: x is the logits, dx their
 * gradient (NULL: not wanted); it writes run->loss_sum and run->correct, which are
 * never NULL, and leaves it to the program to find the sum not finite. */
struct vgg__stage_impl {
    /* NULL: always. Otherwise a constant text in *why. */
    bool (*supports)(const struct vgg__machine *machine, const vgg_stage *stage,
                     const char **why);
    void (*measure)(const struct vgg__stage_env *env, struct vgg__stage_need *need);
    /* Before the first forward(), and again whenever a parameter's value has changed;
     * NULL if nothing is prepared. Sees parameters (not running statistics: every
     * training forward changes them), prepared and scratch (the forward's). */
    void (*prepare)(const struct vgg__stage_args *args);
    void (*forward)(const struct vgg__stage_args *args);
    void (*backward)(const struct vgg__stage_args *args);
};

/* Entries of vgg_engine; `device` points to a struct vgg__machine. */
bool vgg__program_supports(void *device, const vgg_stage *stage, uint32_t precision,
                           const char **why);
vgg_status vgg__program_measure(void *device, const vgg_program_desc *desc,
                                uint64_t *bytes);
vgg_status vgg__program_compile(void *device, void *store, const vgg_program_desc *desc,
                                void **program);
void vgg__program_free(void *program);
vgg_status vgg__program_run(void *program, vgg_phase phase, const vgg_run *run);
vgg_status vgg__program_read(void *program, vgg_view view, uint32_t index, void *out,
                             vgg_dtype dtype);
void vgg__program_describe(void *program, uint32_t stage, char *text, size_t size);
void vgg__program_report(void *program, uint32_t stage, vgg_report *out);

#endif
