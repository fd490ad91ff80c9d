/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file model.h
 * @brief The network: a sequence of layers and their parameters.
 *
 * A model comes from an architecture (vgg_build(), vgg_model_create()) or is put
 * together layer by layer, as the chapter's `vgg_block` does: start with
 * vgg_model_create_empty() and add. vgg_build() itself is written with these calls and
 * nothing else.
 */
#ifndef VGG_MODEL_H
#define VGG_MODEL_H

#include <vgg/arch.h>
#include <vgg/layer.h>

VGG_BEGIN_DECLS

/**
 * A network. Thread-safety: reading is safe, also while inference plans run; changing
 * it (adding layers, writing parameters, training) is for one thread at a time. While a
 * thread trains it, others may ask for names and shapes, but not for values
 * (vgg_param_read(), vgg_weights_save()), which could be of the midst of a step; a
 * callback of vgg_trainer_fit() may ask for these.
 */
typedef struct vgg_model vgg_model;

/** How parameters get their first values. Biases are zero in all of them. */
typedef enum vgg_init {
    /** MXNet's `init.Xavier()`, which the chapter uses: uniform in +-sqrt(6 / (fan_in +
     *  fan_out)), convolutions and linear layers alike. Glorot and Bengio 2010. */
    VGG_INIT_XAVIER = 0,
    /** torchvision: convolutions normal with variance 2 / fan_out (He et al. 2015, mode
     *  "fan_out"), linear layers normal with standard deviation 0.01. */
    VGG_INIT_TORCHVISION = 1,
    /** He et al. 2015: normal with variance 2 / fan_in, convolutions and linear
        alike. */
    VGG_INIT_HE = 2
} vgg_init;

/** Options of vgg_model_create(). Sized: start from #VGG_MODEL_OPTIONS_INIT. */
typedef struct vgg_model_options {
    size_t size;       /**< sizeof(vgg_model_options) */
    uint64_t seed;     /**< of the initial values */
    uint32_t init;     /**< a ::vgg_init */
    uint32_t reserved; /**< must be 0 */
} vgg_model_options;

/** Defaults of ::vgg_model_options: Xavier, seed 0. */
#define VGG_MODEL_OPTIONS_INIT                                                         \
    {                                                                                  \
        sizeof(vgg_model_options), 0, VGG_INIT_XAVIER, 0                               \
    }

/**
 * Build the network that `arch` describes, all its block channels divided by `ratio`.
 * The hidden linear layers keep their width, as in the chapter.
 *
 * Short for vgg_model_create() on the default context with default options.
 *
 * @param arch  the architecture.
 * @param ratio divisor of every block's channel count, rounding down, at least 1.
 * @return the model, *owned* by the caller (vgg_model_free()); NULL on failure, with
 *         the reason in vgg_last_error().
 */
VGG_API vgg_model *vgg_build(const vgg_arch *arch, uint32_t ratio);

/**
 * Build the network that `arch` describes, all its block channels divided by `ratio`.
 *
 * @param opts NULL for the defaults.
 * @param out  the model, owned; NULL on failure.
 * @return as vgg_arch_check(), or VGG_ENOMEM.
 */
VGG_API vgg_status vgg_model_create(vgg_context *ctx, const vgg_arch *arch,
                                    uint32_t ratio, const vgg_model_options *opts,
                                    vgg_model **out);

/**
 * Make a model without layers, to be filled by the `vgg_model_add_...` calls.
 *
 * @param input shape of one sample: [c][h][w] or [features].
 * @return VGG_OK, VGG_EINVAL, VGG_ELIMIT, VGG_ENOMEM.
 */
VGG_API vgg_status vgg_model_create_empty(vgg_context *ctx, const vgg_shape *input,
                                          vgg_model **out);

/** Give a model back. Plans and trainers made from it stay usable. */
VGG_API void vgg_model_free(vgg_model *model);

/**
 * Add a convolution: stride 1, padding (kernel - 1) / 2, bias. Its weights are zero
 * until vgg_model_init() or vgg_param_write().
 *
 * @param channels output channels, at least 1.
 * @param kernel   1 or 3.
 * @param name     NULL for the automatic name (see layer.h); at most 63 printable
 *                 ASCII characters without blanks, not yet a name or alias in
 *                 the model.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE (the input is not [c][h][w]), VGG_ELIMIT
 *         (as vgg_arch_check()), VGG_ENOMEM, VGG_ESTATE (a plan was already made from
 *         it).
 */
VGG_API vgg_status vgg_model_add_conv(vgg_model *model, uint32_t channels,
                                      uint32_t kernel, const char *name);

/**
 * Add batch normalisation over n, h, w for each channel: eps 1e-5, running statistics
 * updated by 0.1 of the batch's (its unbiased variance), as PyTorch does; a channel
 * whose running mean or variance would not be finite then keeps both, so that one bad
 * image can't spoil a model for good.
 * Ioffe and Szegedy 2015. Parameters and errors as vgg_model_add_conv().
 */
VGG_API vgg_status vgg_model_add_batch_norm(vgg_model *model, const char *name);

/** Add max(x, 0). Errors as vgg_model_add_conv(). */
VGG_API vgg_status vgg_model_add_relu(vgg_model *model, const char *name);

/**
 * Add 2x2 pooling with stride 2; an odd last row or column is dropped. Of equal values
 * the first in row order is the largest, and gets the gradient. The engine `cpu` finds
 * it before the bias of a convolution in front is added: where only the rounding of
 * that sum makes two values equal, the one that was larger gets it. Errors as
 * vgg_model_add_conv(); VGG_ESHAPE also when a side is below 2.
 */
VGG_API vgg_status vgg_model_add_pool(vgg_model *model, vgg_pool_kind kind,
                                      const char *name);

/**
 * Add average pooling to `height` x `width`: window i of a side of n pixels goes from
 * floor(i * n / out) to ceil((i + 1) * n / out), as PyTorch's AdaptiveAvgPool2d.
 * Errors as vgg_model_add_conv().
 */
VGG_API vgg_status vgg_model_add_adaptive_pool(vgg_model *model, uint32_t height,
                                               uint32_t width, const char *name);

/** Add [c][h][w] to [c*h*w]. Errors as vgg_model_add_conv(). */
VGG_API vgg_status vgg_model_add_flatten(vgg_model *model, const char *name);

/**
 * Add a linear layer y = W x + b. Errors as vgg_model_add_conv(); VGG_ESHAPE when the
 * input is not flat.
 */
VGG_API vgg_status vgg_model_add_linear(vgg_model *model, uint32_t features,
                                        const char *name);

/**
 * Add dropout: in training each element is zero with probability `rate`, and the others
 * are multiplied by 1 / (1 - rate); otherwise nothing. Srivastava et al. 2014.
 * Errors as vgg_model_add_conv().
 *
 * @param rate 0 <= rate < 1.
 */
VGG_API vgg_status vgg_model_add_dropout(vgg_model *model, float rate,
                                         const char *name);

/**
 * Give every parameter its first value: weights by the named rule, biases zero; batch
 * normalisation weight 1, bias 0, running mean 0, running variance 1. The same seed
 * gives the same values on every machine.
 *
 * @return VGG_OK, VGG_EINVAL.
 */
VGG_API vgg_status vgg_model_init(vgg_model *model, vgg_init init, uint64_t seed);

/** Shape of one sample going in. */
VGG_API const vgg_shape *vgg_model_input_shape(const vgg_model *model);

/** Shape of one sample coming out. */
VGG_API const vgg_shape *vgg_model_output_shape(const vgg_model *model);

/** Number of layers. */
VGG_API uint32_t vgg_model_layer_count(const vgg_model *model);

/** A layer; NULL when `index` is past the last. */
VGG_API const vgg_layer *vgg_model_layer(const vgg_model *model, uint32_t index);

/** A layer by its name or its torchvision name; NULL when there is none. */
VGG_API const vgg_layer *vgg_model_find_layer(const vgg_model *model, const char *name);

/** Number of parameters and buffers. */
VGG_API uint32_t vgg_model_param_count(const vgg_model *model);

/** A parameter or buffer, in the order of the layers; NULL when past the last. */
VGG_API vgg_param *vgg_model_param(const vgg_model *model, uint32_t index);

/** A parameter by its name or its torchvision name; NULL when there is none. */
VGG_API vgg_param *vgg_model_find_param(const vgg_model *model, const char *name);

/** Elements of all parameters, without buffers. */
VGG_API uint64_t vgg_model_parameters(const vgg_model *model);

/** Multiply-accumulate operations of one sample's forward pass. */
VGG_API uint64_t vgg_model_macs(const vgg_model *model);

VGG_END_DECLS

#endif
