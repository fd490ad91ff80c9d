/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file weights.h
 * @brief Weights in safetensors files, with torchvision's names.
 *
 * A file that vgg_weights_save() wrote can be loaded by PyTorch's
 * `load_state_dict(safetensors.torch.load_file(path))` into the same network, and the
 * other way round. Format: github.com/huggingface/safetensors. The file's metadata
 * carries the architecture and whatever the caller adds (classes, preprocessing), all
 * strings.
 */
#ifndef VGG_WEIGHTS_H
#define VGG_WEIGHTS_H

#include <vgg/model.h>

VGG_BEGIN_DECLS

/** Strings kept beside weights: pairs of key and value. Thread-safety: as a plain
 *  map. */
typedef struct vgg_metadata vgg_metadata;

/** Make an empty map. @return VGG_OK, VGG_ENOMEM. */
VGG_API vgg_status vgg_metadata_create(vgg_context *ctx, vgg_metadata **out);

/** Give a map back. */
VGG_API void vgg_metadata_free(vgg_metadata *metadata);

/**
 * Set a value, replacing an older one.
 *
 * @param key   1 to 255 bytes of UTF-8. Keys that begin with "vgg." are the library's.
 * @param value at most 65535 bytes of UTF-8. A file's metadata and tensor names may
 *              take 16 MiB as JSON, or saving it is VGG_ELIMIT.
 * @return VGG_OK, VGG_EINVAL, VGG_ELIMIT (over 1024 keys, `format` and the library's
 *         own not counted), VGG_ENOMEM.
 */
VGG_API vgg_status vgg_metadata_set(vgg_metadata *metadata, const char *key,
                                    const char *value);

/** Value of a key, borrowed until it is set again; NULL if it is not there. */
VGG_API const char *vgg_metadata_get(const vgg_metadata *metadata, const char *key);

/**
 * Write a model's parameters and buffers. The file appears whole or not at all: it is
 * written beside its place, as `.NAME.new-` and three numbers, flushed to disk and
 * renamed.
 *
 * A file that replaces another has its permissions, a new one those that the umask
 * leaves; owner and group are those of any new file. If `path` itself is a symbolic
 * link, the link is replaced and what it leads to stays as it is: to save through a
 * link, give the path that it leads to. Another hard link keeps the older content.
 *
 * Values are written as they are, finite or not.
 *
 * @param metadata more strings for the file; may be NULL. The library adds
 *                 `vgg.arch` (what vgg_model_load() needs) for a model made from an
 *                 architecture, and `format` = "pt" unless it is set. Keys that begin
 *                 with "vgg." are left out, so a file's own strings can be handed on.
 * @return VGG_OK, VGG_EINVAL, VGG_EIO, VGG_ELIMIT, VGG_ENOMEM.
 */
VGG_API vgg_status vgg_weights_save(vgg_model *model, const char *path,
                                    const vgg_metadata *metadata);

/** Options of vgg_weights_load(). Sized: start from #VGG_WEIGHTS_OPTIONS_INIT. */
typedef struct vgg_weights_options {
    size_t size;             /**< sizeof(vgg_weights_options) */
    uint32_t allow_missing;  /**< 1: parameters that the file lacks stay as they are */
    uint32_t allow_extra;    /**< 1: tensors that the model lacks are skipped */
    uint32_t allow_infinite; /**< 1: take values that are not finite */
    uint32_t allow_reshaped; /**< 1: layers with a tensor of another shape in the file
                                  stay as they are, and the context's log hears of
                                  each: for a head of other classes. VGG_EMISMATCH
                                  if no layer is left */
} vgg_weights_options;

/** Strict: the file has exactly the model's tensors, all finite. */
#define VGG_WEIGHTS_OPTIONS_INIT                                                       \
    {                                                                                  \
        sizeof(vgg_weights_options), 0, 0, 0, 0                                        \
    }

/**
 * Read a model's parameters and buffers from F32, F64, F16 or BF16 tensors with
 * torchvision's or the library's own names. Everything is checked before the model is
 * touched: on failure it is unchanged. `num_batches_tracked` (an I64 scalar) may be
 * absent, as in older files of PyTorch; the largest one counts.
 *
 * @param opts     NULL for the defaults.
 * @param metadata receives the file's strings, owned; those beyond the limits of
 *                 vgg_metadata_set() are VGG_ELIMIT. NULL: they are passed over.
 * @return VGG_OK; VGG_EINVAL; VGG_EIO, VGG_ETRUNCATED, VGG_EFORMAT, VGG_ELIMIT: a
 *         broken file, or one with a header over 16 MiB or more than 100000 tensors;
 *         VGG_EMISMATCH: a sound one that does not fit; VGG_ENONFINITE; VGG_ENOMEM.
 */
VGG_API vgg_status vgg_weights_load(vgg_model *model, const char *path,
                                    const vgg_weights_options *opts,
                                    vgg_metadata **metadata);

/**
 * The same from memory, which is only read during the call and needs no alignment.
 */
VGG_API vgg_status vgg_weights_load_memory(vgg_model *model, const void *data,
                                           size_t size, const vgg_weights_options *opts,
                                           vgg_metadata **metadata);

/**
 * Build a model from a file that vgg_weights_save() wrote, and load its weights, all of
 * which must be finite.
 *
 * @param metadata receives the file's strings, owned; may be NULL.
 * @return as vgg_weights_load(); VGG_EMISMATCH if the file does not say its
 *         architecture.
 */
VGG_API vgg_status vgg_model_load(vgg_context *ctx, const char *path,
                                  vgg_metadata **metadata, vgg_model **out);

VGG_END_DECLS

#endif
