/* SPDX-License-Identifier: Apache-2.0 */
/* The loader: batches in a fixed order, made ahead of time by a thread of its own.
 *
 * What a batch holds is a function of (seed, epoch, number of the batch) alone; the
 * thread only decides when it is made. The thread (the maker) and the caller (the
 * taker) share a ring of slots, each with memory for a batch:
 *
 *     made - taken batches wait in slots taken % slots ... (made - 1) % slots,
 *     and the slot before them is the one that the caller looks at.
 *
 * So there's one slot more than batches made ahead, and nothing is allocated after
 * vgg_loader_create(). To go elsewhere (seek, or again after an error) the taker raises
 * `version` and empties the ring; a batch that was begun before is thrown away.
 *
 * Without a thread (prefetch 0) the taker makes the batch itself, by the same
 * function. */
#include "data/loader.h"

#include "core/fpmode.h"
#include "core/memory.h"
#include "core/options.h"
#include "data/dataset.h"
#include "data/shuffle.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MOST_PREFETCH 1024

/* ---- Places ---------------------------------------------------------------------- */

static struct vgg__cursor after(const vgg_loader *loader, struct vgg__cursor at)
{
    if (at.index + 1 < loader->batches)
        return (struct vgg__cursor){at.epoch, at.index + 1};
    return (struct vgg__cursor){at.epoch + 1, 0};
}

uint32_t vgg__loader_samples_at(const vgg_loader *loader, uint64_t index)
{
    return index + 1 == loader->batches ? loader->last_count : loader->opts.batch;
}

/* ---- Making a batch -------------------------------------------------------------- */

void vgg__loader_order(vgg_loader *loader, uint64_t epoch)
{
    struct vgg__maker *const maker = &loader->maker;
    if (maker->order == NULL || maker->order_epoch == epoch) return;
    vgg__shuffle(loader->opts.seed, epoch, maker->order,
                 (uint32_t)vgg_dataset_count(loader->data));
    maker->order_epoch = epoch;
}

void vgg__loader_draw(const vgg_loader *loader, uint64_t epoch, uint64_t index,
                      struct vgg__augment *out)
{
    const vgg_shape *const shape = vgg__transformer_shape(loader->maker.transformer);
    const struct vgg__sample_place place = {loader->opts.seed, epoch, index};
    *out = (struct vgg__augment){.down = 0};
    if (loader->opts.train)
        vgg__augment_draw(&loader->transform, shape->dim[1], shape->dim[2], &place,
                          out);
}

/* One sample, read, transformed and put in its row. */
static vgg_status make_sample(vgg_loader *loader, uint64_t epoch, uint64_t index,
                              float *row, uint32_t *label)
{
    const struct vgg__maker *const maker = &loader->maker;
    struct vgg__augment augment;
    VGG_TRY(vgg_dataset_read(loader->data, index, maker->image, label));
    vgg__loader_draw(loader, epoch, index, &augment);
    vgg__transformer_apply(maker->transformer, maker->image,
                           loader->opts.train ? &augment : NULL, row);
    return VGG_OK;
}

/* Fill a slot with the batch at `slot->at`. Ends early, with a batch that nobody will
 * look at, when `version` is no longer the loader's. */
static void make_batch(vgg_loader *loader, struct vgg__slot *slot, unsigned version)
{
    const struct vgg__cursor at = slot->at;
    const struct vgg__maker *const maker = &loader->maker;
    const vgg_shape *const shape = vgg__transformer_shape(maker->transformer);
    const size_t row = (size_t)shape->dim[0] * shape->dim[1] * shape->dim[2];
    const uint64_t first = at.index * loader->opts.batch;
    float *const rows = vgg_tensor_data(slot->images);
    slot->status = VGG_OK;
    vgg__loader_order(loader, at.epoch);
    for (uint32_t i = 0; i < vgg__loader_samples_at(loader, at.index); i++) {
        if (atomic_load_explicit(&loader->version, memory_order_relaxed) != version)
            return;
        const uint64_t index =
            maker->order != NULL ? maker->order[first + i] : first + i;
        slot->status =
            make_sample(loader, at.epoch, index, rows + i * row, &slot->labels[i]);
        if (slot->status != VGG_OK) {
            snprintf(slot->error, sizeof slot->error, "%s", vgg_last_error());
            return;
        }
    }
}

/* ---- The maker's thread ---------------------------------------------------------- */

/* Wait until a batch is wanted. False: until the loader goes. */
static bool wait_for_room(vgg_loader *loader)
{
    while (!loader->stop && (loader->failed || loader->naming ||
                             loader->made - loader->taken == loader->opts.prefetch))
        pthread_cond_wait(&loader->room, &loader->lock);
    return !loader->stop;
}

static void run_maker(void *arg)
{
    vgg_loader *const loader = arg;
    pthread_mutex_lock(&loader->lock);
    while (wait_for_room(loader)) {
        struct vgg__slot *const slot = &loader->slot[loader->made % loader->slots];
        const unsigned version = atomic_load(&loader->version);
        slot->at = loader->making;
        loader->busy = true;
        pthread_mutex_unlock(&loader->lock);
        make_batch(loader, slot, version);
        pthread_mutex_lock(&loader->lock);
        loader->busy = false;
        pthread_cond_signal(&loader->ready);
        if (atomic_load(&loader->version) != version) continue; /* thrown away */
        loader->making = after(loader, slot->at);
        loader->failed = slot->status != VGG_OK;
        loader->made++;
    }
    pthread_mutex_unlock(&loader->lock);
}

/* Empty the ring and have the maker go on at the taker's place. The slot that the
 * caller may still look at is overwritten no earlier than at the next call: it's the
 * one before `taken`, and the ring has one slot more than batches are made ahead. */
static void restart(vgg_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    atomic_fetch_add(&loader->version, 1);
    loader->failed = false;
    loader->made = loader->taken;
    loader->making = loader->next;
    if (loader->making.index == loader->batches)
        loader->making = (struct vgg__cursor){loader->next.epoch + 1, 0};
    pthread_cond_signal(&loader->room);
    pthread_mutex_unlock(&loader->lock);
}

/* Batches are wanted after all. */
static void make_again(vgg_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    loader->naming = false;
    pthread_mutex_unlock(&loader->lock);
    restart(loader);
}

/* The slot of the batch at the taker's place, once it's made. */
static struct vgg__slot *take(vgg_loader *loader)
{
    if (!loader->has_thread) {
        struct vgg__slot *const slot = &loader->slot[0];
        const uint64_t mode = vgg__fpmode_enter();
        slot->at = loader->next;
        make_batch(loader, slot, atomic_load(&loader->version));
        vgg__fpmode_leave(mode);
        return slot;
    }
    pthread_mutex_lock(&loader->lock);
    while (loader->made == loader->taken)
        pthread_cond_wait(&loader->ready, &loader->lock);
    struct vgg__slot *const slot = &loader->slot[loader->taken++ % loader->slots];
    pthread_cond_signal(&loader->room);
    pthread_mutex_unlock(&loader->lock);
    return slot;
}

/* ---- Creating and giving back ---------------------------------------------------- */

static vgg_status read_options(const vgg_dataset *data, const vgg_loader_options *given,
                               vgg_loader *loader)
{
    vgg_loader_options *const opts = &loader->opts;
    *opts = (vgg_loader_options)VGG_LOADER_OPTIONS_INIT;
    VGG_TRY(vgg__options_read("vgg_loader_options", given, sizeof *opts, opts,
                              sizeof *opts));
    VGG_TRY(vgg__transform_read(opts->transform, &loader->transform));
    const uint64_t count = vgg_dataset_count(data);
    if (opts->batch == 0)
        return vgg__fail(VGG_EINVAL,
                         "vgg_loader_options.batch is 0, expected at least 1");
    if (opts->train > 1 || opts->drop_last > 1)
        return vgg__fail(VGG_EINVAL,
                         "vgg_loader_options: train is %" PRIu32 ", drop_last %" PRIu32
                         ", expected 0 or 1",
                         opts->train, opts->drop_last);
    if (opts->drop_last && count < opts->batch)
        return vgg__fail(VGG_EINVAL,
                         "no batch is left: %" PRIu64 " samples, %" PRIu32
                         " a batch, drop_last",
                         count, opts->batch);
    if (opts->prefetch > MOST_PREFETCH)
        return vgg__fail(VGG_ELIMIT,
                         "vgg_loader_options.prefetch is %" PRIu32 ", at most %d",
                         opts->prefetch, MOST_PREFETCH);
    if (count > (opts->train ? UINT32_MAX : VGG_MAX_INDEX - 1))
        return vgg__fail(VGG_ELIMIT, "data set: %" PRIu64 " samples, too many to %s",
                         count, opts->train ? "shuffle" : "count");
    /* No more room than the data set can fill. */
    if (opts->batch > count) opts->batch = count > 0 ? (uint32_t)count : 1;
    const uint64_t rest = count % opts->batch;
    loader->batches = count / opts->batch + (rest != 0 && !opts->drop_last);
    loader->last_count = rest != 0 && !opts->drop_last ? (uint32_t)rest : opts->batch;
    return VGG_OK;
}

static vgg_status make_slot(vgg_loader *loader, struct vgg__slot *slot)
{
    const uint32_t *const dim = vgg__transformer_shape(loader->maker.transformer)->dim;
    const vgg_shape shape = {4, {loader->opts.batch, dim[0], dim[1], dim[2]}};
    VGG_TRY(vgg_tensor_create(loader->ctx, VGG_F32, &shape, &slot->images));
    if (loader->last_count != loader->opts.batch)
        VGG_TRY(vgg_tensor_view(slot->images, 0, loader->last_count, &slot->last));
    slot->labels = vgg__calloc(loader->ctx, loader->opts.batch, sizeof *slot->labels);
    return slot->labels != NULL ? VGG_OK : VGG_ENOMEM;
}

static vgg_status make_maker(vgg_loader *loader)
{
    struct vgg__maker *const maker = &loader->maker;
    const vgg_dataset *const data = loader->data;
    VGG_TRY(vgg__transformer_create(loader->ctx, &loader->transform, &data->shape,
                                    &maker->transformer));
    maker->image = vgg__alloc(loader->ctx, data->image_bytes);
    if (maker->image == NULL) return VGG_ENOMEM;
    if (!loader->opts.train) return VGG_OK;
    maker->order_epoch = UINT64_MAX;
    maker->order =
        vgg__calloc(loader->ctx, vgg_dataset_count(data), sizeof *maker->order);
    return maker->order != NULL ? VGG_OK : VGG_ENOMEM;
}

static vgg_status fill(vgg_loader *loader, const vgg_loader_options *opts)
{
    VGG_TRY(read_options(loader->data, opts, loader));
    loader->opts.transform = NULL; /* the caller's; `transform` has the copy */
    VGG_TRY(make_maker(loader));
    loader->slot =
        vgg__calloc(loader->ctx, loader->opts.prefetch + 1, sizeof *loader->slot);
    if (loader->slot == NULL) return VGG_ENOMEM;
    loader->slots = loader->opts.prefetch + 1;
    for (uint32_t i = 0; i < loader->slots; i++)
        VGG_TRY(make_slot(loader, &loader->slot[i]));
    if (loader->opts.prefetch == 0) return VGG_OK;
    VGG_TRY(vgg__thread_start(&loader->thread, "vgg-loader", run_maker, loader));
    loader->has_thread = true;
    return VGG_OK;
}

vgg_status vgg_loader_create(vgg_dataset *data, const vgg_loader_options *opts,
                             vgg_loader **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(data != NULL);
    vgg_loader *const loader = vgg__calloc(data->ctx, 1, sizeof *loader);
    if (loader == NULL) return VGG_ENOMEM;
    loader->ctx = vgg__context_ref(data->ctx);
    loader->data = vgg__dataset_ref(data);
    loader->owner = getpid();
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->room, NULL);
    pthread_cond_init(&loader->ready, NULL);
    const vgg_status status = fill(loader, opts);
    if (status == VGG_OK)
        *out = loader;
    else
        vgg_loader_free(loader);
    return status;
}

/* The thread ends after the sample that it is at. */
static void end_thread(vgg_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    atomic_fetch_add(&loader->version, 1);
    pthread_cond_signal(&loader->room);
    pthread_mutex_unlock(&loader->lock);
    vgg__thread_join(&loader->thread);
}

static bool is_forked(const vgg_loader *loader)
{
    return loader->has_thread && loader->owner != getpid();
}

void vgg_loader_free(vgg_loader *loader)
{
    if (loader == NULL || is_forked(loader))
        return; /* another process' thread uses it */
    if (loader->has_thread) end_thread(loader);
    pthread_cond_destroy(&loader->ready);
    pthread_cond_destroy(&loader->room);
    pthread_mutex_destroy(&loader->lock);
    for (uint32_t i = 0; i < loader->slots; i++) {
        vgg_tensor_free(loader->slot[i].last);
        vgg_tensor_free(loader->slot[i].images);
        vgg__free(loader->slot[i].labels);
    }
    vgg__free(loader->slot);
    vgg__transformer_free(loader->maker.transformer);
    vgg__free(loader->maker.image);
    vgg__free(loader->maker.order);
    vgg__free(loader->named);
    vgg__free(loader->named_labels);
    vgg_dataset_free(loader->data);
    vgg_context *const ctx = loader->ctx;
    vgg__free(loader);
    vgg__context_unref(ctx);
}

/* ---- Asking ---------------------------------------------------------------------- */

uint64_t vgg_loader_batches(const vgg_loader *loader)
{
    return loader != NULL ? loader->batches : 0;
}

uint32_t vgg_loader_batch_size(const vgg_loader *loader)
{
    return loader != NULL ? loader->opts.batch : 0;
}

const vgg_shape *vgg_loader_shape(const vgg_loader *loader)
{
    return loader != NULL ? vgg__transformer_shape(loader->maker.transformer) : NULL;
}

const vgg_dataset *vgg_loader_dataset(const vgg_loader *loader)
{
    return loader != NULL ? loader->data : NULL;
}

/* ---- Going on -------------------------------------------------------------------- */

vgg_status vgg__loader_check(const vgg_loader *loader)
{
    if (!is_forked(loader)) return VGG_OK;
    return vgg__fail(VGG_ESTATE,
                     "loader was made before fork(), its thread is not here");
}

vgg_status vgg__loader_check_free(const vgg_loader *loader)
{
    if (loader->lent == 0) return VGG_OK;
    return vgg__fail(VGG_ESTATE, "a fit or an evaluation is taking the loader's "
                                 "batches; make another loader of the data set");
}

vgg_status vgg__loader_seek(vgg_loader *loader, uint64_t epoch, uint64_t first)
{
    if (epoch >= VGG_MAX_EPOCH)
        return vgg__fail(VGG_EINVAL, "epoch %" PRIu64 ": expected one below 2^48",
                         epoch);
    if (first > loader->batches)
        return vgg__fail(VGG_EINVAL,
                         "batch %" PRIu64 ": an epoch has %" PRIu64 " batches", first,
                         loader->batches);
    VGG_TRY(vgg__loader_check(loader));
    /* What was made ahead for this very place is kept. */
    if (loader->next.epoch == epoch && loader->next.index == first) return VGG_OK;
    loader->next = (struct vgg__cursor){epoch, first};
    if (loader->has_thread) restart(loader);
    return VGG_OK;
}

vgg_status vgg_loader_seek(vgg_loader *loader, uint64_t epoch, uint64_t first)
{
    VGG_REQUIRE(loader != NULL);
    VGG_TRY(vgg__loader_check_free(loader));
    return vgg__loader_seek(loader, epoch, first);
}

/* The epoch is over: an empty batch, made of nothing. */
static void give_end(vgg_loader *loader, vgg_batch *out)
{
    out->epoch = loader->next.epoch;
    out->index = loader->batches;
    loader->next = (struct vgg__cursor){loader->next.epoch + 1, 0};
}

vgg_status vgg_loader_next(vgg_loader *loader, vgg_batch *out)
{
    VGG_REQUIRE(out != NULL);
    *out = (vgg_batch){0};
    VGG_REQUIRE(loader != NULL);
    VGG_TRY(vgg__loader_check_free(loader));
    return vgg__loader_next(loader, out);
}

vgg_status vgg__loader_next(vgg_loader *loader, vgg_batch *out)
{
    *out = (vgg_batch){0};
    VGG_TRY(vgg__loader_check(loader));
    if (loader->next.index == loader->batches) {
        give_end(loader, out);
        return VGG_OK;
    }
    if (loader->naming) make_again(loader);
    const struct vgg__slot *const slot = take(loader);
    if (slot->status != VGG_OK) {
        const vgg_status status = vgg__fail(slot->status, "%s", slot->error);
        if (loader->has_thread) restart(loader); /* the next call tries again */
        return status;
    }
    *out = (vgg_batch){.images = slot->images,
                       .labels = slot->labels,
                       .count = vgg__loader_samples_at(loader, slot->at.index),
                       .epoch = slot->at.epoch,
                       .index = slot->at.index};
    if (out->count != loader->opts.batch) out->images = slot->last;
    loader->next.index++;
    return VGG_OK;
}
