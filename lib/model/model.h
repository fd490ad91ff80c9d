/* SPDX-License-Identifier: Apache-2.0 */
/* The model's own structs, for model/, plan/, train/ and store/.
 *
 * Layers and parameters are allocated one by one, so that pointers handed out stay
 * valid while layers are added. Values are f32 in the canonical layout: OIHW, [out][in]
 * with a linear layer's columns in c, h, w order. */
#ifndef VGG_LIB_MODEL_H
#define VGG_LIB_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <vgg/model.h>

#define VGG_NAME_SIZE       64   /* a layer's name, with its final zero */
#define VGG_PARAM_NAME_SIZE 96   /* a parameter's */
#define VGG_BN_EPSILON      1e-5 /* as PyTorch */
#define VGG_BN_MOMENTUM     0.1  /* PyTorch's meaning: new = 0.9 old + 0.1 batch */

/* What a parameter is to its layer; also its place in the layer. */
enum vgg__role {
    VGG_ROLE_WEIGHT = 0, /* conv, linear, bn (gamma) */
    VGG_ROLE_BIAS = 1,   /* conv, linear, bn (beta) */
    VGG_ROLE_MEAN = 2,   /* bn running mean, a buffer */
    VGG_ROLE_VAR = 3     /* bn running variance, a buffer */
};

struct vgg_param {
    vgg_model *model;
    uint32_t index; /* in the model */
    uint32_t layer; /* index of its layer */
    uint32_t role;  /* enum vgg__role */
    bool trainable;
    char name[VGG_PARAM_NAME_SIZE];
    char alias[VGG_PARAM_NAME_SIZE];
    vgg_shape shape;
    uint64_t count; /* elements */
    float *value;   /* the host's copy; refresh before reading (vgg__model_refresh) */
};

struct vgg_layer {
    vgg_model *model;
    uint32_t index;
    vgg_layer_kind kind;
    char name[VGG_NAME_SIZE];
    char alias[VGG_NAME_SIZE];
    uint32_t block; /* from 1; 0: head */
    vgg_shape in;   /* one sample */
    vgg_shape out;
    uint32_t kernel;      /* conv: 1 or 3 */
    uint32_t pool;        /* pool: vgg_pool_kind */
    float dropout;        /* dropout: rate */
    uint64_t macs;        /* one sample, forward */
    uint32_t param_first; /* index of the first in the model */
    uint32_t param_count;
};

struct vgg_model {
    atomic_uint refs;
    vgg_context *ctx;
    vgg_shape input;
    vgg_layer **layers;
    uint32_t layer_count, layer_capacity;
    vgg_param **params;
    uint32_t param_count, param_capacity;
    atomic_bool sealed; /* a plan was made: no more layers */
    bool has_arch;      /* made by vgg_model_create(): arch and ratio say from what */
    vgg_arch arch;
    uint32_t ratio;
    uint64_t batches_tracked; /* training steps seen by batch normalisation */

    /* Who holds the newest values. `version` counts changes of the host's copy; a
     * device's store that trained since then is `newest`, and `pull` copies its values
     * back. */
    pthread_mutex_t lock; /* guards the fields below and the host's copy */
    uint64_t version;
    void *newest;
    vgg_status (*pull)(vgg_model *model, void *newest);
    void *stores; /* plan/store.c: list of this model's stores */
};

vgg_model *vgg__model_ref(vgg_model *model);

/* Bring the host's copy up to date. */
vgg_status vgg__model_refresh(vgg_model *model);

/* The host's copy was changed: it is now the newest. Call with the copy refreshed. */
void vgg__model_touch(vgg_model *model);

#endif
