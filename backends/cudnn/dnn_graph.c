/* SPDX-License-Identifier: Apache-2.0 */
/* From a convolution problem to cuDNN's operation graph.
 *
 * Descriptors are made in one list and given back together once the graph is there. An
 * error anywhere leaves `failed` set and makes what follows do nothing. */
#include "cudnn/dnn.h"

#define MOST     24 /* descriptors of a graph */
#define MOST_OPS 3

struct builder {
    const struct vgg__api *api;
    cudnnBackendDescriptor_t made[MOST];
    uint32_t count;
    bool failed;
    int64_t next_uid; /* of virtual tensors */
};

static cudnnBackendDescriptor_t make(struct builder *b,
                                     cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    if (b->failed || b->count == MOST ||
        b->api->dnnCreateDescriptor(type, &d) != CUDNN_STATUS_SUCCESS) {
        b->failed = true;
        return NULL;
    }
    b->made[b->count++] = d;
    return d;
}

static void set(struct builder *b, cudnnBackendDescriptor_t d,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *values)
{
    if (b->failed) return;
    b->failed =
        b->api->dnnSetAttribute(d, name, type, count, values) != CUDNN_STATUS_SUCCESS;
}

static void set_descriptor(struct builder *b, cudnnBackendDescriptor_t d,
                           cudnnBackendAttributeName_t name,
                           cudnnBackendDescriptor_t value)
{
    set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static cudnnBackendDescriptor_t finish(struct builder *b, cudnnBackendDescriptor_t d)
{
    if (!b->failed) b->failed = b->api->dnnFinalize(d) != CUDNN_STATUS_SUCCESS;
    return d;
}

/* ---- Tensors --------------------------------------------------------------------- */

struct shape {
    int64_t n, c, h, w;
};

/* uid VGG__DNN_VIRTUAL: a value that exists only within the graph. */
static cudnnBackendDescriptor_t tensor(struct builder *b, int64_t uid,
                                       cudnnDataType_t type, struct shape s)
{
    const int64_t dims[4] = {s.n, s.c, s.h, s.w};
    const int64_t strides[4] = {s.c * s.h * s.w, 1, s.w * s.c, s.c};
    const int64_t alignment = 16;
    const bool is_virtual = uid == VGG__DNN_VIRTUAL;
    if (is_virtual) uid = b->next_uid++;
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(b, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    return finish(b, d);
}

static cudnnDataType_t data_type(enum vgg__type type)
{
    return type == VGG__BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/* ---- Operations ------------------------------------------------------------------ */

static cudnnBackendDescriptor_t convolution(struct builder *b, uint32_t kernel)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t axes = 2, pad[2] = {kernel / 2, kernel / 2}, one[2] = {1, 1};
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    set(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, one);
    set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, one);
    return finish(b, d);
}

/* The attributes of the three convolution operations, in the order of vgg__dnn_what:
 * the two inputs, the output and the rest. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t first, second, out, convolution, alpha, beta;
} operations[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

struct operands {
    cudnnBackendDescriptor_t first, second, out;
};

static cudnnBackendDescriptor_t
convolve(struct builder *b, const struct vgg__dnn_problem *p, struct operands io)
{
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t how = convolution(b, p->kernel);
    cudnnBackendDescriptor_t d = make(b, operations[p->what].type);
    set_descriptor(b, d, operations[p->what].first, io.first);
    set_descriptor(b, d, operations[p->what].second, io.second);
    set_descriptor(b, d, operations[p->what].out, io.out);
    set_descriptor(b, d, operations[p->what].convolution, how);
    set(b, d, operations[p->what].alpha, CUDNN_TYPE_FLOAT, 1, &one);
    set(b, d, operations[p->what].beta, CUDNN_TYPE_FLOAT, 1, &zero);
    return finish(b, d);
}

static cudnnBackendDescriptor_t pointwise_mode(struct builder *b,
                                               cudnnPointwiseMode_t mode)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    return finish(b, d);
}

/* out = mode(first[, second]) */
static cudnnBackendDescriptor_t pointwise(struct builder *b, cudnnPointwiseMode_t mode,
                                          struct operands io)
{
    cudnnBackendDescriptor_t how = pointwise_mode(b, mode);
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, io.first);
    if (io.second != NULL)
        set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, io.second);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, io.out);
    return finish(b, d);
}

/* out = second > 0 ? first : 0 */
static cudnnBackendDescriptor_t relu_backward(struct builder *b, struct operands io)
{
    cudnnBackendDescriptor_t how = pointwise_mode(b, CUDNN_POINTWISE_RELU_BWD);
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, io.first);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, io.second);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, io.out);
    return finish(b, d);
}

/* ---- Problems -------------------------------------------------------------------- */

static struct shape input_of(const struct vgg__dnn_problem *p)
{
    return (struct shape){p->n, p->ic, p->h, p->w};
}

static struct shape output_of(const struct vgg__dnn_problem *p)
{
    return (struct shape){p->n, p->oc, p->h, p->w};
}

static struct shape weights_of(const struct vgg__dnn_problem *p)
{
    return (struct shape){p->oc, p->ic, p->kernel, p->kernel};
}

static cudnnBackendDescriptor_t inner(struct builder *b, struct shape shape)
{
    return tensor(b, VGG__DNN_VIRTUAL, CUDNN_DATA_FLOAT, shape);
}

/* Each writes its operations and returns how many. */
static uint32_t forward(struct builder *b, const struct vgg__dnn_problem *p,
                        cudnnBackendDescriptor_t ops[MOST_OPS])
{
    const cudnnDataType_t type = data_type(p->type);
    const struct shape shape = output_of(p);
    struct operands io = {tensor(b, VGG__DNN_X, type, input_of(p)),
                          tensor(b, VGG__DNN_W, type, weights_of(p)), NULL};
    cudnnBackendDescriptor_t out = tensor(b, VGG__DNN_OUT, type, shape);
    io.out = p->bias_relu ? inner(b, shape) : out;
    ops[0] = convolve(b, p, io);
    if (!p->bias_relu) return 1;
    const struct shape row = {1, p->oc, 1, 1};
    const struct operands add = {io.out, tensor(b, VGG__DNN_BIAS, type, row),
                                 inner(b, shape)};
    ops[1] = pointwise(b, CUDNN_POINTWISE_ADD, add);
    ops[2] =
        pointwise(b, CUDNN_POINTWISE_RELU_FWD, (struct operands){add.out, NULL, out});
    return 3;
}

static uint32_t data(struct builder *b, const struct vgg__dnn_problem *p,
                     cudnnBackendDescriptor_t ops[MOST_OPS])
{
    const cudnnDataType_t type = data_type(p->type);
    struct operands io = {tensor(b, VGG__DNN_DY, type, output_of(p)),
                          tensor(b, VGG__DNN_W, type, weights_of(p)), NULL};
    cudnnBackendDescriptor_t out = tensor(b, VGG__DNN_OUT, type, input_of(p));
    io.out = p->mask ? inner(b, input_of(p)) : out;
    ops[0] = convolve(b, p, io);
    if (!p->mask) return 1;
    const struct operands mask = {io.out, tensor(b, VGG__DNN_MASK, type, input_of(p)),
                                  out};
    ops[1] = relu_backward(b, mask);
    return 2;
}

static uint32_t weights(struct builder *b, const struct vgg__dnn_problem *p,
                        cudnnBackendDescriptor_t ops[MOST_OPS])
{
    const cudnnDataType_t type = data_type(p->type);
    const bool widen = p->single_out && p->type != VGG__F32;
    struct operands io = {tensor(b, VGG__DNN_X, type, input_of(p)),
                          tensor(b, VGG__DNN_DY, type, output_of(p)), NULL};
    cudnnBackendDescriptor_t out =
        tensor(b, VGG__DNN_OUT, widen ? CUDNN_DATA_FLOAT : type, weights_of(p));
    io.out = widen ? inner(b, weights_of(p)) : out;
    ops[0] = convolve(b, p, io);
    if (!widen) return 1;
    ops[1] =
        pointwise(b, CUDNN_POINTWISE_IDENTITY, (struct operands){io.out, NULL, out});
    return 2;
}

cudnnBackendDescriptor_t vgg__dnn_graph(const struct vgg__dnn_target *target,
                                        const struct vgg__dnn_problem *problem)
{
    static uint32_t (*const builders[])(struct builder *,
                                        const struct vgg__dnn_problem *,
                                        cudnnBackendDescriptor_t ops[MOST_OPS]) = {
        [VGG__DNN_FORWARD] = forward,
        [VGG__DNN_DATA] = data,
        [VGG__DNN_WEIGHTS] = weights,
    };
    struct builder b = {.api = target->api, .next_uid = VGG__DNN_VIRTUAL};
    cudnnBackendDescriptor_t ops[MOST_OPS] = {NULL};
    const uint32_t count = builders[problem->what](&b, problem, ops);
    cudnnBackendDescriptor_t graph = make(&b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (target->handle != NULL)
        set(&b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1,
            &target->handle);
    set(&b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
        ops);
    finish(&b, graph);
    const uint32_t kept = b.failed ? 0 : 1; /* the graph is the last */
    for (uint32_t i = 0; i + kept < b.count; i++)
        b.api->dnnDestroyDescriptor(b.made[i]);
    return b.failed ? NULL : graph;
}
