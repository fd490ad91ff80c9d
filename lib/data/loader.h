/* SPDX-License-Identifier: Apache-2.0 */
/* A loader's own structs, and its other way of working: it names the samples of a
 * batch, with what is drawn for each, and leaves the images to an engine that has the
 * data set. Order, labels and what is drawn are those of its batches. */
#ifndef VGG_DATA_LOADER_H
#define VGG_DATA_LOADER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include <vgg/data.h>

#include "core/context.h"
#include "core/error.h"
#include "data/transform.h"

/* A place in the sequence of batches. `index` == batches: the epoch's end. */
struct vgg__cursor {
    uint64_t epoch, index;
};

struct vgg__slot {
    struct vgg__cursor at;
    vgg_tensor *images; /* f32 [batch][c][h][w] */
    vgg_tensor *last;   /* view of its first rows: the epoch's short batch; or NULL */
    uint32_t *labels;   /* [batch] */
    vgg_status status;  /* not VGG_OK: the batch could not be made, and why: */
    char error[VGG_ERROR_SIZE];
};

/* What the maker needs; only one thread at a time makes. */
struct vgg__maker {
    struct vgg__transformer *transformer;
    uint8_t *image;       /* one sample as stored */
    uint32_t *order;      /* [count], NULL: as they are */
    uint64_t order_epoch; /* which epoch `order` is of; UINT64_MAX: none */
};

struct vgg_loader {
    vgg_context *ctx;
    vgg_dataset *data;
    vgg_loader_options opts;
    vgg_transform transform;
    uint64_t batches;    /* an epoch */
    uint32_t last_count; /* samples in the last one */
    uint32_t slots;
    struct vgg__slot *slot; /* [slots] */
    struct vgg__maker maker;
    struct vgg__cursor next; /* the taker's place */
    vgg_sample *named;       /* [batch], NULL: its samples were never named */
    uint32_t *named_labels;  /* [batch] */

    uint32_t lent; /* to fits and evaluations: nobody else may take batches */

    bool has_thread;
    pid_t owner; /* a process that forked off has no thread */
    struct vgg__thread thread;
    pthread_mutex_t lock;       /* guards what follows */
    pthread_cond_t room, ready; /* a slot came free; the maker has done a batch */
    struct vgg__cursor making;  /* the maker's place */
    uint64_t made, taken;       /* batches, since the ring was last emptied */
    atomic_uint version;        /* raised: what is being made is not wanted */
    bool busy;                  /* the maker is at a batch, `maker` is its own */
    bool failed; /* the batch made last could not be: wait for a restart */
    bool naming; /* no batches are wanted: wait for a restart */
    bool stop;
};

/* VGG_ESTATE in a process that has forked off. */
vgg_status vgg__loader_check(const vgg_loader *loader);

/* VGG_ESTATE while a fit or an evaluation takes its batches. */
vgg_status vgg__loader_check_free(const vgg_loader *loader);

/* vgg_loader_seek() and vgg_loader_next() for whom the loader is lent to. */
vgg_status vgg__loader_seek(vgg_loader *loader, uint64_t epoch, uint64_t first);
vgg_status vgg__loader_next(vgg_loader *loader, vgg_batch *out);

/* Samples of an epoch's batch number `index`. */
uint32_t vgg__loader_samples_at(const vgg_loader *loader, uint64_t index);

/* Have the maker's order be that of an epoch; for who makes. */
void vgg__loader_order(vgg_loader *loader, uint64_t epoch);

/* What is drawn for a sample of an epoch; nothing outside of training. */
void vgg__loader_draw(const vgg_loader *loader, uint64_t epoch, uint64_t index,
                      struct vgg__augment *out);

/* A batch without images. */
struct vgg__named_batch {
    const vgg_sample *samples; /* [count], borrowed until the next call */
    const uint32_t *labels;    /* [count], likewise */
    uint32_t count;            /* 0: the epoch is over */
    uint64_t epoch, index;
};

/* Room for naming; once there is, vgg__loader_name() can't fail for want of it. */
vgg_status vgg__loader_prepare_names(vgg_loader *loader);

/* As vgg_loader_next(), and from the same place, but no image is made: not here, and
 * not ahead, until vgg_loader_next() is called again. `labels` are those of the whole
 * data set. VGG_ESTATE. */
vgg_status vgg__loader_name(vgg_loader *loader, const uint32_t *labels,
                            struct vgg__named_batch *out);

/* What an engine must know to keep the data set, but the reading. As
 * vgg__transformer_describe(). */
vgg_status vgg__loader_describe(const vgg_loader *loader, vgg_data_desc *out);

#endif
