/* SPDX-License-Identifier: Apache-2.0 */
/* From cuDNN operations to a graph: tensors are the same where their numbers are. */
#include "dnn.h"

void dnn_tensor_read(const struct dnn_object *object, struct dnn_tensor *tensor)
{
    const struct dnn_attribute *dims = dnn_find(object, CUDNN_ATTR_TENSOR_DIMENSIONS);
    const struct dnn_attribute *strides = dnn_find(object, CUDNN_ATTR_TENSOR_STRIDES);
    memset(tensor, 0, sizeof *tensor);
    tensor->uid = dnn_int(object, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
    tensor->align = dnn_int(object, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1);
    tensor->axes = (int)dims->count;
    tensor->type = (cudnnDataType_t)dnn_int(object, CUDNN_ATTR_TENSOR_DATA_TYPE, 0);
    tensor->is_virtual = dnn_int(object, CUDNN_ATTR_TENSOR_IS_VIRTUAL, 0) != 0;
    memcpy(tensor->dims, dims->values, (size_t)dims->count * sizeof *tensor->dims);
    memcpy(tensor->strides, strides->values,
           (size_t)dims->count * sizeof *tensor->strides);
}

size_t dnn_element_size(cudnnDataType_t type)
{
    switch (type) {
    case CUDNN_DATA_FLOAT:
        return 4;
    case CUDNN_DATA_BFLOAT16:
        return 2;
    default:
        return 0;
    }
}

int64_t dnn_elements(const struct dnn_tensor *tensor)
{
    int64_t count = 1;
    for (int i = 0; i < tensor->axes; i++) count *= tensor->dims[i];
    return count;
}

size_t dnn_extent(const struct dnn_tensor *tensor)
{
    int64_t last = 0;
    for (int i = 0; i < tensor->axes; i++)
        last += (tensor->dims[i] - 1) * tensor->strides[i];
    return (size_t)(last + 1) * dnn_element_size(tensor->type);
}

/* In place of a function, so that each fault keeps its own place (site.h). */
#define wrong_graph(what)                                                              \
    sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM,                                             \
                   "cudnnBackendFinalize: operation graph: %s", what)

/* ---- Operations ------------------------------------------------------------------ */

/* Which attributes hold an operation's tensors and its descriptor. */
static const struct shape {
    cudnnBackendDescriptorType_t type;
    enum dnn_kind kind;
    cudnnBackendAttributeName_t in[2], out, how;
} shapes[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     DNN_CONV_FORWARD,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W},
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     DNN_CONV_DATA,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W},
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     DNN_CONV_WEIGHTS,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
     DNN_POINTWISE,
     {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC},
     CUDNN_ATTR_OPERATION_POINTWISE_YDESC,
     CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR},
};
/* And of a pointwise operation's backward. */
static const struct shape backward = {
    CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
    DNN_POINTWISE,
    {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC},
    CUDNN_ATTR_OPERATION_POINTWISE_DXDESC,
    CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR};

static bool same(const struct dnn_tensor *a, const struct dnn_tensor *b)
{
    return a->axes == b->axes && a->type == b->type && a->align == b->align &&
           a->is_virtual == b->is_virtual &&
           memcmp(a->dims, b->dims, sizeof a->dims) == 0 &&
           memcmp(a->strides, b->strides, sizeof a->strides) == 0;
}

/* The tensor's place in the graph's list; -1: its number is another tensor's, or the
 * list is full. */
static int place(struct dnn_graph *graph, const struct dnn_object *object)
{
    struct dnn_tensor tensor;
    dnn_tensor_read(object, &tensor);
    for (int i = 0; i < graph->tensor_count; i++)
        if (graph->tensors[i].uid == tensor.uid)
            return same(&graph->tensors[i], &tensor) ? i : -1;
    if (graph->tensor_count == DNN_TENSORS) return -1;
    memcpy(&graph->tensors[graph->tensor_count], &tensor, sizeof tensor);
    return graph->tensor_count++;
}

static void read_convolution(struct dnn_op *op, const struct dnn_object *how)
{
    static const struct {
        cudnnBackendAttributeName_t name;
        size_t at;
    } pairs[] = {
        {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, offsetof(struct dnn_op, pad)},
        {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, offsetof(struct dnn_op, stride)},
        {CUDNN_ATTR_CONVOLUTION_DILATIONS, offsetof(struct dnn_op, dilation)},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        memcpy((char *)op + pairs[i].at, dnn_find(how, pairs[i].name)->values,
               sizeof op->pad);
}

static void read_numbers(struct dnn_op *op, const struct dnn_object *object)
{
    static const cudnnBackendAttributeName_t alphas[] = {
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA};
    static const cudnnBackendAttributeName_t betas[] = {
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    op->alpha = 1;
    for (size_t i = 0; i < sizeof alphas / sizeof *alphas; i++)
        op->alpha = dnn_float(object, alphas[i], op->alpha);
    for (size_t i = 0; i < sizeof betas / sizeof *betas; i++)
        op->beta = dnn_float(object, betas[i], op->beta);
}

/* NULL: it is no operation. */
static const struct shape *shape_of(const struct dnn_object *object)
{
    size_t i = 0;
    while (i < sizeof shapes / sizeof *shapes && shapes[i].type != object->type) i++;
    if (i == sizeof shapes / sizeof *shapes) return NULL;
    const struct dnn_object *how = dnn_child(object, shapes[i].how, 0);
    const bool back = dnn_int(how, CUDNN_ATTR_POINTWISE_MODE, 0) / 100 == 2;
    return back ? &backward : &shapes[i];
}

static cudnnStatus_t read_op(struct dnn_graph *graph, const struct dnn_object *object)
{
    const struct shape *shape = shape_of(object);
    if (!shape) return wrong_graph("a descriptor that is no operation");
    const struct dnn_object *how = dnn_child(object, shape->how, 0);
    struct dnn_op *op = &graph->ops[graph->op_count++];
    op->kind = shape->kind;
    const cudnnBackendAttributeName_t names[] = {shape->in[0], shape->in[1],
                                                 shape->out};
    int *const places[] = {&op->in[0], &op->in[1], &op->out};
    for (int k = 0; k < 3; k++) {
        const struct dnn_object *t = dnn_child(object, names[k], 0);
        *places[k] = t ? place(graph, t) : -1;
        if (t && *places[k] < 0) return wrong_graph("one number for two tensors");
    }
    if (op->kind == DNN_POINTWISE)
        op->mode = (int)dnn_int(how, CUDNN_ATTR_POINTWISE_MODE, 0);
    else
        read_convolution(op, how);
    read_numbers(op, object);
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Order ----------------------------------------------------------------------- */

static int writer_of(const struct dnn_graph *graph, int tensor)
{
    int writer = -1;
    for (int i = 0; i < graph->op_count; i++)
        if (graph->ops[i].out == tensor) writer = writer < 0 ? i : DNN_OPS;
    return writer; /* DNN_OPS: several */
}

bool dnn_is_input(const struct dnn_graph *graph, int tensor)
{
    return writer_of(graph, tensor) < 0;
}

static bool is_read(const struct dnn_graph *graph, int tensor)
{
    for (int i = 0; i < graph->op_count; i++)
        for (int k = 0; k < 2; k++)
            if (graph->ops[i].in[k] == tensor) return true;
    return false;
}

/* Every virtual tensor is written once and read, every tensor written at most once. */
static cudnnStatus_t find_loose(const struct dnn_graph *graph)
{
    for (int t = 0; t < graph->tensor_count; t++) {
        const int writer = writer_of(graph, t);
        if (writer == DNN_OPS)
            return wrong_graph("a tensor is written by two operations");
        if (graph->tensors[t].is_virtual && writer < 0)
            return wrong_graph("a virtual tensor is never written");
        if (graph->tensors[t].is_virtual && !is_read(graph, t))
            return wrong_graph("a virtual tensor is never read");
    }
    return CUDNN_STATUS_SUCCESS;
}

/* Operations so that each comes after those that it reads from. */
static cudnnStatus_t sort(struct dnn_graph *graph)
{
    struct dnn_op sorted[DNN_OPS];
    bool placed[DNN_OPS] = {false};
    int count = 0;
    for (int round = 0; round < graph->op_count; round++)
        for (int i = 0; i < graph->op_count; i++) {
            bool ready = !placed[i];
            for (int k = 0; k < 2; k++) {
                const int in = graph->ops[i].in[k];
                const int writer = in < 0 ? -1 : writer_of(graph, in);
                ready = ready && (writer < 0 || placed[writer]);
            }
            if (!ready) continue;
            placed[i] = true;
            memcpy(&sorted[count++], &graph->ops[i], sizeof *sorted);
        }
    if (count < graph->op_count) return wrong_graph("operations in a circle");
    memcpy(graph->ops, sorted, (size_t)count * sizeof *sorted);
    return CUDNN_STATUS_SUCCESS;
}

/* All of a graph was cleared before it was filled in, padding included. */
static uint64_t sum_of(const struct dnn_graph *graph)
{
    return sim_hash_bytes(0, graph, sizeof *graph);
}

cudnnStatus_t dnn_graph_make(struct dnn_object *object)
{
    const struct dnn_attribute *ops = dnn_find(object, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    struct dnn_graph *graph = sim_new(sizeof *graph);
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; !status && i < ops->count; i++)
        status = read_op(graph, ((struct dnn_object **)ops->values)[i]);
    if (!status) status = find_loose(graph);
    if (!status) status = sort(graph);
    if (status) {
        free(graph);
        return status;
    }
    graph->sum = sum_of(graph);
    object->info = graph;
    return CUDNN_STATUS_SUCCESS;
}
