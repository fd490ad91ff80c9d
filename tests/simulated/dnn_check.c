/* SPDX-License-Identifier: Apache-2.0 */
/* What is looked at when a cuDNN descriptor is finalised: that all is there, and that
 * shapes fit each other. */
#include "dnn.h"

/* In place of a function, so that each fault keeps its own place (site.h). */
#define wrong(object, what)                                                            \
    sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM, "cudnnBackendFinalize: %s: %s",             \
                   dnn_schema((object)->type)->name, what)

static cudnnStatus_t check_required(const struct dnn_object *object)
{
    const struct dnn_schema *schema = dnn_schema(object->type);
    for (int i = 0; i < DNN_ATTRIBUTES; i++)
        if (schema->fields[i].flags & DNN_REQUIRED &&
            !dnn_find(object, schema->fields[i].name))
            return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM,
                                  "cudnnBackendFinalize: %s has no attribute %d",
                                  schema->name, schema->fields[i].name);
    return CUDNN_STATUS_SUCCESS;
}

static int64_t count_of(const struct dnn_object *object,
                        cudnnBackendAttributeName_t name)
{
    const struct dnn_attribute *at = dnn_find(object, name);
    return at ? at->count : 0;
}

/* ---- Tensors --------------------------------------------------------------------- */

static cudnnStatus_t check_tensor(struct dnn_object *object)
{
    struct dnn_tensor t;
    if (count_of(object, CUDNN_ATTR_TENSOR_DIMENSIONS) !=
        count_of(object, CUDNN_ATTR_TENSOR_STRIDES))
        return wrong(object, "as many strides as dimensions are expected");
    dnn_tensor_read(object, &t);
    for (int i = 0; i < t.axes; i++)
        if (t.dims[i] < 1 || t.strides[i] < 1)
            return wrong(object, "a dimension or stride below 1");
    if (dnn_element_size(t.type) == 0) return wrong(object, "an unknown data type");
    if (t.align < 1 || (t.align & (t.align - 1)) != 0)
        return wrong(object, "an alignment that is no power of 2");
    return CUDNN_STATUS_SUCCESS;
}

/* A child's dimensions; 0 axes: it has no such child. */
static struct dnn_tensor child_tensor(const struct dnn_object *object,
                                      cudnnBackendAttributeName_t name)
{
    struct dnn_tensor t = {0};
    const struct dnn_object *child = dnn_child(object, name, 0);
    if (child) dnn_tensor_read(child, &t);
    return t;
}

/* ---- Operations ------------------------------------------------------------------ */

static cudnnStatus_t check_convolution(struct dnn_object *object)
{
    static const cudnnBackendAttributeName_t pairs[] = {
        CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS,
        CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES};
    if (dnn_int(object, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 0) != 2)
        return wrong(object, "other than 2 spatial dimensions are not simulated");
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (count_of(object, pairs[i]) != 2)
            return wrong(object, "2 paddings, dilations and strides are expected");
    return CUDNN_STATUS_SUCCESS;
}

/* x, w, y in forward terms. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, how;
} convolutions[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC},
};

static cudnnStatus_t check_convolve(struct dnn_object *object)
{
    int i = 0;
    while (convolutions[i].type != object->type) i++;
    const struct dnn_tensor x = child_tensor(object, convolutions[i].x);
    const struct dnn_tensor w = child_tensor(object, convolutions[i].w);
    const struct dnn_tensor y = child_tensor(object, convolutions[i].y);
    const struct dnn_object *how = dnn_child(object, convolutions[i].how, 0);
    if (x.axes != 4 || w.axes != 4 || y.axes != 4)
        return wrong(object, "tensors of other than 4 axes are not simulated");
    if (x.dims[0] != y.dims[0] || x.dims[1] != w.dims[1] || w.dims[0] != y.dims[1])
        return wrong(object, "x, w and y do not fit in n or channels");
    const int64_t *pre = dnn_find(how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)->values;
    const int64_t *post = dnn_find(how, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS)->values;
    const int64_t *wide = dnn_find(how, CUDNN_ATTR_CONVOLUTION_DILATIONS)->values;
    const int64_t *step = dnn_find(how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)->values;
    for (int k = 0; k < 2; k++) {
        const int64_t kernel = wide[k] * (w.dims[2 + k] - 1) + 1;
        const int64_t room = x.dims[2 + k] + pre[k] + post[k] - kernel;
        if (room < 0 || y.dims[2 + k] != room / step[k] + 1)
            return wrong(object, "x, w and y do not fit in h or w");
    }
    return CUDNN_STATUS_SUCCESS;
}

static bool broadcasts(const struct dnn_tensor *small, const struct dnn_tensor *large)
{
    bool fits = small->axes == large->axes;
    for (int i = 0; fits && i < small->axes; i++)
        fits = small->dims[i] == large->dims[i] || small->dims[i] == 1;
    return fits;
}

/* The modes that are simulated: what they read beside x, if anything, and write. */
static const struct {
    int mode;
    cudnnBackendAttributeName_t second, out;
} modes[] = {
    {CUDNN_POINTWISE_ADD, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
     CUDNN_ATTR_OPERATION_POINTWISE_YDESC},
    {CUDNN_POINTWISE_IDENTITY, CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
     CUDNN_ATTR_OPERATION_POINTWISE_YDESC},
    {CUDNN_POINTWISE_RELU_FWD, CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
     CUDNN_ATTR_OPERATION_POINTWISE_YDESC},
    {CUDNN_POINTWISE_RELU_BWD, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC,
     CUDNN_ATTR_OPERATION_POINTWISE_DXDESC},
};
enum { MODES = sizeof modes / sizeof *modes };

static cudnnStatus_t check_pointwise(struct dnn_object *object)
{
    const struct dnn_object *how =
        dnn_child(object, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, 0);
    const int64_t mode = dnn_int(how, CUDNN_ATTR_POINTWISE_MODE, 0);
    int m = 0;
    while (m < MODES && modes[m].mode != mode) m++;
    if (m == MODES) return wrong(object, "a mode that is not simulated");
    const struct dnn_tensor x =
        child_tensor(object, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
    const struct dnn_tensor second = child_tensor(object, modes[m].second);
    const struct dnn_tensor out = child_tensor(object, modes[m].out);
    if (out.axes == 0) return wrong(object, "no output for its mode");
    if (second.axes == 0) return wrong(object, "no second input for its mode");
    if (!broadcasts(&x, &out) || !broadcasts(&second, &out))
        return wrong(object, "an input that does not fit the output");
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Engines --------------------------------------------------------------------- */

static int handle_device(const struct dnn_object *object,
                         cudnnBackendAttributeName_t name)
{
    const struct dnn_attribute *at = dnn_find(object, name);
    return at ? dnn_handle_device(*(cudnnHandle_t *)at->values) : -1;
}

int dnn_device(const struct dnn_object *object)
{
    if (dnn_find(object, CUDNN_ATTR_EXECUTION_PLAN_HANDLE))
        return handle_device(object, CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
    return sim_properties(sim_device()) ? sim_device() : -1;
}

static void put_notes(struct dnn_object *engine, const struct dnn_config *config)
{
    int32_t numerical[5], behavior[2];
    int64_t count = 0;
    if (config->tensor_cores) numerical[count++] = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    if (config->cuts) numerical[count++] = CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    if (config->reduces)
        numerical[count++] = CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    if (config->varies) numerical[count++] = CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    if (config->keeps_nan) numerical[count++] = CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP;
    dnn_put(engine, dnn_field(engine->type, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE), count,
            numerical);
    count = 0;
    if (config->compiles) {
        behavior[count++] = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
        behavior[count++] = CUDNN_BEHAVIOR_NOTE_SUPPORTS_CUDA_GRAPH_NATIVE_API;
    }
    dnn_put(engine, dnn_field(engine->type, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE), count,
            behavior);
}

static void put_info(struct dnn_object *object, struct dnn_object *graph,
                     const struct dnn_config *config)
{
    object->info = sim_new(sizeof *config);
    memcpy(object->info, config, sizeof *config);
    object->about = dnn_hold(graph);
}

static struct dnn_object *new_engine(struct dnn_object *graph,
                                     const struct dnn_config *config)
{
    struct dnn_object *engine = dnn_new(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    dnn_put(engine, dnn_field(engine->type, CUDNN_ATTR_ENGINE_GLOBAL_INDEX), 1,
            &config->number);
    put_notes(engine, config);
    put_info(engine, graph, config);
    engine->final = true;
    return engine;
}

struct dnn_object *dnn_config_object(struct dnn_object *graph,
                                     const struct dnn_config *config)
{
    struct dnn_object *engine = new_engine(graph, config);
    struct dnn_object *object = dnn_new(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    dnn_put(object, dnn_field(object->type, CUDNN_ATTR_ENGINECFG_ENGINE), 1, &engine);
    dnn_put(object, dnn_field(object->type, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE), 1,
            &config->workspace);
    put_info(object, graph, config);
    object->final = true;
    dnn_drop(engine);
    return object;
}

static cudnnStatus_t check_heuristics(struct dnn_object *object)
{
    struct dnn_object *graph =
        dnn_child(object, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, 0);
    const struct cudaDeviceProp *device = sim_properties(dnn_device(object));
    if (!device) return wrong(object, "no device");
    struct dnn_config configs[DNN_CONFIGS];
    const int count = dnn_configs(
        graph->info, device,
        (cudnnBackendHeurMode_t)dnn_int(object, CUDNN_ATTR_ENGINEHEUR_MODE, 0),
        configs);
    struct dnn_object *objects[DNN_CONFIGS];
    for (int i = 0; i < count; i++) objects[i] = dnn_config_object(graph, &configs[i]);
    dnn_put(object, dnn_field(object->type, CUDNN_ATTR_ENGINEHEUR_RESULTS), count,
            objects);
    for (int i = 0; i < count; i++) dnn_drop(objects[i]);
    return CUDNN_STATUS_SUCCESS;
}

/* What heuristics return is read, and never made by hand. */
static cudnnStatus_t check_read_only(struct dnn_object *object)
{
    return wrong(object, "made by hand, which is not simulated");
}

static cudnnStatus_t check_pack(struct dnn_object *object)
{
    const struct dnn_attribute *ids =
        dnn_find(object, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const int64_t *uids = ids->values;
    if (ids->count != count_of(object, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS))
        return wrong(object, "as many pointers as numbers are expected");
    for (int64_t i = 0; i < ids->count; i++)
        for (int64_t k = 0; k < i; k++)
            if (uids[i] == uids[k]) return wrong(object, "a number twice");
    return CUDNN_STATUS_SUCCESS;
}

/* ---- By type --------------------------------------------------------------------- */

static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnStatus_t (*check)(struct dnn_object *object);
} checks[] = {
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, check_tensor},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, check_convolution},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, check_convolve},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, check_convolve},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, check_convolve},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, check_pointwise},
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, dnn_graph_make},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, check_heuristics},
    {CUDNN_BACKEND_ENGINE_DESCRIPTOR, check_read_only},
    {CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, check_read_only},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, dnn_plan_finalize},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, check_pack},
};

cudnnStatus_t dnn_check(struct dnn_object *object)
{
    const cudnnStatus_t status = check_required(object);
    if (status) return status;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (checks[i].type == object->type) return checks[i].check(object);
    return CUDNN_STATUS_SUCCESS;
}
