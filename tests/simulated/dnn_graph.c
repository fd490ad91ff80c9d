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
    case CUDNN_DATA_INT32:
        return 4;
    case CUDNN_DATA_HALF:
    case CUDNN_DATA_BFLOAT16:
        return 2;
    case CUDNN_DATA_INT8:
    case CUDNN_DATA_UINT8:
    case CUDNN_DATA_BOOLEAN:
        return 1;
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

/* ---- Operations ------------------------------------------------------------------ */

/* Which attributes hold an operation's tensors and its descriptor; 0 pads, which is no
 * tensor's. */
static const struct shape {
    cudnnBackendDescriptorType_t type;
    enum dnn_kind kind;
    cudnnBackendAttributeName_t in[4], out[2], how;
} shapes[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     DNN_CONV_FORWARD,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W},
     {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     DNN_CONV_DATA,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W},
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX},
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     DNN_CONV_WEIGHTS,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW},
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
     DNN_MATMUL,
     {CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC},
     {CUDNN_ATTR_OPERATION_MATMUL_CDESC},
     CUDNN_ATTR_OPERATION_MATMUL_DESC},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
     DNN_POINTWISE,
     {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
      CUDNN_ATTR_OPERATION_POINTWISE_TDESC, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC},
     {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC},
     CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
     DNN_REDUCTION,
     {CUDNN_ATTR_OPERATION_REDUCTION_XDESC},
     {CUDNN_ATTR_OPERATION_REDUCTION_YDESC},
     CUDNN_ATTR_OPERATION_REDUCTION_DESC},
    {CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR,
     DNN_POOL,
     {CUDNN_ATTR_OPERATION_RESAMPLE_FWD_XDESC},
     {CUDNN_ATTR_OPERATION_RESAMPLE_FWD_YDESC,
      CUDNN_ATTR_OPERATION_RESAMPLE_FWD_IDXDESC},
     CUDNN_ATTR_OPERATION_RESAMPLE_FWD_DESC},
    {CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR,
     DNN_UNPOOL,
     {CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DYDESC,
      CUDNN_ATTR_OPERATION_RESAMPLE_BWD_IDXDESC,
      CUDNN_ATTR_OPERATION_RESAMPLE_BWD_XDESC, CUDNN_ATTR_OPERATION_RESAMPLE_BWD_YDESC},
     {CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DXDESC},
     CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DESC},
    {CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR,
     DNN_STATISTICS,
     {CUDNN_ATTR_OPERATION_GENSTATS_XDESC},
     {CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC},
     0},
};

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

static void read_pairs(struct dnn_op *op, const struct dnn_object *how)
{
    static const struct {
        cudnnBackendAttributeName_t conv, resample;
        size_t at;
    } pairs[] = {
        {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_RESAMPLE_PRE_PADDINGS,
         offsetof(struct dnn_op, pad)},
        {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_ATTR_RESAMPLE_POST_PADDINGS,
         offsetof(struct dnn_op, post)},
        {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_ATTR_RESAMPLE_STRIDES,
         offsetof(struct dnn_op, stride)},
        {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_RESAMPLE_WINDOW_DIMS,
         offsetof(struct dnn_op, dilation)},
    };
    const bool resample = op->kind == DNN_POOL || op->kind == DNN_UNPOOL;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const struct dnn_attribute *at =
            dnn_find(how, resample ? pairs[i].resample : pairs[i].conv);
        int64_t *out = (int64_t *)((char *)op + pairs[i].at);
        for (int k = 0; at && k < 2; k++)
            out[k] = resample ? ((const cudnnFraction_t *)at->values)[k].numerator
                              : ((const int64_t *)at->values)[k];
    }
    if (resample) memcpy(op->window, op->dilation, sizeof op->window);
}

static void read_numbers(struct dnn_op *op, const struct dnn_object *object,
                         const struct dnn_object *how)
{
    static const cudnnBackendAttributeName_t alphas[] = {
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
        CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1};
    static const cudnnBackendAttributeName_t betas[] = {
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    op->alpha = op->alpha2 = 1;
    for (size_t i = 0; i < sizeof alphas / sizeof *alphas; i++)
        op->alpha = dnn_double(object, alphas[i], op->alpha);
    for (size_t i = 0; i < sizeof betas / sizeof *betas; i++)
        op->beta = dnn_double(object, betas[i], op->beta);
    op->alpha2 = dnn_double(object, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, 1);
    op->lower = dnn_double(how, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, 0);
    op->upper = dnn_double(how, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, 1e300);
    op->mode = (int)dnn_int(how, CUDNN_ATTR_POINTWISE_MODE,
                            dnn_int(how, CUDNN_ATTR_REDUCTION_OPERATOR,
                                    dnn_int(how, CUDNN_ATTR_RESAMPLE_MODE, 0)));
    op->backward = op->kind == DNN_POINTWISE && op->mode / 100 == 2;
    op->keeps_nan = dnn_int(how, CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, 0) ||
                    dnn_int(how, CUDNN_ATTR_RESAMPLE_NAN_PROPAGATION, 0);
}

/* False: a tensor's number is used twice, for different ones. */
static bool read_op(struct dnn_graph *graph, const struct dnn_object *object)
{
    size_t i = 0;
    while (i < sizeof shapes / sizeof *shapes && shapes[i].type != object->type) i++;
    if (i == sizeof shapes / sizeof *shapes) return false;
    struct dnn_op *op = &graph->ops[graph->op_count++];
    op->kind = shapes[i].kind;
    bool fits = true;
    for (int k = 0; k < 4; k++) {
        const struct dnn_object *t =
            shapes[i].in[k] ? dnn_child(object, shapes[i].in[k], 0) : NULL;
        op->in[k] = t ? place(graph, t) : -1;
        fits = fits && (!t || op->in[k] >= 0);
    }
    for (int k = 0; k < 2; k++) {
        const struct dnn_object *t =
            shapes[i].out[k] ? dnn_child(object, shapes[i].out[k], 0) : NULL;
        op->out[k] = t ? place(graph, t) : -1;
        fits = fits && (!t || op->out[k] >= 0);
    }
    const struct dnn_object *how = dnn_child(object, shapes[i].how, 0);
    read_numbers(op, object, how);
    read_pairs(op, how);
    return fits;
}

/* ---- Order ----------------------------------------------------------------------- */

static int writer_of(const struct dnn_graph *graph, int tensor)
{
    int writer = -1;
    for (int i = 0; i < graph->op_count; i++)
        for (int k = 0; k < 2; k++)
            if (graph->ops[i].out[k] == tensor) writer = writer < 0 ? i : DNN_OPS;
    return writer; /* DNN_OPS: several */
}

bool dnn_is_input(const struct dnn_graph *graph, int tensor)
{
    return writer_of(graph, tensor) < 0;
}

/* Every virtual tensor is written once and read, every tensor written at most once. */
static const char *find_loose(const struct dnn_graph *graph)
{
    for (int t = 0; t < graph->tensor_count; t++) {
        const int writer = writer_of(graph, t);
        bool read = false;
        for (int i = 0; i < graph->op_count; i++)
            for (int k = 0; k < 4; k++) read = read || graph->ops[i].in[k] == t;
        if (writer == DNN_OPS) return "a tensor is written by two operations";
        if (graph->tensors[t].is_virtual && writer < 0)
            return "a virtual tensor is never written";
        if (graph->tensors[t].is_virtual && !read)
            return "a virtual tensor is never read";
    }
    return NULL;
}

/* Operations so that each comes after those that it reads from; false: a circle. */
static bool sort(struct dnn_graph *graph)
{
    struct dnn_op sorted[DNN_OPS];
    bool placed[DNN_OPS] = {false};
    int count = 0;
    for (int round = 0; round < graph->op_count; round++)
        for (int i = 0; i < graph->op_count; i++) {
            bool ready = !placed[i];
            for (int k = 0; k < 4; k++) {
                const int in = graph->ops[i].in[k];
                const int writer = in < 0 ? -1 : writer_of(graph, in);
                ready = ready && (writer < 0 || placed[writer]);
            }
            if (!ready) continue;
            placed[i] = true;
            memcpy(&sorted[count++], &graph->ops[i], sizeof *sorted);
        }
    if (count < graph->op_count) return false;
    memcpy(graph->ops, sorted, (size_t)count * sizeof *sorted);
    return true;
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
    const char *what = NULL;
    for (int64_t i = 0; !what && i < ops->count; i++)
        if (!read_op(graph, ((struct dnn_object **)ops->values)[i]))
            what = "one number for two tensors, or no operation";
    if (!what) what = find_loose(graph);
    if (!what && !sort(graph)) what = "operations in a circle";
    if (what) {
        free(graph);
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM,
                              "cudnnBackendFinalize: operation graph: %s", what);
    }
    graph->sum = sum_of(graph);
    object->info = graph;
    return CUDNN_STATUS_SUCCESS;
}
