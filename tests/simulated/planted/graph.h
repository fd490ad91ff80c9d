/* SPDX-License-Identifier: Apache-2.0 */
/* cuDNN graphs for planting faults in: descriptors in a line each, and one sound
 * convolution of small integers, x [1][4][4][2] to y [1][4][4][4], channels last. */
#ifndef VGG_TEST_PLANTED_GRAPH_H
#define VGG_TEST_PLANTED_GRAPH_H

#include "planted.h"

struct dims {
    int64_t n, c, h, w;
};

struct dims shape(int64_t n, int64_t c, int64_t h, int64_t w);

/* All but finished() and tensor() are not finalised. */
cudnnBackendDescriptor_t make(cudnnBackendDescriptorType_t type);
cudnnBackendDescriptor_t finished(cudnnBackendDescriptor_t descriptor);
void set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
         cudnnBackendAttributeType_t type, int64_t count, const void *values);
void set_part(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
              cudnnBackendDescriptor_t part);
cudnnBackendDescriptor_t tensor(int64_t uid, cudnnDataType_t type, struct dims dims,
                                bool is_virtual);
void set_convolution(cudnnBackendDescriptor_t descriptor, int64_t padding);
cudnnBackendDescriptor_t convolution(int64_t padding); /* finalised */
cudnnBackendDescriptor_t forward(cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                 cudnnBackendDescriptor_t y);
cudnnBackendDescriptor_t pointwise(cudnnPointwiseMode_t mode,
                                   cudnnBackendDescriptor_t x,
                                   cudnnBackendDescriptor_t b,
                                   cudnnBackendDescriptor_t y);
cudnnStatus_t finish_graph(const cudnnBackendDescriptor_t *ops, int64_t count,
                           cudnnBackendDescriptor_t *graph);

enum { MOST_PLANS = 24 };

struct convolution_graph {
    cudnnHandle_t handle;
    cudaStream_t stream;
    cudnnDataType_t type;
    cudnnBackendDescriptor_t graph, plan, plans[MOST_PLANS];
    cudnnBackendDescriptor_t configs[MOST_PLANS];
    int plan_count, config_count;
    int64_t need; /* bytes of work space of `plan` */
    void *x, *w, *y, *workspace;
    int64_t uids[3];
    void *pointers[3];
    int64_t count;
};

/* Everything ready to run; `plan` is the first that needs work space (`spacious` 1) or
 * none (0). */
void convolution_begin(struct convolution_graph *g, cudnnDataType_t type, int spacious);
cudnnBackendDescriptor_t unfinished_plan(const struct convolution_graph *g, int config);
cudnnStatus_t load_plan(struct convolution_graph *g, const char *json, int64_t size);
cudnnStatus_t convolution_run(struct convolution_graph *g);
void convolution_expected(const struct convolution_graph *g, float y[64]);
void convolution_check(struct convolution_graph *g);
void convolution_transpose_weights(struct convolution_graph *g);

#endif
