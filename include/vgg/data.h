/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file data.h
 * @brief Labelled images, what is done to them, and how they come in batches.
 *
 * A data set gives u8 images [c][h][w] and a class by index. A transform turns an image
 * into the network's f32 input. A loader shuffles, transforms and gathers batches on a
 * thread of its own while the network computes. Everything random follows from one seed
 * and the place of the sample, never from threads.
 */
#ifndef VGG_DATA_H
#define VGG_DATA_H

#include <vgg/tensor.h>

VGG_BEGIN_DECLS

/** A data set. Thread-safety: reading is safe. */
typedef struct vgg_dataset vgg_dataset;

/** Gives batches of a data set. Thread-safety: one thread at a time. */
typedef struct vgg_loader vgg_loader;

/**
 * Open a known data set in a folder of files as published.
 *
 * @param name  "fashion-mnist", "mnist" (IDX files), "cifar10", "cifar100" (binary
 *              version). Each file may be plain or .gz; where both are there, the plain
 *              one is read.
 * @param dir   folder of the files.
 * @param split "train" or "test".
 * @return VGG_OK; VGG_EINVAL (name, split); VGG_EIO, VGG_ETRUNCATED, VGG_EFORMAT,
 *         VGG_ELIMIT, VGG_ECHECKSUM, VGG_EMISMATCH, VGG_EUNSUPPORTED: what is wrong
 *         with which file; VGG_ENOMEM.
 */
VGG_API vgg_status vgg_dataset_open(vgg_context *ctx, const char *name, const char *dir,
                                    const char *split, vgg_dataset **out);

/**
 * Open a pair of IDX files: u8 images [n][h][w] or [n][c][h][w], u8 labels [n], each
 * plain or gzip (told by its first bytes). Format: yann.lecun.com/exdb/mnist.
 *
 * @param classes number of classes; every label must be below it.
 * @return as vgg_dataset_open().
 */
VGG_API vgg_status vgg_dataset_open_idx(vgg_context *ctx, const char *images,
                                        const char *labels, uint32_t classes,
                                        vgg_dataset **out);

/**
 * Open CIFAR binary files: records of one label byte (CIFAR-100: coarse, then fine, and
 * the fine one is used) and 3072 bytes of pixels. Format:
 * cs.toronto.edu/~kriz/cifar.html.
 *
 * @param files   paths, `count` of them, in the order of their records.
 * @param classes 10 or 100.
 * @return as vgg_dataset_open().
 */
VGG_API vgg_status vgg_dataset_open_cifar(vgg_context *ctx, const char *const *files,
                                          uint32_t count, uint32_t classes,
                                          vgg_dataset **out);

/**
 * Make a data set of images in memory, which are referenced, not copied; they stay as
 * they are while somebody trains or evaluates on them.
 *
 * @param images u8 [n][c][h][w].
 * @param labels n classes, copied, each below `classes`.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_ELIMIT (an image over 32768 pixels a
 *         side, over 2^20 classes), VGG_ENOMEM.
 */
VGG_API vgg_status vgg_dataset_from_arrays(vgg_context *ctx, vgg_tensor *images,
                                           const uint32_t *labels, uint32_t classes,
                                           vgg_dataset **out);

/** A source of one's own. Frozen layout. */
typedef struct vgg_source {
    void *cookie;      /**< handed to the functions */
    uint64_t count;    /**< number of samples */
    uint32_t channels; /**< of every image; a loader takes up to #VGG_MAX_CHANNELS */
    uint32_t height;   /**< of every image */
    uint32_t width;    /**< of every image */
    uint32_t classes;  /**< number of classes */
    /** Write sample `index` to `image` (u8 [c][h][w]) and its class to `label`; return
     *  0, anything else to stop. The reason that is told is the thread's last error, if
     *  `read` has set one: by `return vgg_source_fail("why")`, or through a function of
     *  the library that failed in it. The same sample each time: an engine with memory
     *  of its own reads it once. Called from several threads at once, and while the
     *  loader and the device that it reads for are locked: it must not use them, nor
     *  what works with them (plans, trainers, vgg_evaluate()), which would wait for it.
     *  Threads of the library's own block every signal: where `read` starts another
     *  program, that should unblock them before exec. */
    int (*read)(void *cookie, uint64_t index, uint8_t *image, uint32_t *label);
    void (*close)(void *cookie); /**< called when the data set goes; may be NULL */
} vgg_source;

/**
 * Make a data set of a caller's source. On failure `close` is not called.
 *
 * @param source copied.
 * @return VGG_OK, VGG_EINVAL, VGG_ELIMIT (as vgg_dataset_from_arrays()), VGG_ENOMEM.
 */
VGG_API vgg_status vgg_dataset_from_source(vgg_context *ctx, const vgg_source *source,
                                           vgg_dataset **out);

/**
 * Say why a source's `read` fails: the text of its VGG_EIO is then "sample N: REASON",
 * on whichever thread it is told. Called on the thread of `read`, as the last thing it
 * does.
 *
 * @param reason one line, copied; NULL: none, whatever failed before.
 * @return -1, for `read` to return.
 */
VGG_API int vgg_source_fail(const char *reason);

/**
 * Name the classes of a data set, for vgg_dataset_class_name(). Not while another
 * thread uses the data set; names that were asked for before are gone.
 *
 * @param names as many as there are classes, copied.
 * @return VGG_OK, VGG_EINVAL (one of them is NULL), VGG_ENOMEM; after a failure the
 *         names are as before.
 */
VGG_API vgg_status vgg_dataset_name_classes(vgg_dataset *data,
                                            const char *const *names);

/** Give a data set back; it goes with the last loader that uses it. */
VGG_API void vgg_dataset_free(vgg_dataset *data);

/** Number of samples. */
VGG_API uint64_t vgg_dataset_count(const vgg_dataset *data);

/** Shape of an image: [c][h][w], borrowed. */
VGG_API const vgg_shape *vgg_dataset_shape(const vgg_dataset *data);

/** Number of classes. */
VGG_API uint32_t vgg_dataset_classes(const vgg_dataset *data);

/** Name of a class, for instance "ankle boot"; its number as text if it has no name;
 *  NULL when past the last. */
VGG_API const char *vgg_dataset_class_name(const vgg_dataset *data, uint32_t index);

/**
 * Read one sample as it is stored.
 *
 * @param image u8 [c][h][w], receives the pixels; undefined after a failure.
 * @param label receives the class.
 * @return VGG_OK, VGG_EINVAL, VGG_EIO (the source's `read` failed), VGG_EMISMATCH (it
 *         gave a label that is no class).
 */
VGG_API vgg_status vgg_dataset_read(const vgg_dataset *data, uint64_t index,
                                    uint8_t *image, uint32_t *label);

/** How an image is brought to another size. All are bilinear, u8 to u8. */
typedef enum vgg_resize_rule {
    VGG_RESIZE_OPENCV = 0, /**< cv::resize INTER_LINEAR with its integer rounding */
    VGG_RESIZE_EXACT = 1,  /**< the same samples, the exact value rounded half up */
    VGG_RESIZE_PILLOW = 2 /**< Pillow BILINEAR: antialiased when it makes smaller; first
                                along x, as Pillow did always until version 12 */
} vgg_resize_rule;

/** How a picture of any shape comes to a fixed one. */
typedef enum vgg_fit {
    VGG_FIT_COVER = 0,  /**< its shape kept, made as small as still covers the whole,
                             the rest cut off evenly: of a square, torchvision's
                             Resize(side) and CenterCrop(side) */
    VGG_FIT_STRETCH = 1 /**< its shape given up */
} vgg_fit;

/**
 * Bring a picture to another size, as pictures of many sizes must be before they are a
 * data set. Thread-safety: any number of calls at once.
 *
 * @param input  u8 [c][h][w], 1 to 32768 pixels a side.
 * @param fit    a ::vgg_fit.
 * @param rule   a ::vgg_resize_rule; torchvision's is that of Pillow.
 * @param output u8 [c][h'][w'] in memory of its own: the size that is wanted.
 * @return VGG_OK, VGG_EINVAL (fit, rule, a type, memory that overlaps), VGG_ESHAPE (no
 *         [c][h][w] with equal channels, no pixels), VGG_ELIMIT (a side over 32768
 *         pixels, that of the picture between resize and cut among them), VGG_ENOMEM.
 */
VGG_API vgg_status vgg_image_fit(const vgg_tensor *input, uint32_t fit, uint32_t rule,
                                 vgg_tensor *output);

/** Most channels a transform can normalise. */
#define VGG_MAX_CHANNELS 4

/**
 * What is done to an image, in this order: resize, centre crop, [training: shifted
 * crop, horizontal flip], divide by 255, subtract mean, divide by std, [training:
 * erase]. Sized: start from #VGG_TRANSFORM_INIT.
 */
typedef struct vgg_transform {
    size_t size;            /**< sizeof(vgg_transform) */
    uint32_t resize_height; /**< 0: as it is */
    uint32_t resize_width;  /**< 0: as it is */
    uint32_t resize_rule;   /**< a ::vgg_resize_rule */
    uint32_t crop_height;   /**< centre crop after the resize; 0: none */
    uint32_t crop_width;    /**< centre crop after the resize; 0: none */
    uint32_t shift; /**< shifted crop: move by up to so many pixels, fill with 0; below
                         both sides of the image that is moved */
    float flip;     /**< chance of a horizontal flip, 0 to 1 */
    float erase; /**< chance to erase a rectangle (set to 0 after normalising), 0 to 1.
                      Zhong et al. 2017, as torchvision: area 0.02 to 0.33, ratio 0.3
                      to 3.3 */
    float mean[VGG_MAX_CHANNELS]; /**< subtracted, in units of 0..1 */
    float std[VGG_MAX_CHANNELS];  /**< divisor, > 0 */
} vgg_transform;

/** Divide by 255 and nothing else. */
#define VGG_TRANSFORM_INIT                                                             \
    {                                                                                  \
        sizeof(vgg_transform), 0, 0, VGG_RESIZE_OPENCV, 0, 0, 0, 0.0f, 0.0f,           \
            {0.0f, 0.0f, 0.0f, 0.0f},                                                  \
        {                                                                              \
            1.0f, 1.0f, 1.0f, 1.0f                                                     \
        }                                                                              \
    }

/**
 * Set mean and std by name, leaving the rest: "none" (0, 1), "imagenet" (torchvision's
 * .485 .456 .406 / .229 .224 .225), "fashion-mnist" (.2860 / .3530), "mnist" (.1307 /
 * .3081), "cifar10" (.4914 .4822 .4465 / .2470 .2435 .2616), "cifar100" (.5071 .4865
 * .4409 / .2673 .2564 .2762).
 *
 * @return VGG_OK, VGG_EINVAL (unknown name; the text lists them).
 */
VGG_API vgg_status vgg_transform_normalize(vgg_transform *transform, const char *name);

/**
 * Apply a transform to one image.
 *
 * @param input  u8 [c][h][w].
 * @param train  1: with shift, flip and erase.
 * @param seed   of the whole training.
 * @param epoch  number of the epoch.
 * @param index  of the sample in its data set; seed, epoch and index fix all that is
 *               random.
 * @param output f32 [c][h'][w'] with the size that the transform gives.
 * @return VGG_OK, VGG_EINVAL (also a shift of the image's side or more), VGG_ESHAPE,
 *         VGG_ELIMIT, VGG_ENOMEM.
 */
VGG_API vgg_status vgg_transform_apply(const vgg_transform *transform,
                                       const vgg_tensor *input, int train,
                                       uint64_t seed, uint64_t epoch, uint64_t index,
                                       vgg_tensor *output);

/** Options of vgg_loader_create(). Sized: start from #VGG_LOADER_OPTIONS_INIT. */
typedef struct vgg_loader_options {
    size_t size;                    /**< sizeof(vgg_loader_options) */
    const vgg_transform *transform; /**< copied; NULL: divide by 255 */
    uint64_t seed;                  /**< of the order and of all that is random */
    uint32_t batch;                 /**< samples a batch, at least 1 */
    uint32_t train;     /**< 1: shuffle every epoch, with shift, flip, erase */
    uint32_t drop_last; /**< 1: leave out a last batch that is not full; the data set
                             must have `batch` samples then */
    uint32_t prefetch;  /**< batches made ahead, at most 1024; 0: made when asked */
} vgg_loader_options;

/** Defaults of ::vgg_loader_options: 128 samples a batch, in order, two made ahead. */
#define VGG_LOADER_OPTIONS_INIT                                                        \
    {                                                                                  \
        sizeof(vgg_loader_options), NULL, 0, 128, 0, 0, 2                              \
    }

/** A batch, borrowed from its loader until the next call. Frozen layout. */
typedef struct vgg_batch {
    const vgg_tensor *images; /**< f32 [count][c][h][w] */
    const uint32_t *labels;   /**< `count` classes */
    uint32_t count;           /**< samples; 0: the epoch is over */
    uint32_t reserved;        /**< 0 */
    uint64_t epoch;           /**< number of the epoch, from 0 */
    uint64_t index;           /**< number of the batch in the epoch, from 0 */
} vgg_batch;

/**
 * Make a loader. The data set stays alive with it.
 *
 * @return VGG_OK, VGG_EINVAL (an option out of range; a shift of the image's side or
 *         more; drop_last and fewer samples than a batch), VGG_ESHAPE (crop over the
 *         image), VGG_ELIMIT (more channels than #VGG_MAX_CHANNELS, more samples than
 *         can be shuffled, more batches ahead than 1024), VGG_ENOMEM, VGG_EDEVICE (no
 *         thread can be started).
 */
VGG_API vgg_status vgg_loader_create(vgg_dataset *data, const vgg_loader_options *opts,
                                     vgg_loader **out);

/** Give a loader back; its thread ends before this returns. Its process alone may use
 *  it: after a fork() the child's copy does nothing. */
VGG_API void vgg_loader_free(vgg_loader *loader);

/** Number of batches an epoch. */
VGG_API uint64_t vgg_loader_batches(const vgg_loader *loader);

/** Samples a full batch: as asked for, but no more than the data set has (where that is
 *  less, `drop_last` is refused). */
VGG_API uint32_t vgg_loader_batch_size(const vgg_loader *loader);

/** Shape of one transformed sample: [c][h][w], borrowed. */
VGG_API const vgg_shape *vgg_loader_shape(const vgg_loader *loader);

/** The data set, borrowed. */
VGG_API const vgg_dataset *vgg_loader_dataset(const vgg_loader *loader);

/**
 * Go to batch `first` of an epoch: the next batch is the one that an uninterrupted run
 * would have given there.
 *
 * @param epoch below 2^48.
 * @param first at most the number of batches; that is the epoch's end.
 * @return VGG_OK, VGG_EINVAL (one of these is not), VGG_ESTATE (a child after fork(),
 *         or vgg_trainer_fit() or an evaluation is taking the loader's batches).
 */
VGG_API vgg_status vgg_loader_seek(vgg_loader *loader, uint64_t epoch, uint64_t first);

/**
 * The next batch. After the last one comes an empty batch once, and then the next
 * epoch.
 *
 * @return VGG_OK, or what reading a sample gave: then the next call tries the same
 *         batch again; VGG_EINVAL, VGG_ESTATE (as vgg_loader_seek()).
 */
VGG_API vgg_status vgg_loader_next(vgg_loader *loader, vgg_batch *out);

VGG_END_DECLS

#endif
