/* SPDX-License-Identifier: Apache-2.0 */
/* The contract between lib/ and the engines.
 *
 * lib/plan lowers a model to a list of stages and hands it to an engine, which
 * *compiles* it for one batch size and mode into a program of its own (layouts,
 * algorithms, memory) and *runs* that program phase by phase. Stages are as large as
 * the engine can take: it says in `fusions` what may be folded into a convolution or
 * linear stage, and gets every other layer as a stage of its own.
 *
 * lib/ has checked every argument, shape and limit; an engine assumes they hold, never
 * logs in a run, never falls back to something else, allocates nothing after compile()
 * (but optimiser state, at the first update that needs it). Layout between stages is
 * the engine's business; at the boundary images and outputs are [n][c][h][w] f32 and
 * parameters are in the canonical layout: OIHW, and [out][in] with columns in c, h, w
 * order.
 *
 * Parameter gradients accumulate, activation gradients overwrite.
 *
 * Versioned both ways: host table in, engine table out, each with `abi` and `size`.
 * Only plain data and function pointers; a plugin engine calls back through the host
 * table and has no undefined vgg_* symbol. */
#ifndef VGG_BACKEND_H
#define VGG_BACKEND_H

#include <stdbool.h>
#include <vgg/data.h>
#include <vgg/plan.h>

#define VGG_ENGINE_ABI 5

/* ---- What the host offers to an engine ------------------------------------------- */

typedef struct vgg_host {
    uint32_t abi;  /* VGG_ENGINE_ABI */
    uint32_t size; /* sizeof(vgg_host) */
    vgg_context *ctx;
    /* 64-byte aligned, counted memory; NULL: the error is set. */
    void *(*alloc)(vgg_context *ctx, size_t size);
    void (*release)(void *memory);
    /* Set the thread's error text and return `status`. */
    vgg_status (*fail)(vgg_status status, const char *format, ...);
    void (*log)(vgg_context *ctx, vgg_log_level level, const char *format, ...);
} vgg_host;

/* ---- Parameters ------------------------------------------------------------------ */

/* A parameter or buffer of the model. Its index in the list is its slot. */
typedef struct vgg_param_desc {
    vgg_shape shape;
    uint64_t count;     /* elements */
    uint32_t linear;    /* 1: weight of a linear layer, whose columns may be permuted */
    uint32_t buffer;    /* 1: running statistics; never updated by an optimiser */
    uint32_t trainable; /* 1: has a gradient */
} vgg_param_desc;

/* What can be read and written of a parameter. */
typedef enum vgg_slot {
    VGG_SLOT_VALUE = 0,
    VGG_SLOT_GRADIENT = 1,
    VGG_SLOT_STATE0 = 2, /* SGD: momentum; Adam: first moment */
    VGG_SLOT_STATE1 = 3  /* Adam: second moment */
} vgg_slot;

/* An update: the optimiser's rule with everything resolved. */
typedef struct vgg_update {
    uint32_t kind; /* vgg_optimizer_kind */
    uint32_t nesterov;
    double lr, momentum, weight_decay, beta1, beta2, epsilon;
    uint64_t t; /* from 1, which starts anew: earlier state counts as zero */
} vgg_update;

/* ---- Stages ---------------------------------------------------------------------- */

typedef enum vgg_stage_kind {
    VGG_STAGE_CONV = 0,       /* kernel 1 or 3, bias [bn] [relu] [pool] */
    VGG_STAGE_BATCH_NORM = 1, /* [relu] */
    VGG_STAGE_RELU = 2,
    VGG_STAGE_POOL = 3,          /* 2x2, stride 2, floor */
    VGG_STAGE_ADAPTIVE_POOL = 4, /* average, to out.h x out.w */
    VGG_STAGE_FLATTEN = 5,       /* [c][h][w] to [c*h*w] */
    VGG_STAGE_LINEAR = 6,        /* bias [relu] [dropout] */
    VGG_STAGE_DROPOUT = 7,
    VGG_STAGE_LOSS = 8, /* softmax, cross-entropy; always last if the output is flat */
    /* y = x; dx = dy + the caller's gradient of tap number `tap`. A backward comes this
     * far even if nothing before needs it: dx may be looked at. */
    VGG_STAGE_TAP = 9
} vgg_stage_kind;

/* What an engine can fold into the stage before. */
enum {
    VGG_FUSE_RELU = 1,       /* into conv, batch norm and linear */
    VGG_FUSE_POOL = 2,       /* into a conv that already has its ReLU */
    VGG_FUSE_BATCH_NORM = 4, /* into conv */
    VGG_FUSE_DROPOUT = 8     /* into a linear that already has its ReLU */
};

enum { VGG_NO_POOL = 0, VGG_MAX_POOL = 1, VGG_AVERAGE_POOL = 2 };

/* Extents of one sample; a flat one has h = w = 1. */
typedef struct vgg_extent {
    uint32_t c, h, w;
} vgg_extent;

typedef struct vgg_stage {
    uint32_t kind; /* vgg_stage_kind */
    vgg_extent in;
    vgg_extent mid; /* conv: before its fused pool; else as out */
    vgg_extent out;
    uint32_t kernel;          /* conv: 1 or 3 */
    uint32_t batch_norm;      /* conv: 1 if fused */
    uint32_t relu;            /* 1 if fused */
    uint32_t pool;            /* VGG_NO_POOL, ...; of a pool stage: which */
    float dropout;            /* rate; 0: none */
    uint32_t dropout_layer;   /* index of the dropout layer, for VGG_RANDOM_DROPOUT */
    double epsilon, momentum; /* batch norm */
    /* Slots of parameters, -1: none. */
    int32_t weight, bias; /* conv, linear */
    int32_t gamma, beta;  /* batch norm, its own or fused */
    int32_t mean, var;    /* running statistics */
    uint32_t flattened;   /* linear: its input was [c][h][w] = `in` before flattening */
    uint32_t input_relu;  /* 1: the input is a ReLU's output (or its max pool's) */
    int32_t tap;          /* >= 0: its output is tap number so-and-so; -1: none */
    const char *name;     /* of its first layer, for describe and errors */
} vgg_stage;

/* A network for one batch size and mode. Borrowed during compile(); an engine that
 * needs it later copies it. */
typedef struct vgg_program_desc {
    const vgg_stage *stages;
    uint32_t stage_count;
    uint32_t batch;     /* most samples of a run */
    uint32_t mode;      /* vgg_mode */
    uint32_t precision; /* vgg_precision */
    uint32_t input_gradient;
    uint32_t deterministic; /* 1: no choice by timing, no algorithm that varies */
    /* 1: VGG_PHASE_STEP takes the place of loss and backward. Nobody sees the
     * gradients, so the engine may use each up as soon as it is known, and the store
     * need not have any. Only for engines with VGG_CAN_STEP. */
    uint32_t step;
    /* VGG_BF16: weights of linear layers are kept, in the program's own memory, rounded
     * to bfloat16 (ties to even), and take part in products that are otherwise as
     * precise as ever. VGG_FP32: as they are. Only in VGG_MODE_INFER, for engines with
     * VGG_CAN_BF16_WEIGHTS, which take it with VGG_FP32 alone. */
    uint32_t weights;
    /* The store's parameters, so that memory and work follow what is trainable.
     * NULL: all are. */
    const vgg_param_desc *params;
    uint32_t param_count;
} vgg_program_desc;

/* ---- Data that stays on the device ----------------------------------------------- */

/* One axis of a resize: output pixel i is made of `taps` pixels at[i * taps + k] with
 * weights weight[i * taps + k]; the arithmetic is the rule's (lib/data/resize.c). */
typedef struct vgg_axis {
    uint32_t in, out, taps;
    const uint32_t *at;
    const int32_t *weight;
} vgg_axis;

#define VGG_NO_RESIZE UINT32_MAX

/* A data set to be kept on the device, and how its images become input: resized,
 * cropped, moved and flipped as each sample says, looked up in a table. Borrowed during
 * data_create(). */
typedef struct vgg_data_desc {
    uint64_t count;
    vgg_extent stored;    /* images are u8 [c][h][w] */
    vgg_extent shown;     /* what the network gets */
    uint32_t resize_rule; /* vgg_resize_rule, or VGG_NO_RESIZE */
    vgg_axis x, y;        /* of the resize */
    uint32_t top, left;   /* of the crop, in the resized image */
    const float *table;   /* [c][256]: pixel to input */
    /* Write image `index`; anything but VGG_OK ends data_create() with it. */
    vgg_status (*read)(void *cookie, uint64_t index, uint8_t *image);
    void *cookie;
} vgg_data_desc;

/* One sample of a run: which image, and what was drawn for it. Output pixel (y, x)
 * shows pixel (y + down, x + right) of the crop, x counted from the right if flipped
 * first; what lies outside is pixel value 0. Erased input is 0.0f. */
typedef struct vgg_sample {
    uint64_t index;
    int32_t down, right;
    uint32_t flip;
    uint32_t erase_top, erase_left, erase_height, erase_width; /* height 0: none */
    uint32_t reserved;
} vgg_sample;

/* ---- Running --------------------------------------------------------------------- */

/* A forward may be followed by any number of losses. A backward consumes what its
 * forward and loss have kept: one for each forward. */
typedef enum vgg_phase {
    VGG_PHASE_FORWARD = 0,
    VGG_PHASE_LOSS = 1,
    VGG_PHASE_BACKWARD = 2,
    /* Loss, backward, and run->update of every trainable parameter, after a forward. It
     * may return as soon as the loss is known and the rest is queued. If the loss is
     * not finite, no parameter has changed (VGG_ENONFINITE). */
    VGG_PHASE_STEP = 3
} vgg_phase;

typedef struct vgg_run {
    uint32_t count; /* samples of this run, 1 .. batch; the same in all its phases */
    /* forward: `input`, or `samples` of `data` */
    const float *input;        /* [n][c][h][w] */
    void *data;                /* made by data_create() */
    const vgg_sample *samples; /* as `input`, borrowed during the forward alone */
    uint64_t seed, step;
    uint32_t first; /* place of the first sample in the step's whole batch */
    /* loss, step */
    const uint32_t *labels;
    float smoothing;
    float scale;      /* on the gradient, beside 1 / count */
    double *loss_sum; /* out: sum over samples, accumulated in double in sample order */
    uint32_t *correct;
    /* backward: NULL takes the gradient that the loss phase left */
    const float *output_gradient;
    /* backward: by the number of the tap, [n][c][h][w]; NULL, and a NULL: zeros */
    const float *const *tap_gradients;
    /* step: SGD without momentum */
    const vgg_update *update;
} vgg_run;

/* What can be read of a program after a run, always [n][c][h][w]. */
typedef enum vgg_view {
    VGG_VIEW_OUTPUT = 0,
    VGG_VIEW_TAP = 1,
    VGG_VIEW_INPUT_GRADIENT = 2,
    VGG_VIEW_TAP_GRADIENT = 3 /* dx of a VGG_STAGE_TAP, as it was made */
} vgg_view;

/* How a stage is computed, and what it has taken since compile(): seconds of the host's
 * clock in all runs together. */
typedef struct vgg_report {
    const char *algorithm; /* constant text */
    uint64_t kept;         /* bytes: prepared, and from forward to backward */
    uint64_t scratch;      /* bytes: while it runs */
    double prepare;  /* bringing changed parameters into the form it computes with */
    double forward;  /* the loss stage's: the loss */
    double backward; /* with the update that is part of it in VGG_PHASE_STEP */
    double update;   /* of a VGG_PHASE_STEP, where it is apart */
} vgg_report;

/* ---- The engine ------------------------------------------------------------------ */

typedef struct vgg_device_desc {
    char name[32];  /* to open it by: "cpu", "cuda:0" */
    char text[256]; /* one line about it */
} vgg_device_desc;

enum {
    VGG_CAN_STEP = 1,        /* has VGG_PHASE_STEP */
    VGG_CAN_BF16_WEIGHTS = 2 /* vgg_program_desc's weights may be VGG_BF16 */
};

typedef struct vgg_engine {
    uint32_t abi;  /* VGG_ENGINE_ABI */
    uint32_t size; /* sizeof(vgg_engine) */
    const char *name;
    uint32_t fusions;   /* VGG_FUSE_... */
    uint32_t abilities; /* VGG_CAN_... */

    /* List devices without opening anything. On failure the text is the refusal's
     * reason. */
    vgg_status (*probe)(const vgg_host *host, vgg_device_desc *list, uint32_t capacity,
                        uint32_t *count);
    /* VGG_EDEVICE with the reason for a device that can't be had, its own memory being
     * short among them; VGG_ENOMEM is the host's memory alone. */
    vgg_status (*open)(const vgg_host *host, uint32_t index, void **device);
    void (*close)(void *device);
    /* The device's line, now that it is open (which BLAS, why). */
    void (*device_text)(void *device, char *text, size_t size);

    /* Parameters, gradients and optimiser state, shared by programs. `gradients`: with
     * room for gradients (may be asked for later by store_gradients). */
    vgg_status (*store_create)(void *device, const vgg_param_desc *params,
                               uint32_t count, uint32_t precision, void **store);
    void (*store_free)(void *store);
    /* Make sure that gradients exist (zero when new). Also takes a changed set of
     * trainable parameters. */
    vgg_status (*store_gradients)(void *store, const vgg_param_desc *params);
    /* Move a slot's elements between host memory in the canonical layout and the store.
     * dtype is VGG_F32 or VGG_F64. Reading optimiser state that does not exist is
     * VGG_ESTATE; writing makes it. */
    vgg_status (*store_read)(void *store, uint32_t param, vgg_slot slot, void *out,
                             vgg_dtype dtype);
    vgg_status (*store_write)(void *store, uint32_t param, vgg_slot slot,
                              const void *in, vgg_dtype dtype);
    vgg_status (*store_zero_gradients)(void *store);
    /* Sum of squares of all gradients, in a fixed order. */
    vgg_status (*store_gradient_norm2)(void *store, double *out);
    vgg_status (*store_scale_gradients)(void *store, double factor);
    vgg_status (*store_update)(void *store, const vgg_update *update);

    /* A data set on the device. NULL: the engine computes where the host's data is.
     * VGG_ENOMEM, VGG_ELIMIT, VGG_EUNSUPPORTED: it stays with the host, for the reason
     * that the text gives; an engine leaves room for programs. Freed before the device
     * closes, but maybe before programs that have run on it. */
    vgg_status (*data_create)(void *device, const vgg_data_desc *desc, void **data);
    void (*data_free)(void *data);

    /* Can it run this stage? If not, a constant string why. */
    bool (*supports)(void *device, const vgg_stage *stage, uint32_t precision,
                     const char **why);
    /* Bytes that compile() would take, without taking them. */
    vgg_status (*measure)(void *device, const vgg_program_desc *desc, uint64_t *bytes);
    vgg_status (*compile)(void *device, void *store, const vgg_program_desc *desc,
                          void **program);
    void (*program_free)(void *program);
    vgg_status (*run)(void *program, vgg_phase phase, const vgg_run *run);
    /* `index` is the tap's number, else 0; `out` holds count samples of the last
     * run. */
    vgg_status (*read)(void *program, vgg_view view, uint32_t index, void *out,
                       vgg_dtype dtype);
    /* A line a stage: algorithm, bytes, workspace. `stage` counts from 0. */
    void (*describe)(void *program, uint32_t stage, char *text, size_t size);
    /* Of a stage; stage_count: what belongs to none, above all taking in the input
     * (forward) and gradients of the caller's own. Only engines whose calls return when
     * the work is done have it, so that the host may time the store's functions
     * likewise; NULL: the times are not known. */
    void (*report)(void *program, uint32_t stage, vgg_report *out);
} vgg_engine;

/* Built-in engines. A plugin exports one function of this type, `vgg_engine_entry`,
 * which returns NULL if it can't work with the host's abi; it may have set the reason
 * by host->fail. It is called by one thread at a time, maybe often, and keeps nothing
 * of the host table. The plugin is never unloaded. */
typedef const vgg_engine *(*vgg_engine_entry_fn)(const vgg_host *host);

extern const vgg_engine vgg__engine_ref;
extern const vgg_engine vgg__engine_cpu;

#endif
