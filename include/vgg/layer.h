/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file layer.h
 * @brief Layers and parameters of a model, by stable names.
 *
 * Layers are named as in the literature: `conv3_2` is the second convolution of block
 * 3, followed by `bn3_2` and `relu3_2`; `pool3` ends the block; linear layers are
 * `fc6`, `fc7`, ... in their order, however many blocks there are, each followed by
 * `relu6`, `drop6` and so on. A layer also answers to its torchvision name
 * (`features.13`, `avgpool`, `classifier.3`). A name that would occur twice gets a
 * suffix: `relu1_1_b`, `relu1_1_c`.
 * A parameter is named `<layer>.weight`, `.bias`, `.running_mean`, `.running_var`.
 *
 * Pointers are borrowed from the model. Thread-safety: reading is safe, but for values
 * while another thread trains the model.
 */
#ifndef VGG_LAYER_H
#define VGG_LAYER_H

#include <vgg/arch.h>
#include <vgg/tensor.h>

VGG_BEGIN_DECLS

/** A layer of a model, borrowed from it. */
typedef struct vgg_layer vgg_layer;

/** A parameter or a buffer of a model, borrowed from it. */
typedef struct vgg_param vgg_param;

/** What a layer does. */
typedef enum vgg_layer_kind {
    VGG_LAYER_CONV = 0,          /**< convolution, stride 1, same size, with bias */
    VGG_LAYER_BATCH_NORM = 1,    /**< batch normalisation over n, h, w */
    VGG_LAYER_RELU = 2,          /**< max(x, 0) */
    VGG_LAYER_POOL = 3,          /**< 2x2 pooling, stride 2, odd edges dropped */
    VGG_LAYER_ADAPTIVE_POOL = 4, /**< average pooling to a given size */
    VGG_LAYER_FLATTEN = 5,       /**< [c][h][w] to [c*h*w] */
    VGG_LAYER_LINEAR = 6,        /**< fully connected, with bias */
    VGG_LAYER_DROPOUT = 7        /**< training: zero at a rate, scale the rest */
} vgg_layer_kind;

/** What a layer does. */
VGG_API vgg_layer_kind vgg_layer_get_kind(const vgg_layer *layer);

/** Name of a kind, for instance "conv". Thread-safety: safe. */
VGG_API const char *vgg_layer_kind_name(vgg_layer_kind kind);

/** Name, for instance "conv1_1". */
VGG_API const char *vgg_layer_name(const vgg_layer *layer);

/** torchvision's name, for instance "features.0". */
VGG_API const char *vgg_layer_alias(const vgg_layer *layer);

/** Block the layer is in, from 1; 0 when it is in the head. */
VGG_API uint32_t vgg_layer_block(const vgg_layer *layer);

/** Shape of one sample going in: [c][h][w] or [features]. */
VGG_API const vgg_shape *vgg_layer_in_shape(const vgg_layer *layer);

/** Shape of one sample coming out. */
VGG_API const vgg_shape *vgg_layer_out_shape(const vgg_layer *layer);

/** Multiply-accumulate operations of one sample's forward pass; 0 but for conv,
 *  linear. */
VGG_API uint64_t vgg_layer_macs(const vgg_layer *layer);

/** Number of parameters and buffers of a layer. */
VGG_API uint32_t vgg_layer_param_count(const vgg_layer *layer);

/** A parameter or buffer of a layer; NULL when `index` is past the last. */
VGG_API vgg_param *vgg_layer_param(const vgg_layer *layer, uint32_t index);

/** Name, for instance "conv1_1.weight". */
VGG_API const char *vgg_param_name(const vgg_param *param);

/** torchvision's name, for instance "features.0.weight". */
VGG_API const char *vgg_param_alias(const vgg_param *param);

/** Shape: [oc][ic][kh][kw], [out][in], or [channels]. */
VGG_API const vgg_shape *vgg_param_shape(const vgg_param *param);

/** 1 for a buffer (running statistics), which no optimiser changes. */
VGG_API int vgg_param_is_buffer(const vgg_param *param);

/** 1 when training changes it. Buffers are never trainable. */
VGG_API int vgg_param_trainable(const vgg_param *param);

/**
 * Freeze (0) or unfreeze (not 0) a parameter. A frozen one has no gradient. Buffers are
 * never frozen: a training plan normalises by the batch's statistics and moves the
 * running ones, whether batch normalisation's parameters are trainable or not.
 * Plans see the change when they are made: set it before. Those that keep gradients
 * share them, so all that are there at a time, on one device and in one precision,
 * train the same parameters: another one is VGG_ESTATE.
 *
 * @return VGG_OK, VGG_EINVAL (a buffer).
 */
VGG_API vgg_status vgg_param_set_trainable(vgg_param *param, int trainable);

/**
 * Copy a parameter's values out, refreshed from the device that trained it last.
 * Thread-safety: not while another thread trains the model.
 *
 * @param out an f32 or f64 tensor of the parameter's shape. Values are stored as f32.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_EDEVICE.
 */
VGG_API vgg_status vgg_param_read(vgg_param *param, vgg_tensor *out);

/**
 * Set a parameter's values; every plan of the model uses them from its next run on.
 * Thread-safety: not while another thread runs a plan of the model.
 *
 * @param values an f32 or f64 tensor of the parameter's shape. They are rounded to f32
 *               and not looked at: what is beyond FLT_MAX becomes infinite.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_EDEVICE.
 */
VGG_API vgg_status vgg_param_write(vgg_param *param, const vgg_tensor *values);

VGG_END_DECLS

#endif
