/* SPDX-License-Identifier: Apache-2.0 */
/* What the GPU engine says when a device, a library or a call lets it down: what was
 * tried, what was found, and what to do about it. */
#include <stdlib.h>
#include <string.h>

#include "cudnn/cudnn.h"
#include "guard.h"
#include "harness.h"
#include "simulated.h"
#include "targets.h"

#define FIT         "update the driver, cuDNN and cuBLASLt"
#define ROOM        "no room to open it"
#define ALL_OF(...) ((const char *const[]){__VA_ARGS__, NULL})

static vgg_context *ctx;
static vgg_host host;

static int warnings;
static char last_warning[256];

static void keep_warning(void *cookie, vgg_log_level level, const char *line)
{
    (void)cookie;
    if (level != VGG_LOG_WARNING) return;
    warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", line);
}

static void set_up(void)
{
    static const vgg_logger logger = {NULL, keep_warning};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &guard_allocator;
    opts.logger = &logger;
    ck_ok(vgg_context_create(&opts, &ctx));
    host = session_host(ctx);
}

static void tear_down(void)
{
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
    ck_assert_ptr_null(vgg__simulated_complaint());
    ck_assert_ptr_null(vgg__simulated_leak());
}

static void check_text(const char *const parts[])
{
    for (int i = 0; parts[i] != NULL; i++)
        ck_assert_msg(strstr(vgg_last_error(), parts[i]) != NULL, "no \"%s\": %s",
                      parts[i], vgg_last_error());
}

static void open_fails(vgg_status expected, const char *const parts[])
{
    void *device = NULL;
    ck_fails(targets[0].engine->open(&host, 0, &device), expected);
    ck_assert_ptr_null(device);
    check_text(parts);
}

/* ---- Kernels for another GPU ----------------------------------------------------- */

/* Refused when it is opened, before anything is compiled. */
START_TEST(made_for_another)
{
    static const char said[] = "the plugin is made for sm_90, this GPU is sm_80: build "
                               "it with -Dcudnn_arch=80 or all";
    void *device;
    vgg__simulated.code = 90;
    vgg__simulated.devices[0] = "A100";
    vgg__simulated.devices[1] = "H100";
    open_fails(VGG_EDEVICE, ALL_OF("cuda:0: conv_plain", said));
    ck_ok(targets[0].engine->open(&host, 1, &device));
    targets[0].engine->close(device);
    vgg__simulated.code = 80; /* runs on later ones of its generation */
    vgg__simulated.devices[0] = "L4";
    ck_ok(targets[0].engine->open(&host, 0, &device));
    targets[0].engine->close(device);
}
END_TEST

/* Kernels that run and are wrong, and libraries that are. */
START_TEST(wrong_kernel)
{
    vgg__simulated.idle = "conv_plain";
    open_fails(VGG_EDEVICE, ALL_OF("the plugin's own came out wrong", FIT));
}
END_TEST

/* ---- Libraries ------------------------------------------------------------------- */

/* What cuDNN says of it in its own words is told, on the same line. */
START_TEST(no_handle)
{
    vgg__simulated.fail_call = 1;
    vgg__simulated.fail_error = cudaErrorInvalidValue;
    vgg__simulated.fail_name = "dnnCreate";
    open_fails(VGG_EDEVICE, ALL_OF("a handle: cuDNN: CUDNN_STATUS",
                                   "(dnnCreate has failed; by a test's wish)", FIT));
    vgg__simulated.fail_call = 1;
    vgg__simulated.fail_name = "ltCreate";
    vgg__simulated.fail_error = cudaErrorMemoryAllocation;
    open_fails(VGG_EDEVICE,
               ALL_OF("a handle: cuBLASLt: CUBLAS_STATUS_ALLOC_FAILED", ROOM));
}
END_TEST

START_TEST(no_plan)
{
    vgg__simulated.refuse = SIMULATED_NO_GRAPH;
    open_fails(VGG_EDEVICE, ALL_OF("a plan for a small convolution", FIT));
    vgg__simulated.refuse = 0;
    vgg__simulated.fail_call = 1;
    vgg__simulated.fail_name = "dnnExecute";
    vgg__simulated.fail_error = cudaErrorInvalidValue;
    open_fails(VGG_EDEVICE, ALL_OF("a small convolution: cuDNN: ", "dnnExecute", FIT));
}
END_TEST

START_TEST(no_product)
{
    vgg__simulated.fail_call = 1;
    vgg__simulated.fail_name = "ltMatmul";
    vgg__simulated.fail_error = cudaErrorInvalidValue;
    open_fails(VGG_EDEVICE,
               ALL_OF("a matrix product: cuBLASLt: CUBLAS_STATUS_EXECUTION_FAILED",
                      "start the process again", "update the driver"));
    vgg__simulated.fail_call = 1;
    vgg__simulated.fail_error = cudaErrorMemoryAllocation;
    open_fails(VGG_EDEVICE, ALL_OF("CUBLAS_STATUS_ALLOC_FAILED", ROOM));
    vgg__simulated.fail_call = 1;
    vgg__simulated.fail_name = "ltMatmulAlgoGetHeuristic";
    vgg__simulated.fail_error = cudaErrorInvalidValue;
    open_fails(VGG_EUNSUPPORTED, ALL_OF("(CUBLAS_STATUS_EXECUTION_FAILED)",
                                        "another batch size or precision"));
}
END_TEST

/* A layer's convolution that fails in a run. */
START_TEST(failing_layer)
{
    struct net net;
    struct data data;
    struct session s;
    net_parse(&net, "2x8x8 conv3:8 loss");
    data_create(&data, &net, 2, DATA_REAL, 1);
    session_open(&s, &targets[0], &net, 2, VGG_MODE_INFER, false);
    session_write(&s, &data);
    vgg__simulated.fail_call = 1;
    vgg__simulated.fail_name = "dnnExecute";
    vgg__simulated.fail_error = cudaErrorInvalidValue;
    const vgg_run run = session_run_desc(&data);
    ck_fails(s.target->engine->run(s.program, VGG_PHASE_FORWARD, &run), VGG_EDEVICE);
    check_text(ALL_OF("cuDNN: CUDNN_STATUS", "dnnExecute has failed",
                      "start the process again", "update the driver"));
    session_close(&s);
    data_free(&data);
}
END_TEST

START_TEST(less_than_all)
{
    void *device;
    ck_ok(targets[0].engine->open(&host, 0, &device));
    targets[0].engine->close(device);
    ck_assert_int_eq(warnings, 0);
    vgg__simulated.warning = "NVRTC was not found: install it";
    ck_ok(targets[0].engine->open(&host, 0, &device));
    targets[0].engine->close(device);
    ck_assert_int_eq(warnings, 1);
    ck_assert_ptr_nonnull(strstr(last_warning, "cuda:0: NVRTC was not found"));
}
END_TEST

/* ---- CUDA ------------------------------------------------------------------------ */

START_TEST(no_pinned_memory)
{
    struct session s = {.target = &targets[0]};
    struct net net;
    vgg__simulated.fail_call = 1;
    vgg__simulated.fail_name = "mallocHost";
    vgg__simulated.fail_error = cudaErrorMemoryAllocation;
    open_fails(VGG_EDEVICE, ALL_OF("8193 KiB of the host's memory can't be pinned",
                                   "free some there"));
    net_parse(&net, "2x8x8 relu");
    session_open(&s, &targets[0], &net, 2, VGG_MODE_INFER, false);
    const vgg_program_desc desc = {.stages = s.net.stages,
                                   .stage_count = s.net.stage_count,
                                   .batch = 2,
                                   .precision = VGG_FP32,
                                   .params = s.net.params,
                                   .param_count = s.net.param_count};
    void *program = NULL;
    vgg__simulated.fail_call = 1;
    ck_fails(s.target->engine->compile(s.device, s.store, &desc, &program), VGG_ENOMEM);
    check_text(ALL_OF("can't be pinned", "free some there", "a smaller batch"));
    session_close(&s);
}
END_TEST

/* The error that loses a device says so, and so does every call after it. Those by
 * number: contained, tensor memory leak, MPS client terminated, external device. */
START_TEST(fatal)
{
    static const int errors[] = {cudaErrorIllegalAddress,
                                 cudaErrorLaunchFailure,
                                 cudaErrorECCUncorrectable,
                                 226,
                                 721,
                                 810,
                                 911};
    struct session s = {.target = &targets[0]};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    session_open_device(&s, &opts);
    struct vgg__cudnn *const device = s.device;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        device->lost = false;
        ck_fails(vgg__cudnn_check(device, (cudaError_t)errors[i], "wait"), VGG_EDEVICE);
        check_text(ALL_OF("cuda:0: wait: ", "start it again"));
        ck_assert_msg(device->lost, "error %d", errors[i]);
        ck_fails_with(vgg__cudnn_enter(device), VGG_EDEVICE, "start the process again");
    }
    device->lost = false;
    ck_fails(vgg__cudnn_check(device, cudaErrorInvalidValue, "wait"), VGG_EDEVICE);
    ck_assert(!device->lost && strstr(vgg_last_error(), "start") == NULL);
    ck_fails_with(vgg__cudnn_check(device, cudaErrorMemoryAllocation, "record"),
                  VGG_ENOMEM, "use a smaller batch");
    ck_assert(!device->lost);
    s.target->engine->close(s.device);
    vgg_context_free(s.ctx);
}
END_TEST

/* A library that fails because the device is lost is not to blame. */
START_TEST(lost_in_a_library)
{
    vgg__simulated.fail_call = 1;
    vgg__simulated.fail_name = "dnnExecute";
    vgg__simulated.fail_error = cudaErrorIllegalAddress;
    vgg__simulated.fail_sticky = true;
    open_fails(VGG_EDEVICE, ALL_OF("a small convolution: ", "cudaErrorIllegalAddress",
                                   "start it again"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reasons");
    TCase *tcase = tcase_create("cudnn");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, made_for_another);
    tcase_add_test(tcase, wrong_kernel);
    tcase_add_test(tcase, no_handle);
    tcase_add_test(tcase, no_plan);
    tcase_add_test(tcase, no_product);
    tcase_add_test(tcase, failing_layer);
    tcase_add_test(tcase, less_than_all);
    tcase_add_test(tcase, no_pinned_memory);
    tcase_add_test(tcase, fatal);
    tcase_add_test(tcase, lost_in_a_library);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
