/* SPDX-License-Identifier: Apache-2.0 */
/* The plan's own structs. A plan is a lowered model (lower.h), an engine's program made
 * of it, and the parameters' store that it shares with other plans of the model. */
#ifndef VGG_LIB_PLAN_H
#define VGG_LIB_PLAN_H

#include <stdbool.h>
#include <vgg/plan.h>

#include "backend.h"
#include "device/device.h"
#include "model/model.h"

/* Parameters of one model on one device in one precision. Counted by its plans; the
 * list of a model's stores hangs on the model and is guarded by its lock. */
struct vgg__store {
    struct vgg__store *next;
    uint32_t plans;
    vgg_model *model;   /* not counted: every plan holds it */
    vgg_device *device; /* not counted: every plan holds it */
    uint32_t precision;
    uint64_t version;  /* model->version that the device's values are equal to */
    uint32_t training; /* plans that need gradients */
    uint8_t *trained; /* by parameter: there is a gradient, while `training` is not 0 */
    void *handle;     /* the engine's */
};

/* Find or make the store, one plan more. With `gradients` it has those of the model's
 * trainable parameters afterwards. They are shared, and an update changes whatever has
 * a gradient: so while a plan needs them, others must train the same (VGG_ESTATE). */
vgg_status vgg__store_acquire(vgg_model *model, vgg_device *device, uint32_t precision,
                              bool gradients, struct vgg__store **out);

/* One plan less, which had asked for `gradients` or not; with the last one the values
 * go back to the model and the store goes. */
void vgg__store_release(struct vgg__store *store, bool gradients);

/* Before a run: the device has the newest values. */
vgg_status vgg__store_refresh(struct vgg__store *store);

/* After the device changed values: the store is now the newest. */
void vgg__store_touched(struct vgg__store *store);

/* Descriptors of a model's parameters, `param_count` of them, or NULL: out of
 * memory. */
vgg_param_desc *vgg__store_describe(vgg_model *model);

struct vgg_plan {
    vgg_context *ctx;
    vgg_model *model;
    vgg_device *device;
    struct vgg__store *store;
    struct vgg__lowered *lowered;
    void *program;
    vgg_plan_options opts; /* its taps are NULL: lowered has the layers */
    uint64_t bytes;
    char *text; /* vgg_plan_describe() */
    /* state of the last run */
    bool has_batch_norm;
    bool holds_gradients; /* the store's, with other plans */
    bool step;            /* its backward updates: vgg__plan_step(), and no gradients */
    bool has_output;      /* a forward was run */
    bool has_gradient;    /* and its output gradient is known */
    bool consumed;        /* and a backward has used up what it kept */
    bool has_back_gradients;      /* those of the input and of taps, where asked for */
    const float *output_gradient; /* handed in; NULL: the engine's own loss */
    float *handed;                /* memory for it, made with the plan */
    float **tap_places;           /* by tap number, in `handed`; NULL: takes none */
    const float **tap_gradients;  /* the places of those that are set, else NULL */
    vgg_run run;
    /* Runs, and seconds of the store's functions: what the program does not know. */
    vgg_plan_time spent;
};

/* The plan as text; NULL: out of memory. */
char *vgg__plan_text(vgg_plan *plan);

/* A training plan whose backward is also the update, for engines with VGG_CAN_STEP: it
 * needs no memory for gradients, and nobody can see them (VGG_ESTATE). */
vgg_status vgg__plan_create_step(vgg_model *model, vgg_device *device,
                                 const vgg_plan_options *opts, vgg_plan **out);

/* An optimiser with everything resolved; `optimizer` is checked. */
vgg_update vgg__optimizer_update(const vgg_optimizer *optimizer, double lr, uint64_t t);

/* After a forward: the loss as by vgg_plan_loss(), backward, and the update, which is
 * plain SGD's. Nothing has changed if the loss is not finite (VGG_ENONFINITE). */
vgg_status vgg__plan_step(vgg_plan *plan, const uint32_t *labels, float smoothing,
                          const vgg_update *update, double *loss, uint32_t *correct);

/* vgg_plan_forward() on samples of a data set that the plan's device has, which show
 * the shape of the model's input. */
struct vgg__resident;
vgg_status vgg__plan_forward_samples(vgg_plan *plan,
                                     const struct vgg__resident *resident,
                                     const vgg_sample *samples, uint32_t count,
                                     vgg_tensor *output);

/* Is the parameter trained by the plan? Settled when it was made, whatever became of
 * vgg_param_trainable() since. */
bool vgg__plan_trains(const vgg_plan *plan, uint32_t param);

/* An element type that plans read into and write from. */
static inline bool vgg__is_real(const vgg_tensor *tensor)
{
    return vgg_tensor_dtype(tensor) == VGG_F32 || vgg_tensor_dtype(tensor) == VGG_F64;
}

/* VGG_ESTATE if the plan has no gradients. */
vgg_status vgg__plan_check_trains(const vgg_plan *plan);

/* The optimiser to use: defaults for NULL, every field checked. */
vgg_status vgg__optimizer_read(const vgg_optimizer *given, vgg_optimizer *out);

/* Move a parameter's slot (value, gradient, optimiser state) between f32 memory of the
 * host and the plan's device. Reading state that does not exist is VGG_ESTATE. */
vgg_status vgg__plan_slot_read(vgg_plan *plan, uint32_t param, vgg_slot slot,
                               float *out);
vgg_status vgg__plan_slot_write(vgg_plan *plan, uint32_t param, vgg_slot slot,
                                const float *in);

#endif
