/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file arch.h
 * @brief What a VGG network is: blocks of convolutions, an input, a head.
 *
 * Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
 * Recognition", arXiv 1409.1556, table 1; as written in "Dive into Deep Learning",
 * chapter "Networks Using Blocks (VGG)".
 */
#ifndef VGG_ARCH_H
#define VGG_ARCH_H

#include <vgg/common.h>

VGG_BEGIN_DECLS

/** Most blocks an architecture can have. */
#define VGG_MAX_BLOCKS 16

/**
 * A block: `convs` convolutions of `channels` output channels, each followed by a ReLU,
 * then one 2x2 pooling. The convolutions are 3x3 with padding 1, but the last
 * `pointwise` of them are 1x1 (the paper's configuration C). Frozen layout.
 */
typedef struct vgg_block {
    uint32_t convs;     /**< number of convolutions, at least 1 */
    uint32_t channels;  /**< output channels of each, before division by the ratio */
    uint32_t pointwise; /**< how many of the last ones are 1x1, usually 0 */
} vgg_block;

/** What stands between the blocks and the classes. */
typedef enum vgg_head {
    VGG_HEAD_FLATTEN = 0,  /**< flatten, then three linear layers: the chapter */
    VGG_HEAD_ADAPTIVE = 1, /**< adaptive average pool to 7x7 first: torchvision */
    VGG_HEAD_GAP = 2,      /**< global average pool, one linear layer */
    VGG_HEAD_NONE = 3      /**< nothing: the output is the last block's map */
} vgg_head;

/** How a pooling window is reduced. */
typedef enum vgg_pool_kind {
    VGG_POOL_MAX = 0,    /**< its largest element */
    VGG_POOL_AVERAGE = 1 /**< its mean */
} vgg_pool_kind;

/** An architecture. Sized: start from #VGG_ARCH_INIT, which is the chapter's
 *  network. */
typedef struct vgg_arch {
    size_t size;                      /**< sizeof(vgg_arch) */
    uint32_t block_count;             /**< 1 to #VGG_MAX_BLOCKS */
    vgg_block blocks[VGG_MAX_BLOCKS]; /**< the blocks, input side first */
    uint32_t channels;                /**< of the input image */
    uint32_t height;                  /**< of the input image, pixels */
    uint32_t width;                   /**< of the input image, pixels */
    uint32_t classes;                 /**< number of outputs; unused by VGG_HEAD_NONE */
    uint32_t hidden; /**< width of the two hidden linear layers; 0: none of them */
    float dropout;   /**< rate after each hidden linear layer, 0 <= rate < 1; 0: none */
    uint32_t head;   /**< a ::vgg_head */
    uint32_t pool;   /**< a ::vgg_pool_kind */
    uint32_t batch_norm; /**< 1: batch normalisation between convolution and ReLU */
} vgg_arch;

/** VGG-11 on 1x224x224 with ten classes: what the chapter builds. */
#define VGG_ARCH_INIT                                                                  \
    {                                                                                  \
        sizeof(vgg_arch), 5,                                                           \
            {{1, 64, 0}, {1, 128, 0}, {2, 256, 0}, {2, 512, 0}, {2, 512, 0}}, 1, 224,  \
            224, 10, 4096, 0.5f, VGG_HEAD_FLATTEN, VGG_POOL_MAX, 0                     \
    }

/**
 * Fill in an architecture by name.
 *
 * "d2l" is the chapter's network (#VGG_ARCH_INIT). "vgg11", "vgg13", "vgg16", "vgg19"
 * are the paper's A, B, D, E with torchvision's head, input 3x224x224 and 1000 classes,
 * and "vgg16c" is the paper's C likewise; each of these also with "_bn" for batch
 * normalisation. The paper's letters "A" to "E" work too, without "_bn".
 *
 * @param out its `size` must be set (start from #VGG_ARCH_INIT) and stays: no more than
 *            that is written; unchanged on failure.
 * @return VGG_OK, VGG_EINVAL (unknown name; the text lists the known ones).
 */
VGG_API vgg_status vgg_arch_preset(const char *name, vgg_arch *out);

/**
 * Names that vgg_arch_preset() knows, one a call.
 *
 * @return a constant string; NULL when `index` is past the last. Thread-safety: safe.
 */
VGG_API const char *vgg_arch_preset_name(uint32_t index);

/**
 * Check an architecture as vgg_build() would, without building it.
 *
 * @return VGG_OK; VGG_EINVAL (a field out of range, ratio 0, a channel count that the
 *         ratio makes 0); VGG_ESHAPE (the input is too small for its pools); VGG_ELIMIT
 *         (an extent over 2^31 - 1, a layer's output or a parameter over 2^40 elements,
 *         a layer over 2^52 multiplications a sample, over 1024 layers).
 */
VGG_API vgg_status vgg_arch_check(const vgg_arch *arch, uint32_t ratio);

VGG_END_DECLS

#endif
