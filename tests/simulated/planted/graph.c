/* SPDX-License-Identifier: Apache-2.0 */
/* See graph.h. Sums are of 18 products of integers from -2 to 2, exact in all types. */
#include "graph.h"

enum {
    N = 1,
    C = 2,
    SIDE = 4,
    OC = 4,
    TAPS = 9,
    X = SIDE * SIDE * C,
    W = OC * TAPS * C,
    Y = SIDE * SIDE * OC
};

struct dims shape(int64_t n, int64_t c, int64_t h, int64_t w)
{
    return (struct dims){n, c, h, w};
}

cudnnBackendDescriptor_t make(cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d;
    ck_good(api->dnnCreateDescriptor(type, &d));
    return d;
}

cudnnBackendDescriptor_t finished(cudnnBackendDescriptor_t descriptor)
{
    ck_good(api->dnnFinalize(descriptor));
    return descriptor;
}

void set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
         cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    ck_good(api->dnnSetAttribute(descriptor, name, type, count, values));
}

void set_part(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
              cudnnBackendDescriptor_t part)
{
    set(descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

cudnnBackendDescriptor_t tensor(int64_t uid, cudnnDataType_t type, struct dims s,
                                bool is_virtual)
{
    const int64_t dims[4] = {s.n, s.c, s.h, s.w}, align = 16;
    const int64_t strides[4] = {s.c * s.h * s.w, 1, s.c * s.w, s.c};
    cudnnBackendDescriptor_t d = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    return finished(d);
}

void set_convolution(cudnnBackendDescriptor_t d, int64_t padding)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t axes = 2, pad[2] = {padding, padding}, one[2] = {1, 1};
    set(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    set(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, one);
    set(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, one);
}

cudnnBackendDescriptor_t convolution(int64_t padding)
{
    cudnnBackendDescriptor_t d = make(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_convolution(d, padding);
    return finished(d);
}

cudnnBackendDescriptor_t forward(cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                 cudnnBackendDescriptor_t y)
{
    cudnnBackendDescriptor_t d =
        make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    set_part(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    set_part(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    set_part(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    set_part(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution(1));
    return d;
}

cudnnBackendDescriptor_t pointwise(cudnnPointwiseMode_t mode,
                                   cudnnBackendDescriptor_t x,
                                   cudnnBackendDescriptor_t b,
                                   cudnnBackendDescriptor_t y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t how = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    cudnnBackendDescriptor_t d = make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_part(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, finished(how));
    set_part(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b) set_part(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    set_part(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    return d;
}

cudnnStatus_t finish_graph(const cudnnBackendDescriptor_t *ops, int64_t count,
                           cudnnBackendDescriptor_t *graph)
{
    *graph = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(*graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
        ops);
    return api->dnnFinalize(*graph);
}

/* ---- One convolution ------------------------------------------------------------- */

static float number(int i)
{
    return (float)((i * 7 + i / 3) % 5 - 2);
}

static void upload(struct convolution_graph *g, void *to, int count)
{
    float values[W > Y ? W : Y];
    uint16_t *halves = (uint16_t *)values;
    for (int i = 0; i < count; i++) values[i] = number(i);
    if (g->type == CUDNN_DATA_BFLOAT16)
        for (int i = 0; i < count; i++) {
            uint32_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            halves[i] = (uint16_t)(bits >> 16); /* exact: a small integer */
        }
    put_floats(to, values,
               g->type == CUDNN_DATA_BFLOAT16 ? (size_t)count / 2 : (size_t)count,
               g->stream);
}

static void list_configs(struct convolution_graph *g)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    int64_t count = 0;
    cudnnBackendDescriptor_t h = make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_part(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g->graph);
    set(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    finished(h);
    for (int i = 0; i < MOST_PLANS; i++)
        g->configs[i] = make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    ck_good(api->dnnGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST_PLANS, &count,
                                 g->configs));
    g->config_count = (int)count;
}

cudnnBackendDescriptor_t unfinished_plan(const struct convolution_graph *g, int config)
{
    cudnnBackendDescriptor_t plan = make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set_part(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, g->configs[config]);
    set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->handle);
    return plan;
}

static int64_t need_of(cudnnBackendDescriptor_t plan)
{
    int64_t count, need = -1;
    ck_good(api->dnnGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                 CUDNN_TYPE_INT64, 1, &count, &need));
    return need;
}

/* Those that can be made and neither want more than 1 MiB nor round beyond the type. */
static void make_plans(struct convolution_graph *g, int spacious)
{
    for (int i = 0; i < g->config_count; i++) {
        cudnnBackendDescriptor_t plan = unfinished_plan(g, i);
        if (api->dnnFinalize(plan) != CUDNN_STATUS_SUCCESS) continue;
        const int64_t need = need_of(plan);
        if (need > 1 << 20) continue;
        g->plans[g->plan_count++] = plan;
        if (g->plan || (need > 0) != spacious) continue;
        g->plan = plan;
        g->need = need;
    }
}

void convolution_begin(struct convolution_graph *g, cudnnDataType_t type, int spacious)
{
    *g = (struct convolution_graph){.stream = new_stream(),
                                    .type = type,
                                    .x = new_memory(512),
                                    .w = new_memory(512),
                                    .y = new_memory(256),
                                    .workspace = new_memory(1 << 20),
                                    .uids = {1, 2, 3},
                                    .count = 3};
    memcpy(g->pointers, (void *[]){g->x, g->w, g->y}, sizeof g->pointers);
    ck_good(api->dnnCreate(&g->handle));
    ck_good(api->dnnSetStream(g->handle, g->stream));
    upload(g, g->x, X);
    upload(g, g->w, W);
    cudnnBackendDescriptor_t op =
        finished(forward(tensor(1, type, shape(N, C, SIDE, SIDE), false),
                         tensor(2, type, shape(OC, C, 3, 3), false),
                         tensor(3, type, shape(N, OC, SIDE, SIDE), false)));
    ck_good(finish_graph(&op, 1, &g->graph));
    list_configs(g);
    make_plans(g, spacious);
}

cudnnStatus_t load_plan(struct convolution_graph *g, const char *json, int64_t size)
{
    cudnnBackendDescriptor_t plan = make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->handle);
    cudnnStatus_t status =
        api->dnnSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                             CUDNN_TYPE_CHAR, size, json);
    if (!status) status = api->dnnFinalize(plan);
    if (!status) g->plan = plan;
    return status;
}

cudnnStatus_t convolution_run(struct convolution_graph *g)
{
    cudnnBackendDescriptor_t pack = make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, g->count, g->uids);
    set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, g->count,
        g->pointers);
    set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &g->workspace);
    finished(pack);
    const cudnnStatus_t status = api->dnnExecute(g->handle, g->plan, pack);
    ck_good(api->dnnDestroyDescriptor(pack));
    return status;
}

void convolution_expected(const struct convolution_graph *g, float y[Y])
{
    (void)g;
    for (int i = 0; i < Y; i++) {
        const int h = i / OC / SIDE, w = i / OC % SIDE, oc = i % OC;
        y[i] = 0;
        for (int tap = 0; tap < TAPS; tap++) {
            const int row = h + tap / 3 - 1, column = w + tap % 3 - 1;
            if (row < 0 || column < 0 || row >= SIDE || column >= SIDE) continue;
            for (int c = 0; c < C; c++)
                y[i] += number((row * SIDE + column) * C + c) *
                        number((oc * TAPS + tap) * C + c);
        }
    }
}

void convolution_check(struct convolution_graph *g)
{
    float want[Y], got[Y];
    convolution_expected(g, want);
    if (g->type == CUDNN_DATA_BFLOAT16) {
        uint16_t halves[Y];
        get_floats(g->y, (float *)halves, Y / 2, g->stream);
        for (int i = 0; i < Y; i++) {
            const uint32_t bits = (uint32_t)halves[i] << 16;
            memcpy(&got[i], &bits, sizeof bits);
        }
    } else {
        get_floats(g->y, got, Y, g->stream);
    }
    for (int i = 0; i < Y; i++) ck_assert_float_eq(got[i], want[i]);
}

/* [oc][taps][ic] to [oc][ic][taps] */
void convolution_transpose_weights(struct convolution_graph *g)
{
    float turned[W];
    for (int oc = 0; oc < OC; oc++)
        for (int tap = 0; tap < TAPS; tap++)
            for (int c = 0; c < C; c++)
                turned[(oc * C + c) * TAPS + tap] = number((oc * TAPS + tap) * C + c);
    put_floats(g->w, turned, W, g->stream);
}
