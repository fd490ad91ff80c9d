/* SPDX-License-Identifier: Apache-2.0 */
/* Faults with memory: who may touch it, where it ends, when it is gone. */
#include "harness.h"
#include "planted.h"

static void read_device(void)
{
    volatile const float *memory = new_memory(1024);
    (void)memory[3];
}

static void write_device(void)
{
    volatile float *memory = new_memory(1024);
    memory[3] = 1;
}

static void read_released(void)
{
    volatile const float *memory = new_memory(1024);
    ck_good(api->free((void *)memory));
    (void)memory[0];
}

static void read_behind(void)
{
    vgg__simulated.flush = true;
    volatile const float *memory = new_pinned(1024);
    (void)memory[256];
}

START_TEST(host_touches)
{
    planted_fault(read_device, "host code touches byte 12 of device memory of 1024");
    planted_fault(write_device, "host code touches byte 12 of device memory");
    planted_fault(read_released, "host code touches byte 0 of released memory");
    planted_fault(read_behind, "byte 1024 of page-locked memory of 1024");
}
END_TEST

/* A kernel that goes one element too far. */
static void run_too_far(void)
{
    cudaStream_t stream = new_stream();
    const struct add_args args = {NULL, new_memory(1024), 257, 1};
    ck_good(launch_add(stream, &args));
    api->streamSynchronize(stream);
}

static void run_on_released(void)
{
    cudaStream_t stream = new_stream();
    float *memory = new_memory(1024);
    struct add_args args = {NULL, memory, 1, 1};
    ck_good(api->streamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    ck_good(launch_add(stream, &args));
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    ck_good(api->streamEndCapture(stream, &graph));
    ck_good(api->graphInstantiate(&exec, graph, 0));
    ck_good(api->free(memory));
    ck_good(api->graphLaunch(exec, stream));
    api->streamSynchronize(stream);
}

START_TEST(kernel_touches)
{
    planted_fault(run_too_far, "add touches byte 1024 of device memory of 1024 bytes");
    planted_fault(run_on_released, "add touches byte 0 of released memory");
}
END_TEST

/* Where memory ends before its last page does, what is written behind it shows. */
START_TEST(written_behind)
{
    cudaStream_t stream = new_stream();
    float *memory = new_memory(100);
    const struct add_args args = {NULL, memory, 26, 1};
    ck_good(launch_add(stream, &args));
    ck_refused(api->streamSynchronize(stream), cudaErrorIllegalAddress,
               "written 0 bytes after the end of memory of 100 bytes");
}
END_TEST

static void write_before(const void *opaque)
{
    const struct add_args *args = opaque;
    args->out[-1] = args->value;
}

/* Once by its argument, and once by itself, where memory begins behind its page. */
START_TEST(written_before)
{
    cudaStream_t stream = new_stream();
    float *memory = new_memory(1024);
    const struct add_args args = {NULL, memory - 1, 2, 1};
    ck_refused(launch_add(stream, &args), cudaErrorInvalidValue,
               "byte 8 of its argument points to byte -4 of device memory");
    struct vgg__kernel kernel = add_kernel;
    kernel.name = "before";
    kernel.host = write_before;
    const struct vgg__grid grid = {{1, 1, 1}, {1, 1, 1}};
    ck_good(
        api->launch(&kernel, grid, 0, &(struct add_args){NULL, memory, 1, 1}, stream));
    ck_refused(api->streamSynchronize(stream), cudaErrorIllegalAddress,
               "written before memory of 1024 bytes");
}
END_TEST

/* A copy that was recorded, to memory that is no more when it is done. */
START_TEST(copied_too_late)
{
    cudaStream_t stream = new_stream();
    char *device = new_memory(256), *pinned = new_pinned(256);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    ck_good(api->streamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    ck_good(api->memcpyAsync(device, pinned, 256, cudaMemcpyHostToDevice, stream));
    ck_good(api->streamEndCapture(stream, &graph));
    ck_good(api->graphInstantiate(&exec, graph, 0));
    ck_good(api->free(device));
    ck_good(api->graphLaunch(exec, stream));
    ck_refused(api->streamSynchronize(stream), cudaErrorIllegalAddress,
               "memcpyAsync, when carried out: 256 bytes from byte 0 of released");
}
END_TEST

START_TEST(poison)
{
    cudaStream_t stream = new_stream();
    uint32_t words[64];
    get_floats(new_memory(256), (float *)words, 64, stream);
    for (int i = 0; i < 64; i++) ck_assert_uint_eq(words[i], 0xffffffff);
    planted_no_complaint();
}
END_TEST

START_TEST(copies)
{
    cudaStream_t stream = new_stream();
    char own[64] = "";
    char *device = new_memory(256), *pinned = new_pinned(256);
    const enum cudaMemcpyKind in = cudaMemcpyHostToDevice, out = cudaMemcpyDeviceToHost;
    ck_refused(api->memcpyAsync(device, own, 64, in, stream), cudaErrorInvalidValue,
               "not page-locked");
    ck_refused(api->memcpyAsync(own, device, 64, out, stream), cudaErrorInvalidValue,
               "not page-locked");
    ck_refused(api->memcpyAsync(device, pinned, 257, in, stream), cudaErrorInvalidValue,
               "257 bytes from byte 0 of device memory of 256");
    ck_refused(api->memcpyAsync(device + 1, pinned, 256, in, stream),
               cudaErrorInvalidValue, "256 bytes from byte 1 of device memory");
    ck_refused(api->memcpyAsync(device, pinned + 1, 256, in, stream),
               cudaErrorInvalidValue, "not page-locked");
    ck_refused(api->memcpyAsync(pinned, device, 16, in, stream), cudaErrorInvalidValue,
               "page-locked memory");
    ck_refused(api->memcpyAsync(pinned, device, 16, cudaMemcpyDefault, stream),
               cudaErrorInvalidMemcpyDirection, "kind 4");
    ck_refused(api->memcpyAsync(device, NULL, 16, in, stream), cudaErrorInvalidValue,
               "from NULL");
    ck_refused(api->memsetAsync(device, 0, 257, stream), cudaErrorInvalidValue,
               "memsetAsync: 257 bytes");
    ck_refused(api->memsetAsync(pinned, 0, 16, stream), cudaErrorInvalidValue,
               "page-locked memory");
}
END_TEST

START_TEST(giving_back)
{
    char *device = new_memory(256), *pinned = new_pinned(256);
    ck_refused(api->free(pinned), cudaErrorInvalidValue, "page-locked memory");
    ck_refused(api->freeHost(device), cudaErrorInvalidValue, "device memory");
    ck_refused(api->free(device + 16), cudaErrorInvalidValue, "byte 16");
    ck_good(api->free(device));
    ck_refused(api->free(device), cudaErrorInvalidValue, "released memory");
    cudaStream_t stream = new_stream();
    device = new_memory(256);
    ck_good(api->memcpyAsync(device, pinned, 64, cudaMemcpyHostToDevice, stream));
    ck_refused(api->freeHost(pinned), cudaErrorIllegalAddress, "still uses it");
}
END_TEST

/* A copy reads what is there when it is done: what was written too early is wrong. */
START_TEST(staging_overwritten)
{
    cudaStream_t stream = new_stream();
    float *device = new_memory(256), *pinned = new_pinned(256), got;
    *pinned = 1;
    ck_good(api->memcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream));
    *pinned = 2; /* planted: nothing has waited */
    get_floats(device, &got, 1, stream);
    ck_assert_float_eq(got, 2);
}
END_TEST

START_TEST(read_too_early)
{
    cudaStream_t stream = new_stream();
    float *device = new_memory(256), *pinned = new_pinned(256);
    put_floats(device, (float[]){5}, 1, stream);
    ck_good(api->memcpyAsync(pinned, device, 4, cudaMemcpyDeviceToHost, stream));
    ck_assert_float_nan(*pinned); /* planted: nothing has waited */
    ck_good(api->streamSynchronize(stream));
    ck_assert_float_eq(*pinned, 5);
}
END_TEST

/* Limits are no misuse. */
START_TEST(cap)
{
    void *memory;
    size_t available, total;
    vgg__simulated.memory = 1 << 20;
    ck_good(api->malloc(&memory, 1 << 19));
    ck_assert_int_eq(api->malloc(&memory, (1 << 19) + 1), cudaErrorMemoryAllocation);
    ck_assert_ptr_null(memory);
    ck_assert_int_eq(api->getLastError(), cudaErrorMemoryAllocation);
    ck_assert_int_eq(api->getLastError(), cudaSuccess);
    ck_good(api->memGetInfo(&available, &total));
    ck_assert_uint_eq(available, 1 << 19);
    ck_good(api->malloc(&memory, 1 << 19));
    planted_no_complaint();
}
END_TEST

static const char *const leaks[] = {"256 bytes of device memory",
                                    "256 bytes of page-locked memory", "a stream",
                                    "an event"};

START_TEST(leak)
{
    void *memory = NULL;
    ck_assert_ptr_null(vgg__simulated_leak());
    if (_i == 0) memory = new_memory(256);
    if (_i == 1) memory = new_pinned(256);
    if (_i == 2) memory = new_stream();
    if (_i == 3) memory = new_event(0);
    const char *found = vgg__simulated_leak();
    ck_assert_ptr_nonnull(found);
    ck_assert_str_eq(found, leaks[_i]);
    if (_i == 0) ck_good(api->free(memory));
    if (_i == 1) ck_good(api->freeHost(memory));
    if (_i == 2) ck_good(api->streamDestroy(memory));
    if (_i == 3) ck_good(api->eventDestroy(memory));
    ck_assert_ptr_null(vgg__simulated_leak());
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("planted memory");
    TCase *tcase = tcase_create("faults");
    tcase_add_checked_fixture(tcase, planted_begin, NULL);
    tcase_add_test(tcase, host_touches);
    tcase_add_test(tcase, kernel_touches);
    tcase_add_test(tcase, written_behind);
    tcase_add_test(tcase, written_before);
    tcase_add_test(tcase, copied_too_late);
    tcase_add_test(tcase, poison);
    tcase_add_test(tcase, copies);
    tcase_add_test(tcase, giving_back);
    tcase_add_test(tcase, staging_overwritten);
    tcase_add_test(tcase, read_too_early);
    tcase_add_test(tcase, cap);
    tcase_add_loop_test(tcase, leak, 0, sizeof leaks / sizeof *leaks);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
