/* SPDX-License-Identifier: Apache-2.0 */
/* Faults with capture: calls that it forbids, streams that it loses, edges that are
 * missing; and that what was recorded is what is replayed. */
#include "harness.h"
#include "planted.h"

#include <pthread.h>

static const enum cudaStreamCaptureMode local = cudaStreamCaptureModeThreadLocal;

struct record {
    cudaStream_t stream, side;
    cudaEvent_t event, joined;
    float *memory;
    cudaGraphExec_t exec; /* of an empty graph */
    cudaGraph_t graph;
};

static void begin(struct record *r)
{
    cudaGraph_t graph;
    *r = (struct record){.stream = new_stream(),
                         .side = new_stream(),
                         .event = new_event(cudaEventDisableTiming),
                         .joined = new_event(cudaEventDisableTiming),
                         .memory = new_memory(256)};
    ck_good(api->streamBeginCapture(r->stream, local));
    ck_good(api->streamEndCapture(r->stream, &graph));
    ck_good(api->graphInstantiate(&r->exec, graph, 0));
    r->graph = graph;
    put_floats(r->memory, (float[]){0, 0, 0}, 3, r->stream);
    ck_good(api->streamBeginCapture(r->stream, local));
}

/* ---- Forbidden calls ------------------------------------------------------------- */

static cudaError_t take(struct record *r)
{
    void *memory;
    return api->malloc(&memory, 256);
}

static cudaError_t give(struct record *r)
{
    return api->free(r->memory);
}

static cudaError_t take_pinned(struct record *r)
{
    void *memory;
    return api->mallocHost(&memory, 256);
}

static cudaError_t wait(struct record *r)
{
    return api->streamSynchronize(r->stream);
}

static cudaError_t wait_for_other(struct record *r)
{
    return api->streamSynchronize(r->side);
}

static cudaError_t wait_for_event(struct record *r)
{
    return api->eventSynchronize(r->event);
}

static cudaError_t ask_memory(struct record *r)
{
    size_t available, total;
    return api->memGetInfo(&available, &total);
}

static cudaError_t launch_graph(struct record *r)
{
    return api->graphLaunch(r->exec, r->side);
}

static cudaError_t instantiate(struct record *r)
{
    cudaGraphExec_t exec;
    return api->graphInstantiate(&exec, r->graph, 0);
}

static cudaError_t make_stream(struct record *r)
{
    cudaStream_t stream;
    return api->streamCreateWithFlags(&stream, cudaStreamNonBlocking);
}

static cudaError_t destroy(struct record *r)
{
    return api->streamDestroy(r->stream);
}

static const struct {
    const char *name;
    cudaError_t (*call)(struct record *r);
} forbidden[] = {
    {"malloc", take},
    {"free", give},
    {"mallocHost", take_pinned},
    {"streamSynchronize", wait},
    {"streamSynchronize", wait_for_other},
    {"eventSynchronize", wait_for_event},
    {"memGetInfo", ask_memory},
    {"graphLaunch", launch_graph},
    {"graphInstantiate", instantiate},
    {"streamCreateWithFlags", make_stream},
    {"streamDestroy", destroy},
};

START_TEST(forbidden_call)
{
    struct record r;
    cudaGraph_t graph;
    begin(&r);
    ck_good(add(r.stream, NULL, r.memory, 1));
    ck_refused(forbidden[_i].call(&r), cudaErrorStreamCaptureUnsupported,
               forbidden[_i].name);
    ck_assert_int_eq(add(r.stream, NULL, r.memory, 1),
                     cudaErrorStreamCaptureInvalidated);
    ck_assert_int_eq(api->streamEndCapture(r.stream, &graph),
                     cudaErrorStreamCaptureInvalidated);
    ck_assert_ptr_null(graph);
    float got; /* the stream works again, and nothing was done */
    get_floats(r.memory, &got, 1, r.stream);
    ck_assert_float_eq(got, 0);
}
END_TEST

START_TEST(begin_and_end)
{
    struct record r;
    cudaGraph_t graph;
    begin(&r);
    ck_refused(api->streamBeginCapture(r.stream, local), cudaErrorIllegalState,
               "in a stream that captures");
    api->streamEndCapture(r.stream, &graph);
    ck_refused(api->streamEndCapture(r.stream, &graph), cudaErrorIllegalState,
               "nothing captured");
    ck_refused(api->streamBeginCapture(r.stream, cudaStreamCaptureModeGlobal),
               cudaErrorInvalidValue, "mode 0");
    ck_refused(api->streamBeginCapture(r.stream, cudaStreamCaptureModeRelaxed),
               cudaErrorInvalidValue, "mode 2");
    ck_good(api->streamBeginCapture(r.stream, local));
    ck_good(api->eventRecord(r.event, r.stream));
    ck_good(api->streamWaitEvent(r.side, r.event, 0));
    ck_refused(api->streamEndCapture(r.side, &graph), cudaErrorStreamCaptureUnmatched,
               "another stream");
}
END_TEST

static void *end_elsewhere(void *opaque)
{
    cudaGraph_t graph;
    const struct record *r = opaque;
    static cudaError_t error;
    error = api->streamEndCapture(r->stream, &graph);
    return &error;
}

START_TEST(another_thread)
{
    struct record r;
    pthread_t thread;
    void *error;
    begin(&r);
    ck_good(pthread_create(&thread, NULL, end_elsewhere, &r));
    ck_good(pthread_join(thread, &error));
    ck_refused(*(cudaError_t *)error, cudaErrorStreamCaptureWrongThread,
               "another thread");
}
END_TEST

/* ---- Streams and edges ----------------------------------------------------------- */

START_TEST(unjoined)
{
    struct record r;
    cudaGraph_t graph;
    begin(&r);
    ck_good(api->eventRecord(r.event, r.stream));
    ck_good(api->streamWaitEvent(r.side, r.event, 0));
    ck_good(add(r.side, NULL, r.memory, 1));
    ck_refused(api->streamEndCapture(r.stream, &graph), cudaErrorStreamCaptureUnjoined,
               "not joined");
    ck_assert_ptr_null(graph);
}
END_TEST

/* A stream with work left may join; where the tests ask for it, it may not. */
START_TEST(busy_join)
{
    struct record r;
    cudaGraph_t graph;
    vgg__simulated.idle_joins = _i;
    begin(&r);
    ck_good(add(r.side, NULL, r.memory, 1));
    ck_good(api->eventRecord(r.event, r.stream));
    if (_i == 0) {
        ck_good(api->streamWaitEvent(r.side, r.event, 0));
        ck_good(api->eventRecord(r.joined, r.side));
        ck_good(api->streamWaitEvent(r.stream, r.joined, 0));
    } else {
        ck_refused(api->streamWaitEvent(r.side, r.event, 0),
                   cudaErrorStreamCaptureImplicit, "has work left");
    }
    ck_good(api->streamEndCapture(r.stream, &graph));
    ck_good(api->graphDestroy(graph));
}
END_TEST

START_TEST(from_outside)
{
    struct record r;
    cudaEvent_t outside = new_event(0);
    cudaStream_t other = new_stream();
    ck_good(api->eventRecord(outside, other));
    begin(&r);
    ck_refused(api->streamWaitEvent(r.stream, outside, 0),
               cudaErrorStreamCaptureIsolation, "from outside");
    cudaGraph_t graph;
    ck_assert_int_eq(api->streamEndCapture(r.stream, &graph),
                     cudaErrorStreamCaptureInvalidated);
}
END_TEST

/* Work of a thread that does not capture itself: what it may not do meets the stream or
 * the event. The host can't ask about an event of a capture that is under way. */
static cudaError_t launch_into_capture(const struct record *r)
{
    return api->graphLaunch(r->exec, r->stream);
}

static cudaError_t ask_captured_event(const struct record *r)
{
    return api->eventSynchronize(r->event);
}

static const struct {
    cudaError_t (*call)(const struct record *r);
    cudaError_t error;
    const char *fragment;
} elsewhere[] = {
    {launch_into_capture, cudaErrorStreamCaptureUnsupported,
     "graphLaunch in a stream that captures"},
    {ask_captured_event, cudaErrorCapturedEvent,
     "eventSynchronize: of an event in capture"},
};

struct task {
    const struct record *record;
    cudaError_t (*call)(const struct record *r);
    cudaError_t error;
};

static void *run_task(void *opaque)
{
    struct task *task = opaque;
    task->error = task->call(task->record);
    return NULL;
}

START_TEST(from_another_thread)
{
    struct record r;
    pthread_t thread;
    begin(&r);
    ck_good(api->eventRecord(r.event, r.stream));
    struct task task = {&r, elsewhere[_i].call, cudaSuccess};
    ck_good(pthread_create(&thread, NULL, run_task, &task));
    ck_good(pthread_join(thread, NULL));
    ck_refused(task.error, elsewhere[_i].error, elsewhere[_i].fragment);
}
END_TEST

/* The same by the thread that captures. */
START_TEST(event_in_capture)
{
    struct record r;
    float ms;
    cudaEvent_t timed = new_event(0);
    begin(&r);
    ck_good(api->eventRecord(timed, r.stream));
    ck_refused(api->eventElapsedTime(&ms, timed, timed),
               cudaErrorStreamCaptureUnsupported, "eventElapsedTime");
}
END_TEST

START_TEST(graph_of_another_device)
{
    struct record r;
    cudaGraph_t graph;
    vgg__simulated.devices[1] = "T4";
    begin(&r);
    ck_good(api->streamEndCapture(r.stream, &graph));
    ck_good(api->setDevice(1));
    ck_refused(api->graphLaunch(r.exec, new_stream()), cudaErrorInvalidValue,
               "graphLaunch: on another device");
}
END_TEST

START_TEST(two_captures)
{
    struct record r;
    begin(&r);
    ck_good(api->eventRecord(r.event, r.stream));
    ck_good(api->streamBeginCapture(r.side, local));
    ck_refused(api->streamWaitEvent(r.side, r.event, 0), cudaErrorStreamCaptureMerge,
               "of another capture");
}
END_TEST

/* Two branches and what comes after both: how many of 40 orders sum up too early. With
 * `joins` the second branch is waited for where it must be; without, at the end. */
static int count_early(bool joins)
{
    int early = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        planted_begin();
        vgg__simulated.seed = seed;
        struct record r;
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        float got;
        begin(&r);
        ck_good(api->eventRecord(r.event, r.stream));
        ck_good(api->streamWaitEvent(r.side, r.event, 0));
        ck_good(add(r.side, NULL, r.memory, 3));
        ck_good(api->eventRecord(r.joined, r.side));
        if (joins) ck_good(api->streamWaitEvent(r.stream, r.joined, 0));
        ck_good(add(r.stream, r.memory, r.memory + 1, 0));
        if (!joins) ck_good(api->streamWaitEvent(r.stream, r.joined, 0));
        ck_good(api->streamEndCapture(r.stream, &graph));
        ck_good(api->graphInstantiate(&exec, graph, 0));
        ck_good(api->graphDestroy(graph));
        ck_good(api->graphLaunch(exec, r.stream));
        get_floats(r.memory + 1, &got, 1, r.stream);
        early += got != 3;
    }
    return early;
}

START_TEST(missing_edge)
{
    ck_assert_int_eq(count_early(true), 0);
    ck_assert_int_gt(count_early(false), 5);
    ck_assert_int_lt(count_early(false), 35);
    planted_no_complaint();
}
END_TEST

/* Arguments are those of the recording, memory's content that of the replay; replays of
 * one graph follow each other. */
START_TEST(replays)
{
    struct record r;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float *pinned, got[3];
    begin(&r);
    ck_good(api->streamEndCapture(r.stream, &graph));
    pinned = new_pinned(256);
    ck_good(api->streamBeginCapture(r.stream, local));
    struct add_args args = {r.memory, r.memory, 1, 10};
    ck_good(launch_add(r.stream, &args));
    args.value = 1000; /* after the call: of no effect */
    ck_good(
        api->memcpyAsync(r.memory + 1, pinned, 4, cudaMemcpyHostToDevice, r.stream));
    ck_good(api->streamEndCapture(r.stream, &graph));
    ck_good(api->graphInstantiate(&exec, graph, 0));
    get_floats(r.memory, got, 3, r.stream);
    ck_assert_float_eq(got[0], 0); /* recorded, not done */
    for (int i = 1; i <= 3; i++) {
        pinned[0] = (float)i;
        ck_good(api->graphLaunch(exec, r.stream));
        ck_good(api->streamSynchronize(r.stream));
    }
    ck_good(api->graphLaunch(exec, r.stream));
    ck_good(api->graphLaunch(exec, r.side)); /* waits for the one before */
    ck_good(api->streamSynchronize(r.side));
    get_floats(r.memory, got, 3, r.stream);
    ck_assert_float_eq(got[0], 50);
    ck_assert_float_eq(got[1], 3);
    planted_no_complaint();
}
END_TEST

START_TEST(gone)
{
    struct record r;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    begin(&r);
    ck_good(api->streamEndCapture(r.stream, &graph));
    ck_refused(api->graphInstantiate(&exec, graph, 1), cudaErrorInvalidValue,
               "flags 1");
    ck_good(api->graphInstantiate(&exec, graph, 0));
    ck_good(api->graphDestroy(graph));
    ck_refused(api->graphDestroy(graph), cudaErrorInvalidValue, "no graph");
    ck_good(api->graphLaunch(exec, r.stream)); /* lives without it */
    ck_good(api->graphExecDestroy(exec));
    ck_refused(api->graphLaunch(exec, r.stream), cudaErrorInvalidValue,
               "no executable graph");
    ck_refused(api->graphExecDestroy(exec), cudaErrorInvalidValue,
               "no executable graph");
    ck_good(api->streamSynchronize(r.stream));
}
END_TEST

START_TEST(leaks)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStream_t stream = new_stream();
    ck_good(api->streamBeginCapture(stream, local));
    ck_good(api->streamEndCapture(stream, &graph));
    ck_good(api->graphInstantiate(&exec, graph, 0));
    ck_good(api->streamDestroy(stream));
    ck_assert_str_eq(vgg__simulated_leak(), "an executable graph");
    ck_good(api->graphExecDestroy(exec));
    ck_assert_str_eq(vgg__simulated_leak(), "a graph");
    ck_good(api->graphDestroy(graph));
    ck_assert_ptr_null(vgg__simulated_leak());
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("planted capture");
    TCase *tcase = tcase_create("faults");
    tcase_add_checked_fixture(tcase, planted_begin, NULL);
    tcase_add_loop_test(tcase, forbidden_call, 0, sizeof forbidden / sizeof *forbidden);
    tcase_add_test(tcase, begin_and_end);
    tcase_add_test(tcase, another_thread);
    tcase_add_test(tcase, unjoined);
    tcase_add_loop_test(tcase, busy_join, 0, 2);
    tcase_add_test(tcase, from_outside);
    tcase_add_loop_test(tcase, from_another_thread, 0,
                        sizeof elsewhere / sizeof *elsewhere);
    tcase_add_test(tcase, event_in_capture);
    tcase_add_test(tcase, graph_of_another_device);
    tcase_add_test(tcase, two_captures);
    tcase_add_test(tcase, missing_edge);
    tcase_add_test(tcase, replays);
    tcase_add_test(tcase, gone);
    tcase_add_test(tcase, leaks);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
