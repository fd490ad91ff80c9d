/* SPDX-License-Identifier: Apache-2.0 */
/* Faults with cuDNN plans that run: numbers, pointers, handles; and that sound ones
 * give the right results. Those of descriptors are in descriptors.c. */
#include <math.h>
#include <stdlib.h>

#include "graph.h"
#include "harness.h"

/* ---- Running --------------------------------------------------------------------- */

START_TEST(numbers)
{
    struct convolution_graph g;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    for (int i = 0; i < g.plan_count; i++) {
        g.plan = g.plans[i];
        ck_good(convolution_run(&g));
        convolution_check(&g);
    }
    ck_assert_int_gt(g.plan_count, 3);
    planted_no_complaint();
}
END_TEST

/* Weights written as [oc][ic][kh][kw] for a graph that says [oc][kh][kw][ic]. */
START_TEST(wrong_layout)
{
    struct convolution_graph g;
    float got[64], want[64];
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    convolution_transpose_weights(&g);
    ck_good(convolution_run(&g));
    convolution_expected(&g, want);
    get_floats(g.y, got, 64, g.stream);
    int differ = 0;
    for (int i = 0; i < 64; i++) differ += got[i] != want[i];
    ck_assert_int_gt(differ, 32);
}
END_TEST

START_TEST(bindings)
{
    struct convolution_graph g;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    g.uids[2] = 9;
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM, "no tensor 9");
    g.count = 2;
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
               "tensor 3 has no pointer");
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    g.pointers[0] = (char *)g.x + 4;
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
               "tensor 1 is not aligned to 16");
    g.pointers[0] = (char *)g.x + 400; /* 128 bytes: 16 too many */
    ck_refused(convolution_run(&g), CUDNN_STATUS_EXECUTION_FAILED,
               "tensor 1: 128 bytes from byte 400 of device memory of 512");
    g.pointers[0] = g.x;
    g.pointers[2] = (char *)g.x + 16;
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM,
               "output 3 overlaps tensor 1");
    g.pointers[2] = malloc(4096);
    ck_refused(convolution_run(&g), CUDNN_STATUS_EXECUTION_FAILED, "no device memory");
    free(g.pointers[2]);
}
END_TEST

START_TEST(space)
{
    struct convolution_graph g;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 1);
    ck_assert_int_gt(g.need, 0);
    g.workspace = NULL;
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM, "of work space");
    g.workspace = new_memory((size_t)g.need - 256);
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM, "of work space");
    g.workspace = (char *)g.y - 1024;
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM, "of work space");
    g.workspace = new_memory((size_t)g.need + 512);
    g.pointers[0] = (char *)g.workspace + 256;
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM,
               "tensor 1 lies in the work space");
}
END_TEST

START_TEST(handles)
{
    struct convolution_graph g;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    cudnnHandle_t fresh;
    ck_good(api->dnnCreate(&fresh));
    cudnnHandle_t own = g.handle;
    g.handle = fresh; /* planted: no stream was set */
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH,
               "default stream");
    ck_good(api->dnnDestroy(fresh));
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM, "cudnnBackendExecute: no");
    ck_refused(api->dnnSetStream(fresh, g.stream), CUDNN_STATUS_BAD_PARAM,
               "cudnnSetStream: no handle");
    ck_refused(api->dnnDestroy(fresh), CUDNN_STATUS_BAD_PARAM,
               "cudnnDestroy: no handle");
    ck_refused(api->dnnSetStream(own, NULL), CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH,
               "default stream");
    cudnnBackendDescriptor_t plan = g.plan;
    g.handle = own;
    g.plan = g.graph;
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM, "not a plan");
    g.plan = plan;
    ck_good(api->dnnDestroyDescriptor(plan));
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM, "not a plan");
}
END_TEST

/* Handles and plans stay on the device where they were made. */
START_TEST(other_device)
{
    struct convolution_graph g;
    vgg__simulated.devices[1] = "T4";
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    ck_good(api->setDevice(1));
    cudaStream_t stream = new_stream();
    ck_refused(api->dnnSetStream(g.handle, stream),
               CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH, "handle is another device's");
    ck_good(api->dnnCreate(&g.handle));
    ck_good(api->dnnSetStream(g.handle, stream));
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM,
               "the plan is another device's");
}
END_TEST

START_TEST(unfinished_run)
{
    struct convolution_graph g;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    g.plan = unfinished_plan(&g, 0);
    ck_refused(convolution_run(&g), CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
               "plan or pack is not finalised");
}
END_TEST

START_TEST(impossible_plans)
{
    struct convolution_graph g;
    cudnnBackendDescriptor_t plan = make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    ck_refused(api->dnnFinalize(plan), CUDNN_STATUS_BAD_PARAM, "of no configuration");
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    plan = unfinished_plan(&g, 0);
    ck_good(api->dnnDestroy(g.handle));
    ck_refused(api->dnnFinalize(plan), CUDNN_STATUS_BAD_PARAM, "for no device");
}
END_TEST

START_TEST(plan_in_capture)
{
    struct convolution_graph g;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    ck_good(api->streamBeginCapture(g.stream, cudaStreamCaptureModeThreadLocal));
    cudnnBackendDescriptor_t plan = unfinished_plan(&g, 0);
    ck_refused(api->dnnFinalize(plan), CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER,
               "of a plan while the thread captures");
}
END_TEST

START_TEST(replayed)
{
    struct convolution_graph g;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    ck_good(api->streamBeginCapture(g.stream, cudaStreamCaptureModeThreadLocal));
    ck_good(convolution_run(&g)); /* the pack is gone before the replay */
    ck_good(api->streamEndCapture(g.stream, &graph));
    ck_good(api->graphInstantiate(&exec, graph, 0));
    ck_good(api->graphLaunch(exec, g.stream));
    convolution_check(&g);
    planted_no_complaint();
    ck_good(api->free(g.w));
    ck_good(api->graphLaunch(exec, g.stream));
    ck_refused(api->streamSynchronize(g.stream), cudaErrorIllegalAddress,
               "tensor 2: 288 bytes from byte 0 of released memory");
}
END_TEST

START_TEST(released_space)
{
    struct convolution_graph g;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 1);
    ck_good(api->streamBeginCapture(g.stream, cudaStreamCaptureModeThreadLocal));
    ck_good(convolution_run(&g));
    ck_good(api->streamEndCapture(g.stream, &graph));
    ck_good(api->graphInstantiate(&exec, graph, 0));
    ck_good(api->free(g.workspace));
    ck_good(api->graphLaunch(exec, g.stream));
    ck_refused(api->streamSynchronize(g.stream), cudaErrorIllegalAddress,
               "when carried out: work space: ");
}
END_TEST

START_TEST(shared_space)
{
    int found = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        planted_begin();
        vgg__simulated.seed = seed;
        struct convolution_graph g, h;
        convolution_begin(&g, CUDNN_DATA_FLOAT, 1);
        convolution_begin(&h, CUDNN_DATA_FLOAT, 1);
        h.workspace = g.workspace;
        ck_good(convolution_run(&g));
        ck_good(convolution_run(&h));
        api->streamSynchronize(g.stream);
        api->streamSynchronize(h.stream);
        found += planted_seen("written by other work");
    }
    ck_assert_int_gt(found, 2);
}
END_TEST

/* ---- Numbers of other types ------------------------------------------------------ */

/* Plans on tensor cores cut floats to 11 bits; the others do not. */
START_TEST(tf32)
{
    struct convolution_graph g;
    int cut = 0, whole = 0;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    const float fine = 1 + 0x1p-20f;
    put_floats(g.x, &fine, 1, g.stream);
    for (int i = 0; i < g.plan_count; i++) {
        float got, base;
        g.plan = g.plans[i];
        ck_good(convolution_run(&g));
        get_floats(g.y, &got, 1, g.stream);
        put_floats(g.x, (float[]){1}, 1, g.stream);
        ck_good(convolution_run(&g));
        get_floats(g.y, &base, 1, g.stream);
        put_floats(g.x, &fine, 1, g.stream);
        cut += got == base;
        whole += got != base;
    }
    ck_assert_int_gt(cut, 0);
    ck_assert_int_gt(whole, 0);
}
END_TEST

START_TEST(bf16)
{
    struct convolution_graph g;
    convolution_begin(&g, CUDNN_DATA_BFLOAT16, 0);
    for (int i = 0; i < g.plan_count; i++) {
        g.plan = g.plans[i];
        ck_good(convolution_run(&g));
        convolution_check(&g);
    }
    planted_no_complaint();
    planted_begin();
    vgg__simulated.devices[0] = "T4";
    convolution_begin(&g, CUDNN_DATA_BFLOAT16, 0);
    ck_assert_int_eq(g.plan_count, 0);
    planted_no_complaint();
}
END_TEST

/* ---- Text ------------------------------------------------------------------------ */

START_TEST(text)
{
    struct convolution_graph g;
    int64_t size = 0;
    convolution_begin(&g, CUDNN_DATA_FLOAT, 0);
    ck_good(api->dnnGetAttribute(g.plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                 CUDNN_TYPE_CHAR, 0, &size, NULL));
    char *json = malloc((size_t)size);
    ck_assert_int_eq(api->dnnGetAttribute(g.plan,
                                          CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                          CUDNN_TYPE_CHAR, size - 1, &size, json),
                     CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
    ck_good(api->dnnGetAttribute(g.plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                 CUDNN_TYPE_CHAR, size, &size, json));
    ck_good(load_plan(&g, json, size));
    ck_good(convolution_run(&g));
    convolution_check(&g);
    ck_assert_int_eq(load_plan(&g, json, size - 1), CUDNN_STATUS_BAD_PARAM);
    json[size / 2] ^= 1;
    ck_assert_int_eq(load_plan(&g, json, size), CUDNN_STATUS_BAD_PARAM);
    json[size / 2] ^= 1;
    vgg__simulated.dnn_version++;
    ck_assert_int_eq(load_plan(&g, json, size),
                     CUDNN_STATUS_SERIALIZATION_VERSION_MISMATCH);
    vgg__simulated.dnn_version--;
    vgg__simulated.devices[0] = "H100";
    ck_assert_int_eq(load_plan(&g, json, size),
                     CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH);
    planted_no_complaint(); /* files are like that */
    free(json);
}
END_TEST

START_TEST(leaks)
{
    cudnnHandle_t handle;
    ck_good(api->dnnCreate(&handle));
    ck_assert_str_eq(vgg__simulated_leak(), "a cuDNN handle");
    ck_good(api->dnnDestroy(handle));
    cudnnBackendDescriptor_t d = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    ck_assert_str_eq(vgg__simulated_leak(), "a cuDNN descriptor (tensor)");
    ck_good(api->dnnDestroyDescriptor(d));
    ck_assert_ptr_null(vgg__simulated_leak());
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("planted dnn");
    TCase *tcase = tcase_create("faults");
    tcase_add_checked_fixture(tcase, planted_begin, NULL);
    tcase_add_test(tcase, numbers);
    tcase_add_test(tcase, wrong_layout);
    tcase_add_test(tcase, bindings);
    tcase_add_test(tcase, space);
    tcase_add_test(tcase, handles);
    tcase_add_test(tcase, other_device);
    tcase_add_test(tcase, unfinished_run);
    tcase_add_test(tcase, impossible_plans);
    tcase_add_test(tcase, plan_in_capture);
    tcase_add_test(tcase, replayed);
    tcase_add_test(tcase, released_space);
    tcase_add_test(tcase, shared_space);
    tcase_add_test(tcase, tf32);
    tcase_add_test(tcase, bf16);
    tcase_add_test(tcase, text);
    tcase_add_test(tcase, leaks);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
