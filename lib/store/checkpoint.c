/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: a folder that is replaced in one step (io/atomic.h), with a manifest
 * that says what must be in it. Loading checks all of it, against itself and against
 * the trainer, before anything of the trainer is changed. */
#include <vgg/checkpoint.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/text.h"
#include "io/os.h"
#include "plan/plan.h"
#include "store/manifest.h"
#include "store/moments.h"
#include "store/record.h"
#include "store/staged.h"
#include "store/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_SIZE 512 /* bytes of a path in an error text */
#define MOST_LOOKS 20  /* at a checkpoint that is replaced all the while */

/* ---- Saving ---------------------------------------------------------------------- */

struct saving {
    vgg_trainer *trainer;
    const char *dir;
    struct vgg__atomic_folder folder;
    struct vgg__manifest manifest;
    vgg_metadata *metadata;
    struct vgg__record record;
    struct vgg__moments moments;
};

static vgg_status write_text(struct vgg__out *out, vgg_status status, char *text,
                             size_t size)
{
    if (status == VGG_OK) status = vgg__out_write(out, text, size);
    vgg__free(text);
    return status;
}

static vgg_status write_weights(struct saving *saving, struct vgg__out *out)
{
    return vgg__model_write(saving->trainer->model, saving->metadata, out);
}

static vgg_status write_trainer(struct saving *saving, struct vgg__out *out)
{
    char *text;
    size_t size;
    const vgg_status status =
        vgg__record_write(saving->trainer->ctx, &saving->record, &text, &size);
    return write_text(out, status, text, size);
}

static vgg_status write_optimizer(struct saving *saving, struct vgg__out *out)
{
    return vgg__moments_write(&saving->moments, out);
}

static vgg_status write_manifest(struct saving *saving, struct vgg__out *out)
{
    char *text;
    size_t size;
    const vgg_status status =
        vgg__manifest_write(saving->trainer->ctx, &saving->manifest, &text, &size);
    return write_text(out, status, text, size);
}

/* Write one file, flush it, and take down its size and hash. */
static vgg_status save_file(struct saving *saving, uint32_t name,
                            vgg_status (*write)(struct saving *, struct vgg__out *))
{
    struct vgg__out out;
    vgg_status status =
        vgg__atomic_folder_create(&saving->folder, vgg__checkpoint_names[name], &out);
    out.hashed = true;
    if (status == VGG_OK) status = write(saving, &out);
    if (status == VGG_OK) status = vgg__out_finish(&out);
    vgg__out_abandon(&out);
    if (status != VGG_OK || name == 0) return status;
    saving->manifest.files[name - 1].present = true;
    saving->manifest.files[name - 1].size = out.size;
    vgg__sha256_end(&out.hash, saving->manifest.files[name - 1].sha256);
    return VGG_OK;
}

static vgg_status save_files(struct saving *saving)
{
    VGG_TRY(save_file(saving, 1 + VGG_FILE_WEIGHTS, write_weights));
    VGG_TRY(save_file(saving, 1 + VGG_FILE_TRAINER, write_trainer));
    if (saving->moments.present)
        VGG_TRY(save_file(saving, 1 + VGG_FILE_OPTIMIZER, write_optimizer));
    return save_file(saving, 0, write_manifest);
}

static vgg_status save(struct saving *saving)
{
    VGG_TRY(vgg__atomic_folder_begin(&saving->folder, saving->dir,
                                     vgg__checkpoint_names, 1 + VGG_FILES));
    const vgg_status status = save_files(saving);
    if (status == VGG_OK) return vgg__atomic_folder_commit(&saving->folder);
    vgg__atomic_folder_abort(&saving->folder);
    return status;
}

vgg_status vgg_checkpoint_save(vgg_trainer *trainer, const char *dir,
                               const vgg_metadata *metadata)
{
    VGG_REQUIRE(trainer != NULL);
    VGG_REQUIRE(dir != NULL);
    if (trainer->pending > 0)
        return vgg__fail(
            VGG_ESTATE,
            "%s: %u of %u batches are accumulated; a checkpoint stands between "
            "two steps",
            vgg__text_path(dir), trainer->pending, trainer->opts.accumulate);
    struct saving saving = {.trainer = trainer, .dir = dir};
    VGG_TRY(vgg__weights_metadata(trainer->model, metadata, &saving.metadata));
    vgg__record_take(trainer, &saving.record);
    if (vgg__record_check(&saving.record, dir) != VGG_OK) {
        vgg_metadata_free(saving.metadata);
        return vgg__fail(VGG_ESTATE, "%s", vgg_last_error());
    }
    vgg_status status = vgg__moments_take(&saving.moments, trainer);
    if (status == VGG_OK) status = save(&saving);
    vgg__moments_free(&saving.moments);
    vgg_metadata_free(saving.metadata);
    return status;
}

/* ---- Loading --------------------------------------------------------------------- */

struct loading {
    vgg_context *ctx;
    vgg_trainer *trainer; /* NULL: only the files are checked */
    const char *dir;
    int folder; /* fd */
    struct vgg__input inputs[1 + VGG_FILES];
    char shown[1 + VGG_FILES][SHOWN_SIZE];
    struct vgg__manifest manifest;
    struct vgg__record record;
    struct vgg__staged staged;
    struct vgg__moments moments;
    vgg_metadata *metadata;
};

static vgg_status open_file(struct loading *loading, uint32_t name)
{
    char *shown = loading->shown[name];
    snprintf(shown, SHOWN_SIZE, "%.400s/%s", vgg__text_path(loading->dir),
             vgg__checkpoint_names[name]);
    return vgg__input_open(&loading->inputs[name], loading->folder,
                           vgg__checkpoint_names[name], 0, shown);
}

/* Open a file of the manifest; it must have its size and its hash. */
static vgg_status open_checked(struct loading *loading, uint32_t file)
{
    const struct vgg__input *input = &loading->inputs[1 + file];
    const uint64_t size = loading->manifest.files[file].size;
    VGG_TRY(open_file(loading, 1 + file));
    if (input->size != size)
        return vgg__fail(input->size < size ? VGG_ETRUNCATED : VGG_EFORMAT,
                         "%s: manifest says %" PRIu64 " bytes, file has %" PRIu64,
                         input->shown, size, input->size);
    char hash[VGG_SHA256_TEXT];
    VGG_TRY(vgg__input_hash(input, loading->ctx, hash));
    if (strcmp(hash, loading->manifest.files[file].sha256) != 0)
        return vgg__fail(VGG_ECHECKSUM,
                         "%s: manifest says SHA-256 %.16s..., file has %.16s...",
                         input->shown, loading->manifest.files[file].sha256, hash);
    return VGG_OK;
}

static vgg_status check_recipe(struct loading *loading)
{
    struct vgg__record own;
    const struct vgg__input *input = &loading->inputs[1 + VGG_FILE_TRAINER];
    VGG_TRY(vgg__record_read(loading->trainer->ctx, input, &loading->record));
    vgg__record_take(loading->trainer, &own);
    return vgg__record_match(&loading->record, &own, input->shown);
}

/* Read the weights. A checkpoint gives back what was saved, finite or not. */
static vgg_status stage_weights(struct loading *loading)
{
    vgg_weights_options opts = VGG_WEIGHTS_OPTIONS_INIT;
    opts.allow_infinite = 1;
    struct vgg__safetensors st;
    VGG_TRY(vgg__safetensors_open(&st, loading->trainer->ctx,
                                  &loading->inputs[1 + VGG_FILE_WEIGHTS], true));
    const vgg_status status =
        vgg__staged_read(&loading->staged, loading->trainer->model, &st, &opts);
    loading->metadata = st.metadata;
    st.metadata = NULL;
    vgg__safetensors_close(&st);
    return status;
}

static bool is_trainable(const vgg_model *model)
{
    for (uint32_t i = 0; i < model->param_count; i++)
        if (model->params[i]->trainable) return true;
    return false;
}

static vgg_status stage_moments(struct loading *loading)
{
    if (!loading->manifest.files[VGG_FILE_OPTIMIZER].present) {
        VGG_TRY(vgg__moments_read(&loading->moments, loading->trainer, NULL));
        if (loading->moments.slots == 0 || loading->record.progress.step == 0 ||
            !is_trainable(loading->trainer->model))
            return VGG_OK;
        return vgg__fail(VGG_EFORMAT,
                         "%s: step %" PRIu64 " of an optimiser with state, but no %s",
                         vgg__text_path(loading->dir), loading->record.progress.step,
                         vgg__checkpoint_names[1 + VGG_FILE_OPTIMIZER]);
    }
    struct vgg__safetensors st;
    VGG_TRY(vgg__safetensors_open(&st, loading->trainer->ctx,
                                  &loading->inputs[1 + VGG_FILE_OPTIMIZER], true));
    const vgg_status status =
        vgg__moments_read(&loading->moments, loading->trainer, &st);
    vgg__safetensors_close(&st);
    return status;
}

static vgg_status look_at_files(struct loading *loading)
{
    VGG_TRY(vgg__atomic_folder_open(loading->dir, &loading->folder));
    VGG_TRY(open_file(loading, 0));
    VGG_TRY(vgg__manifest_read(loading->ctx, &loading->inputs[0], &loading->manifest));
    for (uint32_t i = 0; i < VGG_FILES; i++)
        if (loading->manifest.files[i].present) VGG_TRY(open_checked(loading, i));
    return VGG_OK;
}

static void close_files(struct loading *loading)
{
    for (uint32_t i = 0; i < 1 + VGG_FILES; i++) vgg__input_close(&loading->inputs[i]);
    if (loading->folder >= 0) vgg__os->close(loading->folder);
    loading->folder = -1;
}

/* The files are those of the manifest, to the bit. A checkpoint that a save replaces
 * meanwhile is no broken one: the new one is looked at. */
static vgg_status check_files(struct loading *loading)
{
    struct vgg__error kept;
    vgg__error_keep(&kept);
    for (int i = 0; i < MOST_LOOKS; i++) {
        const vgg_status status = look_at_files(loading);
        if (status == VGG_OK) vgg__error_restore(&kept);
        if (status == VGG_OK || loading->folder < 0 ||
            !vgg__atomic_folder_replaced(loading->dir, loading->folder))
            return status;
        close_files(loading);
    }
    return vgg__fail(VGG_EIO, "%s: replaced again and again while it is read",
                     vgg__text_path(loading->dir));
}

static vgg_status check_all(struct loading *loading)
{
    VGG_TRY(check_files(loading));
    VGG_TRY(check_recipe(loading));
    VGG_TRY(stage_weights(loading));
    return stage_moments(loading);
}

/* The tensors; if the device fails, it gets its old state back. */
static vgg_status apply_tensors(struct loading *loading,
                                const struct vgg__moments *before)
{
    vgg_status status = vgg__moments_apply(&loading->moments);
    if (status == VGG_OK) status = vgg__staged_apply(&loading->staged);
    if (status != VGG_OK) vgg__moments_apply(before);
    return status;
}

/* Everything is checked. Only the device can still fail. */
static vgg_status apply(struct loading *loading)
{
    vgg_trainer *trainer = loading->trainer;
    struct vgg__moments before;
    VGG_TRY(vgg__model_refresh(trainer->model));
    vgg_status status = vgg__moments_take(&before, trainer);
    if (status == VGG_OK) status = apply_tensors(loading, &before);
    vgg__moments_free(&before);
    if (status != VGG_OK) return status;
    vgg__trainer_restore(trainer, &loading->record.progress,
                         loading->record.steps_per_epoch);
    trainer->model->batches_tracked = loading->record.batches_tracked;
    return VGG_OK;
}

static void release(struct loading *loading)
{
    close_files(loading);
    vgg__staged_free(&loading->staged);
    vgg__moments_free(&loading->moments);
    vgg_metadata_free(loading->metadata);
}

static struct loading *begin(vgg_context *ctx, vgg_trainer *trainer, const char *dir)
{
    struct loading *loading = vgg__calloc(ctx, 1, sizeof *loading);
    if (loading == NULL) return NULL;
    loading->ctx = ctx;
    loading->trainer = trainer;
    loading->dir = dir;
    loading->folder = -1;
    for (uint32_t i = 0; i < 1 + VGG_FILES; i++) loading->inputs[i].fd = -1;
    return loading;
}

static void end(struct loading *loading)
{
    release(loading);
    vgg__free(loading);
}

vgg_status vgg_checkpoint_load(vgg_trainer *trainer, const char *dir,
                               vgg_metadata **metadata)
{
    if (metadata != NULL) *metadata = NULL;
    VGG_REQUIRE(trainer != NULL);
    VGG_REQUIRE(dir != NULL);
    VGG_TRY(vgg__trainer_check_free(trainer));
    struct loading *loading = begin(trainer->ctx, trainer, dir);
    if (loading == NULL) return VGG_ENOMEM;
    vgg_status status = check_all(loading);
    if (status == VGG_OK) status = apply(loading);
    if (status == VGG_OK && metadata != NULL) {
        *metadata = loading->metadata;
        loading->metadata = NULL;
    }
    end(loading);
    return status;
}

vgg_status vgg_checkpoint_check(vgg_context *ctx, const char *dir)
{
    VGG_REQUIRE(dir != NULL);
    struct loading *loading = begin(ctx, NULL, dir);
    if (loading == NULL) return VGG_ENOMEM;
    const vgg_status status = check_files(loading);
    end(loading);
    return status;
}
