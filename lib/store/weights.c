/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in safetensors files: the public calls. */
#include "store/weights.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/text.h"
#include "model/model.h"
#include "store/arch.h"
#include "store/staged.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

static vgg_status put_own(vgg_model *model, vgg_metadata *metadata)
{
    /* What readers of PyTorch's world look for. */
    if (vgg_metadata_get(metadata, "format") == NULL)
        VGG_TRY(vgg__metadata_put(metadata, "format", "pt"));
    if (!model->has_arch) return VGG_OK;
    char *text;
    VGG_TRY(vgg__arch_write(model->ctx, &model->arch, model->ratio, &text));
    const vgg_status status = vgg__metadata_put(metadata, VGG_ARCH_KEY, text);
    vgg__free(text);
    return status;
}

vgg_status vgg__weights_metadata(vgg_model *model, const vgg_metadata *given,
                                 vgg_metadata **out)
{
    VGG_TRY(vgg_metadata_create(model->ctx, out));
    vgg_status status = VGG_OK;
    for (uint32_t i = 0; given != NULL && i < given->count && status == VGG_OK; i++)
        if (!vgg__metadata_is_own(given->pairs[i].key))
            status =
                vgg__metadata_put(*out, given->pairs[i].key, given->pairs[i].value);
    if (status == VGG_OK) status = put_own(model, *out);
    if (status == VGG_OK) return VGG_OK;
    vgg_metadata_free(*out);
    *out = NULL;
    return status;
}

static vgg_status save(vgg_model *model, const char *path, const vgg_metadata *metadata)
{
    struct vgg__atomic_file file;
    VGG_TRY(vgg__atomic_file_begin(&file, path));
    const vgg_status status = vgg__model_write(model, metadata, &file.out);
    if (status == VGG_OK) return vgg__atomic_file_commit(&file);
    vgg__atomic_file_abort(&file);
    return status;
}

vgg_status vgg_weights_save(vgg_model *model, const char *path,
                            const vgg_metadata *metadata)
{
    VGG_REQUIRE(model != NULL);
    VGG_REQUIRE(path != NULL);
    vgg_metadata *merged;
    VGG_TRY(vgg__weights_metadata(model, metadata, &merged));
    const vgg_status status = save(model, path, merged);
    vgg_metadata_free(merged);
    return status;
}

static vgg_status read_options(const vgg_weights_options *given,
                               vgg_weights_options *opts)
{
    *opts = (vgg_weights_options)VGG_WEIGHTS_OPTIONS_INIT;
    VGG_TRY(vgg__options_read("vgg_weights_options", given, sizeof *opts, opts,
                              sizeof *opts));
    if (opts->allow_missing > 1 || opts->allow_extra > 1 || opts->allow_infinite > 1 ||
        opts->allow_reshaped > 1)
        return vgg__fail(
            VGG_EINVAL,
            "vgg_weights_options: expected 0 or 1 in each of allow_missing, "
            "allow_extra, allow_infinite and allow_reshaped");
    return VGG_OK;
}

/* Hand a file's strings to the caller, if it wants them. */
static void give_metadata(struct vgg__safetensors *st, vgg_metadata **metadata)
{
    if (metadata == NULL) return;
    *metadata = st->metadata;
    st->metadata = NULL;
}

static vgg_status load_table(vgg_model *model, struct vgg__safetensors *st,
                             const vgg_weights_options *opts, vgg_metadata **metadata)
{
    struct vgg__staged staged;
    vgg_status status = vgg__staged_read(&staged, model, st, opts);
    if (status == VGG_OK) status = vgg__staged_apply(&staged);
    vgg__staged_free(&staged);
    if (status == VGG_OK) give_metadata(st, metadata);
    return status;
}

static vgg_status load_input(vgg_model *model, const struct vgg__input *input,
                             const vgg_weights_options *opts, vgg_metadata **metadata)
{
    struct vgg__safetensors st;
    VGG_TRY(vgg__safetensors_open(&st, model->ctx, input, metadata != NULL));
    const vgg_status status = load_table(model, &st, opts, metadata);
    vgg__safetensors_close(&st);
    return status;
}

vgg_status vgg_weights_load(vgg_model *model, const char *path,
                            const vgg_weights_options *opts, vgg_metadata **metadata)
{
    if (metadata != NULL) *metadata = NULL;
    VGG_REQUIRE(model != NULL);
    VGG_REQUIRE(path != NULL);
    vgg_weights_options known;
    VGG_TRY(read_options(opts, &known));
    struct vgg__input input;
    VGG_TRY(vgg__input_open(&input, AT_FDCWD, path, 1, vgg__text_path(path)));
    const vgg_status status = load_input(model, &input, &known, metadata);
    vgg__input_close(&input);
    return status;
}

vgg_status vgg_weights_load_memory(vgg_model *model, const void *data, size_t size,
                                   const vgg_weights_options *opts,
                                   vgg_metadata **metadata)
{
    if (metadata != NULL) *metadata = NULL;
    VGG_REQUIRE(model != NULL);
    VGG_REQUIRE(data != NULL || size == 0);
    VGG_REQUIRE(size <= PTRDIFF_MAX);
    vgg_weights_options known;
    VGG_TRY(read_options(opts, &known));
    struct vgg__input input;
    vgg__input_memory(&input, data, size, "memory");
    return load_input(model, &input, &known, metadata);
}

/* Build what the file says, if the file has as many elements as that needs. */
static vgg_status build(vgg_context *ctx, const struct vgg__safetensors *st,
                        vgg_model **out)
{
    vgg_arch arch;
    uint32_t ratio;
    uint64_t has = 0;
    const char *text = vgg_metadata_get(st->metadata, VGG_ARCH_KEY);
    if (text == NULL)
        return vgg__fail(VGG_EMISMATCH,
                         "%s: does not say its architecture (metadata \"%s\")",
                         st->input->shown, VGG_ARCH_KEY);
    VGG_TRY(vgg__arch_parse(st->input->shown, text, &arch, &ratio));
    for (uint32_t i = 0; i < st->count; i++) {
        const uint64_t count = st->tensors[i].count;
        has = count > UINT64_MAX - has ? UINT64_MAX : has + count;
    }
    const uint64_t needs = vgg__arch_values(&arch, ratio);
    if (needs > has)
        return vgg__fail(VGG_EMISMATCH,
                         "%s: its architecture has %" PRIu64
                         " values, the file %" PRIu64,
                         st->input->shown, needs, has);
    return vgg_model_create(ctx, &arch, ratio, NULL, out);
}

static vgg_status load_model(vgg_context *ctx, const struct vgg__input *input,
                             vgg_metadata **metadata, vgg_model **out)
{
    const vgg_weights_options strict = VGG_WEIGHTS_OPTIONS_INIT;
    struct vgg__safetensors st;
    vgg_model *model = NULL;
    VGG_TRY(vgg__safetensors_open(&st, ctx, input, metadata != NULL));
    vgg_status status = build(ctx, &st, &model);
    if (status == VGG_OK) status = load_table(model, &st, &strict, metadata);
    vgg__safetensors_close(&st);
    if (status == VGG_OK)
        *out = model;
    else
        vgg_model_free(model);
    return status;
}

vgg_status vgg_model_load(vgg_context *ctx, const char *path, vgg_metadata **metadata,
                          vgg_model **out)
{
    if (metadata != NULL) *metadata = NULL;
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(path != NULL);
    struct vgg__input input;
    VGG_TRY(vgg__input_open(&input, AT_FDCWD, path, 1, vgg__text_path(path)));
    const vgg_status status = load_model(ctx, &input, metadata, out);
    vgg__input_close(&input);
    return status;
}
