/* SPDX-License-Identifier: Apache-2.0 */
/* See planted.h. */
#include "planted.h"

#include "../site.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

const struct vgg__api *api;

void planted_begin(void)
{
    char reason[64] = "";
    vgg__simulated_reset();
    api = vgg__api_open(reason, sizeof reason);
    ck_assert_ptr_nonnull(api);
}

void planted_complaint(const char *what, const char *fragment)
{
    const char *complaint = vgg__simulated_complaint();
    ck_assert_msg(complaint != NULL, "%s: no complaint", what);
    ck_assert_msg(strstr(complaint, fragment) != NULL, "%s: \"%s\" lacks \"%s\"", what,
                  complaint, fragment);
    vgg__site_caught(vgg__simulated_site());
    vgg__simulated_forget();
}

bool planted_seen(const char *fragment)
{
    const char *complaint = vgg__simulated_complaint();
    if (complaint == NULL || strstr(complaint, fragment) == NULL) return false;
    vgg__site_caught(vgg__simulated_site());
    return true;
}

void planted_no_complaint(void)
{
    const char *complaint = vgg__simulated_complaint();
    ck_assert_msg(complaint == NULL, "%s", complaint);
}

static void run_with_pipe(void (*body)(void), int to)
{
    dup2(to, STDERR_FILENO);
    body();
    _exit(0);
}

void planted_fault(void (*body)(void), const char *fragment)
{
    int ends[2], status = 0;
    char text[512] = "";
    ck_assert_int_eq(pipe(ends), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) run_with_pipe(body, ends[1]);
    close(ends[1]);
    size_t used = 0;
    for (ssize_t got = 1; got > 0 && used + 1 < sizeof text; used += (size_t)got)
        if ((got = read(ends[0], text + used, sizeof text - 1 - used)) < 0) break;
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
                  "the process ended with status %d, not by SIGSEGV", status);
    ck_assert_msg(strstr(text, fragment) != NULL, "\"%s\" lacks \"%s\"", text,
                  fragment);
}

cudaStream_t new_stream(void)
{
    cudaStream_t stream;
    ck_good(api->streamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

cudaEvent_t new_event(unsigned flags)
{
    cudaEvent_t event;
    ck_good(api->eventCreateWithFlags(&event, flags));
    return event;
}

void *new_memory(size_t size)
{
    void *memory;
    ck_good(api->malloc(&memory, size));
    return memory;
}

void *new_pinned(size_t size)
{
    void *memory;
    ck_good(api->mallocHost(&memory, size));
    return memory;
}

void put_floats(void *device, const float *values, size_t count, cudaStream_t stream)
{
    float *pinned = new_pinned(count * sizeof *values);
    memcpy(pinned, values, count * sizeof *values);
    ck_good(api->memcpyAsync(device, pinned, count * sizeof *values,
                             cudaMemcpyHostToDevice, stream));
    ck_good(api->streamSynchronize(stream));
    ck_good(api->freeHost(pinned));
}

void get_floats(const void *device, float *values, size_t count, cudaStream_t stream)
{
    float *pinned = new_pinned(count * sizeof *values);
    ck_good(api->memcpyAsync(pinned, device, count * sizeof *values,
                             cudaMemcpyDeviceToHost, stream));
    ck_good(api->streamSynchronize(stream));
    memcpy(values, pinned, count * sizeof *values);
    ck_good(api->freeHost(pinned));
}

static void add_thread(const void *opaque)
{
    const struct add_args *args = opaque;
    for (uint32_t i = 0; i < args->count; i++)
        args->out[i] = args->value + (args->in ? args->in[i] : 0);
}

const struct vgg__kernel add_kernel = {.name = "add",
                                       .host = add_thread,
                                       .args = sizeof(struct add_args),
                                       .threads = 1024};

cudaError_t launch_add(cudaStream_t stream, const struct add_args *args)
{
    const struct vgg__grid grid = {{1, 1, 1}, {1, 1, 1}};
    return api->launch(&add_kernel, grid, 0, args, stream);
}

cudaError_t add(cudaStream_t stream, const float *in, float *out, float value)
{
    return launch_add(stream, &(struct add_args){in, out, 1, value});
}
