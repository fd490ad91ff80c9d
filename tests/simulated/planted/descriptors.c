/* SPDX-License-Identifier: Apache-2.0 */
/* Faults with cuDNN's descriptors: attributes, values, shapes, graphs. */
#include "graph.h"
#include "harness.h"

/* ---- Attributes ------------------------------------------------------------------ */

START_TEST(attributes)
{
    const int64_t values[8] = {1, 2, 3, 4};
    const float real = 1;
    int64_t count = 0, got[8];
    cudnnBackendDescriptor_t t = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    ck_refused(api->dnnSetAttribute(t, CUDNN_ATTR_CONVOLUTION_DILATIONS,
                                    CUDNN_TYPE_INT64, 2, values),
               CUDNN_STATUS_BAD_PARAM, "tensor has no attribute 102");
    ck_refused(api->dnnSetAttribute(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_FLOAT,
                                    1, &real),
               CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "of type 3, not 4");
    ck_refused(api->dnnSetAttribute(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 2,
                                    values),
               CUDNN_STATUS_BAD_PARAM, "2 elements");
    ck_refused(
        api->dnnSetAttribute(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, NULL),
        CUDNN_STATUS_BAD_PARAM, "NULL");
    ck_refused(api->dnnFinalize(t), CUDNN_STATUS_BAD_PARAM, "has no attribute 906");
    ck_refused(api->dnnGetAttribute(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1,
                                    &count, got),
               CUDNN_STATUS_NOT_INITIALIZED, "not finalised");
    ck_refused(api->dnnSetAttribute(NULL, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64,
                                    1, values),
               CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no descriptor");
    t = tensor(1, CUDNN_DATA_FLOAT, shape(1, 2, 3, 4), false);
    ck_refused(api->dnnSetAttribute(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1,
                                    values),
               CUDNN_STATUS_BAD_PARAM, "is finalised");
    ck_refused(api->dnnFinalize(t), CUDNN_STATUS_BAD_PARAM, "finalised already");
    ck_good(api->dnnDestroyDescriptor(t));
    ck_refused(api->dnnDestroyDescriptor(t), CUDNN_STATUS_BAD_PARAM, "no descriptor");
}
END_TEST

START_TEST(unfinished_parts)
{
    cudnnBackendDescriptor_t op =
        make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    cudnnBackendDescriptor_t raw = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    cudnnBackendDescriptor_t how = convolution(1);
    ck_refused(api->dnnSetAttribute(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw),
               CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "not finalised");
    ck_refused(api->dnnSetAttribute(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &how),
               CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "wrong descriptor");
    ck_refused(api->dnnFinalize(op), CUDNN_STATUS_BAD_PARAM, "has no attribute 704");
}
END_TEST

/* ---- Single descriptors ---------------------------------------------------------- */

/* A value in place of a sound descriptor's; `fragment`: what is said of it. */
static const struct fault {
    cudnnBackendDescriptorType_t of;
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count, values[4];
    const char *fragment;
} faults[] = {
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
     CUDNN_ATTR_TENSOR_STRIDES,
     CUDNN_TYPE_INT64,
     3,
     {1, 1, 1},
     "as many strides as dimensions"},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
     CUDNN_ATTR_TENSOR_DIMENSIONS,
     CUDNN_TYPE_INT64,
     4,
     {1, 2, 0, 4},
     "a dimension or stride below 1"},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
     CUDNN_ATTR_TENSOR_DATA_TYPE,
     CUDNN_TYPE_DATA_TYPE,
     1,
     {CUDNN_DATA_HALF},
     "an unknown data type"},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
     CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT,
     CUDNN_TYPE_INT64,
     1,
     {12},
     "no power of 2"},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,
     CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS,
     CUDNN_TYPE_INT64,
     1,
     {3},
     "other than 2 spatial dimensions"},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,
     CUDNN_ATTR_CONVOLUTION_DILATIONS,
     CUDNN_TYPE_INT64,
     1,
     {1},
     "2 paddings, dilations and strides"},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR,
     CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
     CUDNN_TYPE_INT64,
     3,
     {1, 2, 3},
     "as many pointers as numbers"},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR,
     CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
     CUDNN_TYPE_INT64,
     2,
     {4, 4},
     "a number twice"},
};

static void sound_tensor(cudnnBackendDescriptor_t d)
{
    const int64_t uid = 1, dims[4] = {1, 2, 3, 4}, strides[4] = {24, 1, 8, 2};
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
}

static void sound_pack(cudnnBackendDescriptor_t d)
{
    const int64_t uids[2] = {1, 2};
    void *const pointers[2] = {NULL, NULL};
    set(d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 2, uids);
    set(d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 2, pointers);
}

START_TEST(wrong_value)
{
    const struct fault *fault = &faults[_i];
    for (int planted = 0; planted < 2; planted++) {
        cudnnBackendDescriptor_t d = make(fault->of);
        if (fault->of == CUDNN_BACKEND_TENSOR_DESCRIPTOR) sound_tensor(d);
        if (fault->of == CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR) set_convolution(d, 1);
        if (fault->of == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) sound_pack(d);
        if (planted) set(d, fault->name, fault->type, fault->count, fault->values);
        if (planted)
            ck_refused(api->dnnFinalize(d), CUDNN_STATUS_BAD_PARAM, fault->fragment);
        else
            ck_good(api->dnnFinalize(d));
    }
}
END_TEST

/* Kinds that the engine never makes are not there, or can't be finalised. */
START_TEST(not_simulated)
{
    cudnnBackendDescriptor_t d;
    ck_refused(api->dnnCreateDescriptor(CUDNN_BACKEND_MATMUL_DESCRIPTOR, &d),
               CUDNN_STATUS_NOT_SUPPORTED, "is not simulated");
    d = make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    ck_refused(api->dnnFinalize(d), CUDNN_STATUS_BAD_PARAM, "made by hand");
    cudnnBackendDescriptor_t x = tensor(1, CUDNN_DATA_FLOAT, shape(1, 4, 5, 5), false);
    ck_refused(api->dnnFinalize(pointwise(CUDNN_POINTWISE_MUL, x, x, x)),
               CUDNN_STATUS_BAD_PARAM, "a mode that is not simulated");
}
END_TEST

/* What cuDNN answers is read into descriptors of its kind. */
START_TEST(reading)
{
    struct convolution_graph g;
    int64_t count = 0, number = 0;
    bool is_virtual = false;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    ck_refused(api->dnnGetAttribute(g.configs[0], CUDNN_ATTR_ENGINECFG_ENGINE,
                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                                    &g.configs[0]),
               CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "a wrong descriptor to read");
    cudnnBackendDescriptor_t t = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    sound_tensor(t);
    finished(t);
    ck_refused(api->dnnGetAttribute(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN,
                                    1, &count, &is_virtual),
               CUDNN_STATUS_BAD_PARAM, "was not set");
    ck_refused(api->dnnGetAttribute(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1,
                                    NULL, &number),
               CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "into NULL");
    const int64_t size = 4096;
    ck_refused(api->dnnSetAttribute(unfinished_plan(&g, 0),
                                    CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                    CUDNN_TYPE_INT64, 1, &size),
               CUDNN_STATUS_BAD_PARAM, "can't be set");
    ck_refused(api->dnnFinalize(NULL), CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
               "cudnnBackendFinalize: no descriptor");
}
END_TEST

START_TEST(heuristics_without_a_device)
{
    struct convolution_graph g;
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    cudnnBackendDescriptor_t h = make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_part(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g.graph);
    set(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    vgg__simulated.devices[0] = NULL;
    ck_refused(api->dnnFinalize(h), CUDNN_STATUS_BAD_PARAM, "heuristics: no device");
}
END_TEST

/* ---- Operations and graphs ------------------------------------------------------- */

START_TEST(shapes)
{
    cudnnBackendDescriptor_t x = tensor(1, CUDNN_DATA_FLOAT, shape(1, 4, 5, 5), false);
    cudnnBackendDescriptor_t w = tensor(2, CUDNN_DATA_FLOAT, shape(8, 4, 3, 3), false);
    cudnnBackendDescriptor_t narrow =
        tensor(3, CUDNN_DATA_FLOAT, shape(1, 8, 5, 4), false);
    cudnnBackendDescriptor_t few =
        tensor(4, CUDNN_DATA_FLOAT, shape(1, 7, 5, 5), false);
    ck_refused(api->dnnFinalize(forward(x, w, narrow)), CUDNN_STATUS_BAD_PARAM,
               "do not fit in h or w");
    ck_refused(api->dnnFinalize(forward(x, w, few)), CUDNN_STATUS_BAD_PARAM,
               "do not fit in n or channels");
    cudnnBackendDescriptor_t bias =
        tensor(5, CUDNN_DATA_FLOAT, shape(1, 3, 1, 1), false);
    ck_refused(api->dnnFinalize(pointwise(CUDNN_POINTWISE_ADD, x, bias, x)),
               CUDNN_STATUS_BAD_PARAM, "does not fit the output");
    ck_refused(api->dnnFinalize(pointwise(CUDNN_POINTWISE_ADD, x, NULL, x)),
               CUDNN_STATUS_BAD_PARAM, "no second input for its mode");
    ck_refused(api->dnnFinalize(pointwise(CUDNN_POINTWISE_RELU_BWD, x, NULL, x)),
               CUDNN_STATUS_BAD_PARAM, "no output for its mode");
    cudnnBackendDescriptor_t flat = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    const int64_t dims[3] = {4, 5, 5}, strides[3] = {25, 5, 1};
    sound_tensor(flat);
    set(flat, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 3, dims);
    set(flat, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 3, strides);
    ck_refused(api->dnnFinalize(forward(finished(flat), w, x)), CUDNN_STATUS_BAD_PARAM,
               "of other than 4 axes");
}
END_TEST

START_TEST(loose_tensors)
{
    cudnnBackendDescriptor_t ops[2], graph;
    cudnnBackendDescriptor_t x = tensor(1, CUDNN_DATA_FLOAT, shape(1, 8, 5, 5), false);
    cudnnBackendDescriptor_t y = tensor(2, CUDNN_DATA_FLOAT, shape(1, 8, 5, 5), false);
    cudnnBackendDescriptor_t v = tensor(3, CUDNN_DATA_FLOAT, shape(1, 8, 5, 5), true);
    cudnnBackendDescriptor_t again =
        tensor(1, CUDNN_DATA_FLOAT, shape(1, 8, 5, 4), false);
    ops[0] = finished(pointwise(CUDNN_POINTWISE_RELU_FWD, v, NULL, y));
    ck_refused(finish_graph(ops, 1, &graph), CUDNN_STATUS_BAD_PARAM, "never written");
    ops[0] = finished(pointwise(CUDNN_POINTWISE_RELU_FWD, x, NULL, v));
    ck_refused(finish_graph(ops, 1, &graph), CUDNN_STATUS_BAD_PARAM, "never read");
    ops[0] = finished(pointwise(CUDNN_POINTWISE_RELU_FWD, x, NULL, y));
    ops[1] = finished(pointwise(CUDNN_POINTWISE_IDENTITY, x, NULL, y));
    ck_refused(finish_graph(ops, 2, &graph), CUDNN_STATUS_BAD_PARAM,
               "written by two operations");
    ops[1] = finished(pointwise(CUDNN_POINTWISE_IDENTITY, again, NULL, again));
    ck_refused(finish_graph(ops, 2, &graph), CUDNN_STATUS_BAD_PARAM,
               "one number for two tensors");
    ops[0] = x;
    ck_refused(finish_graph(ops, 1, &graph), CUDNN_STATUS_BAD_PARAM, "no operation");
    ops[0] = finished(pointwise(CUDNN_POINTWISE_RELU_FWD, x, NULL, y));
    ops[1] = finished(pointwise(CUDNN_POINTWISE_IDENTITY, y, NULL, x));
    ck_refused(finish_graph(ops, 2, &graph), CUDNN_STATUS_BAD_PARAM, "in a circle");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("planted descriptors");
    TCase *tcase = tcase_create("faults");
    tcase_add_checked_fixture(tcase, planted_begin, NULL);
    tcase_add_test(tcase, attributes);
    tcase_add_test(tcase, unfinished_parts);
    tcase_add_loop_test(tcase, wrong_value, 0, sizeof faults / sizeof *faults);
    tcase_add_test(tcase, not_simulated);
    tcase_add_test(tcase, reading);
    tcase_add_test(tcase, heuristics_without_a_device);
    tcase_add_test(tcase, shapes);
    tcase_add_test(tcase, loose_tensors);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
