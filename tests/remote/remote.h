/* SPDX-License-Identifier: Apache-2.0 */
/* An engine that does what one with memory of its own may do: it keeps data sets, and
 * its updates are part of the backward. All arithmetic is a built-in engine's, so what
 * comes out must be that engine's bits: the oracle for that half of the contract. */
#ifndef REMOTE_H
#define REMOTE_H

#include "backend.h"

/* How it behaves, and what it was asked to do. Set before use; tests run alone. */
struct remote {
    const vgg_engine *inner;
    const vgg_host *host; /* of the device opened last */
    uint64_t room;        /* bytes of data sets that fit */
    uint32_t devices;     /* in its list */
    bool wants_data;      /* refuse images of the host in training */
    uint32_t broken;      /* lists its devices, and does not open so many of them */
    /* counted */
    uint32_t data_made, data_freed; /* data sets */
    uint64_t images_read;
    uint32_t from_samples, from_host; /* forwards */
    uint32_t steps, backwards;
    uint32_t gradients; /* calls of store_gradients() and what else needs gradients */
    uint32_t program_count;
    vgg_program_desc programs[8]; /* the first of them; only numbers are valid */
};

extern struct remote remote;

/* Begin anew around an engine: plenty of room, one device, nothing counted. */
void remote_begin(const vgg_engine *inner);

/* Its table, under the name "cudnn" with devices "cuda:0", ...; a test may take away
 * abilities. */
extern vgg_engine remote_engine;

/* ---- data.c ---------------------------------------------------------------------- */

vgg_status remote_data_create(void *device, const vgg_data_desc *desc, void **data);
void remote_data_free(void *data);

/* Floats of one input. */
size_t remote_data_sample(const void *data);

/* Write one input [c][h][w]. */
void remote_data_show(const void *data, const vgg_sample *sample, float *out);

#endif
