/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the k-th allocation of an operation fail, for every k, and looks at what is
 * left: the right status, nothing leaked, every object as good as before.
 *
 * A scenario's `make` prepares a world without faults, `act` is the operation under
 * test and must leave the world as `make` left it when it fails; afterwards it is done
 * again without faults, and `digest` of the result must be that of a run that never
 * failed. */
#ifndef VGG_FAULT_INJECTOR_H
#define VGG_FAULT_INJECTOR_H

#include "harness.h"

#include <pthread.h>
#include <stdbool.h>
#include <vgg/vgg.h>

/* An allocator that can fail. `fail_at` counts from the arming; 0 never fails. */
struct injector {
    pthread_mutex_t lock;
    long calls, fail_at;
    bool forever; /* the following ones fail too */
    long live;    /* blocks not given back */
    long failed;  /* times that it refused */
};

/* Everything that a scenario may need; what it does not use stays NULL. */
struct world {
    struct injector injector;
    vgg_allocator allocator; /* which asks the injector */
    uint32_t threads;
    vgg_context *ctx;
    vgg_model *model, *other;
    vgg_device *device;
    vgg_device_list *list;
    vgg_plan *plan;
    vgg_tensor *images, *view, *input, *output;
    vgg_dataset *data;
    vgg_loader *loader, *test;
    vgg_metrics *metrics;
    vgg_trainer *trainer;
    vgg_metadata *metadata;
    char dir[64]; /* a folder of its own, "" if none was asked for */
};

struct scenario {
    const char *name;
    vgg_status (*make)(struct world *world); /* may be NULL */
    vgg_status (*act)(struct world *world);
    uint64_t (*digest)(struct world *world); /* may be NULL */
    uint32_t threads;                        /* of the context; 0 means 1 */
    bool needs_none; /* allocates nothing at all, and has no failure to test */
    bool keeps;      /* what a failed `act` allocated may serve the next one */
};

/* Run a program of scenarios, each with single and lasting failures; its exit status. A
 * scenario that allocates nothing without having said so fails: it tests nothing.
 * FAULT_SCENARIO in the environment names the only one to run. */
int injector_main(const char *name, const struct scenario *scenarios, int count);

/* FNV-1a of some bytes, going on from `hash` (0 to start). */
uint64_t digest_bytes(uint64_t hash, const void *data, size_t size);

/* Digest of all parameters and buffers of a model. */
uint64_t digest_model(vgg_model *model);

/* A tiny network of every kind of layer: 1x8x8 to 3 classes, with batch normalisation
 * and dropout. */
vgg_arch tiny_arch(void);

#endif
