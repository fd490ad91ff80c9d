/* SPDX-License-Identifier: Apache-2.0 */
/* Faults with the order of work: dependencies that are missing, waits that are, streams
 * that are not the own ones. */
#include "harness.h"
#include "planted.h"

/* One stream writes, another reads; how many of 40 orders read too early. */
static int count_early(bool waits)
{
    int early = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        planted_begin();
        vgg__simulated.seed = seed;
        cudaStream_t first = new_stream(), second = new_stream();
        cudaEvent_t event = new_event(cudaEventDisableTiming);
        float *memory = new_memory(256), got;
        put_floats(memory, (float[]){0}, 1, first);
        ck_good(add(first, NULL, memory, 3));
        ck_good(api->eventRecord(event, first));
        if (waits) ck_good(api->streamWaitEvent(second, event, 0));
        ck_good(add(second, memory, memory + 1, 0));
        ck_good(api->streamSynchronize(second));
        get_floats(memory + 1, &got, 1, second);
        early += got != 3;
    }
    return early;
}

START_TEST(missing_event)
{
    ck_assert_int_eq(count_early(true), 0);
    ck_assert_int_gt(count_early(false), 5);
    ck_assert_int_lt(count_early(false), 35);
    planted_no_complaint();
}
END_TEST

/* An event that is recorded again means what came last; waits that are queued already
 * mean what came before. */
START_TEST(recorded_again)
{
    cudaStream_t stream = new_stream();
    cudaEvent_t event = new_event(0);
    float *memory = new_memory(256), got;
    ck_good(api->eventSynchronize(event)); /* never recorded: nothing to wait for */
    for (int i = 0; i < 3; i++) {
        ck_good(add(stream, NULL, memory, (float)i));
        ck_good(api->eventRecord(event, stream));
    }
    ck_good(api->eventSynchronize(event));
    get_floats(memory, &got, 1, stream);
    ck_assert_float_eq(got, 2);
    planted_no_complaint();
}
END_TEST

START_TEST(default_stream)
{
    float *memory = new_memory(256);
    ck_refused(add(NULL, NULL, memory, 1), cudaErrorInvalidResourceHandle,
               "default stream");
    ck_refused(api->streamSynchronize(NULL), cudaErrorInvalidResourceHandle,
               "default stream");
    ck_refused(api->memsetAsync(memory, 0, 4, cudaStreamLegacy),
               cudaErrorInvalidResourceHandle, "default stream");
    cudaStream_t stream;
    ck_refused(api->streamCreateWithFlags(&stream, cudaStreamDefault),
               cudaErrorInvalidValue, "waits for the default");
}
END_TEST

START_TEST(gone)
{
    float *memory = new_memory(256);
    cudaStream_t stream = new_stream();
    cudaEvent_t event = new_event(0);
    ck_good(api->eventDestroy(event));
    ck_refused(api->eventRecord(event, stream), cudaErrorInvalidResourceHandle,
               "no event");
    ck_refused(api->streamWaitEvent(stream, event, 0), cudaErrorInvalidResourceHandle,
               "no event");
    ck_refused(api->eventSynchronize(event), cudaErrorInvalidResourceHandle,
               "no event");
    ck_refused(api->eventDestroy(event), cudaErrorInvalidResourceHandle, "no event");
    ck_good(api->streamDestroy(stream));
    ck_refused(add(stream, NULL, memory, 1), cudaErrorInvalidResourceHandle,
               "no stream");
    ck_refused(api->streamDestroy(stream), cudaErrorInvalidResourceHandle, "no stream");
}
END_TEST

START_TEST(elapsed)
{
    float ms = -1;
    cudaStream_t stream = new_stream();
    cudaEvent_t from = new_event(0), to = new_event(0);
    cudaEvent_t untimed = new_event(cudaEventDisableTiming);
    float *memory = new_memory(256);
    ck_refused(api->eventElapsedTime(&ms, from, to), cudaErrorInvalidResourceHandle,
               "without time");
    ck_good(api->eventRecord(from, stream));
    ck_good(api->eventRecord(untimed, stream));
    ck_good(add(stream, NULL, memory, 1));
    ck_good(api->eventRecord(to, stream));
    ck_refused(api->eventElapsedTime(&ms, from, untimed),
               cudaErrorInvalidResourceHandle, "without time");
    ck_refused(api->eventElapsedTime(&ms, from, to), cudaErrorNotReady, "not ready");
    ck_good(api->eventSynchronize(to));
    ck_good(api->eventElapsedTime(&ms, from, to));
    ck_assert_float_gt(ms, 0);
}
END_TEST

START_TEST(devices)
{
    int count = 0, device = -1;
    vgg__simulated.devices[1] = "T4";
    ck_good(api->getDeviceCount(&count));
    ck_assert_int_eq(count, 2);
    cudaStream_t stream = new_stream();
    cudaEvent_t event = new_event(0);
    float *memory = new_memory(256);
    ck_good(api->setDevice(1));
    ck_good(api->getDevice(&device));
    ck_assert_int_eq(device, 1);
    ck_refused(add(stream, NULL, memory, 1), cudaErrorInvalidResourceHandle,
               "device 1 is set, the stream is of device 0");
    cudaStream_t other = new_stream();
    ck_refused(api->eventRecord(event, other), cudaErrorInvalidResourceHandle,
               "no event of this device");
    ck_refused(api->setDevice(2), cudaErrorInvalidDevice, "no device 2");
    struct cudaDeviceProp prop;
    ck_refused(api->getDeviceProperties(&prop, 2), cudaErrorInvalidDevice,
               "getDeviceProperties: no device 2");
    ck_refused(api->deviceGetAttribute(&count, cudaDevAttrWarpSize, 0),
               cudaErrorInvalidValue, "or attribute 10");
}
END_TEST

/* Without a driver, without a GPU: errors, and no complaint. */
START_TEST(nothing_there)
{
    int count = -1;
    char reason[64];
    vgg__simulated.driver = 0;
    ck_assert_int_eq(api->getDeviceCount(&count), cudaErrorInsufficientDriver);
    vgg__simulated.driver = 13000;
    vgg__simulated.devices[0] = NULL;
    ck_assert_int_eq(api->getDeviceCount(&count), cudaErrorNoDevice);
    ck_assert_int_eq(count, 0);
    vgg__simulated.missing = "cuDNN was not found";
    ck_assert_ptr_null(vgg__api_open(reason, sizeof reason));
    ck_assert_str_eq(reason, "cuDNN was not found");
    planted_no_complaint();
}
END_TEST

/* ---- Injected failures ----------------------------------------------------------- */

START_TEST(one_call_fails)
{
    void *memory;
    vgg__simulated.fail_name = "malloc";
    vgg__simulated.fail_call = 2;
    vgg__simulated.fail_error = cudaErrorMemoryAllocation;
    ck_good(api->malloc(&memory, 256));
    cudaStream_t stream = new_stream();
    ck_assert_int_eq(api->malloc(&memory, 256), cudaErrorMemoryAllocation);
    ck_good(api->malloc(&memory, 256));
    ck_good(api->streamSynchronize(stream));
    planted_no_complaint();
}
END_TEST

/* A lost device does nothing any more, but what is on it can be given back. */
START_TEST(lost)
{
    cudaStream_t stream = new_stream();
    void *memory = new_memory(256), *more;
    vgg__simulated.fail_call = 2;
    vgg__simulated.fail_error = cudaErrorIllegalAddress;
    vgg__simulated.fail_sticky = true;
    ck_good(add(stream, NULL, memory, 1));
    ck_assert_int_eq(api->streamSynchronize(stream), cudaErrorIllegalAddress);
    ck_assert_int_eq(api->malloc(&more, 256), cudaErrorIllegalAddress);
    ck_assert_int_eq(add(stream, NULL, memory, 1), cudaErrorIllegalAddress);
    ck_assert_int_eq(api->getLastError(), cudaErrorIllegalAddress);
    ck_assert_int_eq(api->getLastError(), cudaErrorIllegalAddress);
    cudnnHandle_t dnn;
    ck_assert_int_eq(api->dnnCreate(&dnn), CUDNN_STATUS_EXECUTION_FAILED_CUDART);
    cublasLtHandle_t lt;
    ck_assert_int_eq(api->ltCreate(&lt), CUBLAS_STATUS_EXECUTION_FAILED);
    ck_assert_int_eq(api->free(memory), cudaErrorIllegalAddress);
    ck_assert_int_eq(api->streamDestroy(stream), cudaErrorIllegalAddress);
    ck_assert_ptr_null(vgg__simulated_leak());
    planted_no_complaint();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("planted stream");
    TCase *tcase = tcase_create("faults");
    tcase_add_checked_fixture(tcase, planted_begin, NULL);
    tcase_add_test(tcase, missing_event);
    tcase_add_test(tcase, recorded_again);
    tcase_add_test(tcase, default_stream);
    tcase_add_test(tcase, gone);
    tcase_add_test(tcase, elapsed);
    tcase_add_test(tcase, devices);
    tcase_add_test(tcase, nothing_there);
    tcase_add_test(tcase, one_call_fails);
    tcase_add_test(tcase, lost);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
