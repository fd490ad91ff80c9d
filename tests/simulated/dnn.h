/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated cuDNN: what its files share. A descriptor that the engine holds names
 * an object; setting one as an attribute of another keeps the object as it is then, so
 * the descriptor may be destroyed. */
#ifndef VGG_TEST_SIMULATED_DNN_H
#define VGG_TEST_SIMULATED_DNN_H

#include "inside.h"

enum { DNN_AXES = 4, DNN_OPS = 8, DNN_TENSORS = 24, DNN_ATTRIBUTES = 12 };

struct dnn_attribute {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count;
    void *values; /* of CUDNN_TYPE_BACKEND_DESCRIPTOR: struct dnn_object * each */
};

struct dnn_object {
    uint32_t refs;
    cudnnBackendDescriptorType_t type;
    bool final;
    struct dnn_attribute attributes[DNN_ATTRIBUTES];
    uint32_t count;
    void *info; /* made at finalisation: graphs, heuristics, plans; one allocation */
    struct dnn_object *about; /* the graph that heuristics, engines, plans are about */
};

/* ---- Descriptions of descriptors (dnn_schema.c) ---------------------------------- */

enum { DNN_REQUIRED = 1, DNN_READ_ONLY = 2 };

struct dnn_field {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t least, most; /* how many elements */
    unsigned flags;
    int refers; /* of descriptors: their type */
};

struct dnn_schema {
    cudnnBackendDescriptorType_t type;
    const char *name;
    struct dnn_field fields[DNN_ATTRIBUTES];
};

/* NULL: a type that the simulation does not know. */
const struct dnn_schema *dnn_schema(cudnnBackendDescriptorType_t type);
const struct dnn_field *dnn_field(cudnnBackendDescriptorType_t type,
                                  cudnnBackendAttributeName_t name);
size_t dnn_type_size(cudnnBackendAttributeType_t type); /* 0: unknown */

/* ---- Objects (dnn.c) ------------------------------------------------------------- */

struct dnn_object *dnn_new(cudnnBackendDescriptorType_t type);
struct dnn_object *dnn_hold(struct dnn_object *object);
void dnn_drop(struct dnn_object *object);
void dnn_put(struct dnn_object *object, const struct dnn_field *field, int64_t count,
             const void *values);
const struct dnn_attribute *dnn_find(const struct dnn_object *object,
                                     cudnnBackendAttributeName_t name);
/* The first value, or `missing`. */
int64_t dnn_int(const struct dnn_object *object, cudnnBackendAttributeName_t name,
                int64_t missing);
double dnn_float(const struct dnn_object *object, cudnnBackendAttributeName_t name,
                 double missing);
struct dnn_object *dnn_child(const struct dnn_object *object,
                             cudnnBackendAttributeName_t name, int64_t index);

/* The handle's stream and device; NULL and -1 if it is none. */
cudaStream_t dnn_stream(cudnnHandle_t handle);
int dnn_handle_device(cudnnHandle_t handle);

/* How a configuration computes. */
struct dnn_config {
    int64_t number; /* global index of the engine */
    bool tensor_cores, cuts, varies, reduces, compiles, keeps_nan;
    bool cheats; /* fewer bits than f32 has, and no note says so */
    int64_t workspace;
    cudnnStatus_t refusal; /* of its plan; CUDNN_STATUS_SUCCESS: it works */
};

/* ---- Finalisation (dnn_check.c) -------------------------------------------------- */

/* Check what a descriptor holds when it is finalised, and make its info; complains. */
cudnnStatus_t dnn_check(struct dnn_object *object);
/* The device that a plan or heuristics are for; -1: none. */
int dnn_device(const struct dnn_object *object);
/* A configuration as the object that heuristics return. */
struct dnn_object *dnn_config_object(struct dnn_object *graph,
                                     const struct dnn_config *config);

/* ---- Tensors and graphs (dnn_graph.c) -------------------------------------------- */

struct dnn_tensor {
    int64_t uid, align, dims[DNN_AXES], strides[DNN_AXES];
    int axes;
    cudnnDataType_t type;
    bool is_virtual;
};

void dnn_tensor_read(const struct dnn_object *object, struct dnn_tensor *tensor);

enum dnn_kind { DNN_CONV_FORWARD, DNN_CONV_DATA, DNN_CONV_WEIGHTS, DNN_POINTWISE };

/* An operation with the places of its tensors in the graph's list; -1: none. What it
 * reads is in `in`, what it writes in `out`, in the order of the kind:
 *   forward x w -> y; data dy w -> dx; weights x dy -> dw
 *   pointwise x b -> y, or of a mode that goes back x dy -> dx */
struct dnn_op {
    enum dnn_kind kind;
    int in[2], out;
    int mode; /* of pointwise */
    double alpha, beta;
    int64_t pad[2], stride[2], dilation[2];
};

struct dnn_graph {
    struct dnn_op ops[DNN_OPS]; /* in an order in which they can be carried out */
    struct dnn_tensor tensors[DNN_TENSORS];
    int op_count, tensor_count;
    uint64_t sum; /* of all that it is, the same in every process */
};

/* The graph of an operation graph's object: its info. Complains. */
cudnnStatus_t dnn_graph_make(struct dnn_object *object);
int64_t dnn_elements(const struct dnn_tensor *tensor);
size_t dnn_element_size(cudnnDataType_t type);
/* Bytes from the first element to the end of the last. */
size_t dnn_extent(const struct dnn_tensor *tensor);
/* Is the tensor in memory, and not made by the graph? */
bool dnn_is_input(const struct dnn_graph *graph, int tensor);

/* ---- Heuristics (dnn_heuristics.c) ----------------------------------------------- */

enum { DNN_CONFIGS = 24 };
/* What heuristics answer for a graph on a device, best first; returns how many. */
int dnn_configs(const struct dnn_graph *graph, const struct cudaDeviceProp *device,
                cudnnBackendHeurMode_t mode, struct dnn_config configs[DNN_CONFIGS]);

/* ---- Plans (dnn_plan.c) ---------------------------------------------------------- */

cudnnStatus_t dnn_plan_finalize(struct dnn_object *plan);
cudnnStatus_t dnn_plan_json(struct dnn_object *plan, int64_t room, int64_t *count,
                            char *text);
cudnnStatus_t dnn_plan_load(struct dnn_object *plan, int64_t count, const char *text);
cudnnStatus_t dnn_execute(cudnnHandle_t handle, struct dnn_object *plan,
                          struct dnn_object *pack);

/* ---- Carrying out (dnn_run.c, dnn_conv.c) ---------------------------------------- */

/* A tensor's elements in the order of its axes, last fastest. */
struct dnn_value {
    double *at;
};

/* What a graph computes, from `values` of its inputs; the others are made. */
void dnn_compute(const struct dnn_graph *graph, const struct dnn_config *config,
                 struct dnn_value *values);
void dnn_convolve(const struct dnn_graph *graph, const struct dnn_op *op,
                  const double *a, const double *b, double *out);
void dnn_read(const struct dnn_tensor *tensor, const void *memory, double *out);
void dnn_write(const struct dnn_tensor *tensor, void *memory, const double *values);
/* As an element of the type keeps it. */
double dnn_rounded(cudnnDataType_t type, double value);

#endif
