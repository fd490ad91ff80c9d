/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the fixtures that make_fixtures.py writes (its head says what is in them). */
#ifndef VGG_TEST_FIXTURE_H
#define VGG_TEST_FIXTURE_H

#include <stdint.h>
#include <vgg/model.h>

struct record {
    char name[56];
    uint64_t count;
    double *values;
};

struct fixture {
    struct record *records;
    uint32_t count;
};

/* Read a whole file; the test fails if it is not there or not whole. */
struct fixture fixture_read(const char *name);
void fixture_free(struct fixture *fixture);

/* A record by its name; with `count` != 0 it must have so many values. */
const double *fixture_get(const struct fixture *fixture, const char *name,
                          uint64_t count);

/* Is there such a record? */
int fixture_has(const struct fixture *fixture, const char *name);

/* The fixture's architecture. */
vgg_arch fixture_arch(const struct fixture *fixture);

/* A model of the fixture's architecture with its initial values. */
vgg_model *fixture_model(const struct fixture *fixture);

/* An f32 tensor of `rows` samples of `shape`, filled with what `values` gives (unless
 * it is NULL). */
vgg_tensor *fixture_tensor(const vgg_shape *shape, uint32_t rows, const double *values);

#endif
