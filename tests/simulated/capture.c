/* SPDX-License-Identifier: Apache-2.0 */
/* Stream capture and graphs: work recorded with what it comes after, replayed node by
 * node in any order that this allows. */
#include "inside.h"

#include <pthread.h>

struct node {
    struct sim_op *op;
    uint32_t *after, count;
};

struct sim_graph {
    struct sim_graph *next;
    uint32_t refs; /* the handle's, executables', replays' */
    bool handle;   /* not destroyed */
    struct node *nodes;
    uint32_t count, room;
};

struct sim_capture {
    struct sim_capture *next;
    cudaStream_t origin;
    pthread_t thread;
    bool invalid;
    struct sim_graph *graph;
};

struct exec {
    struct exec *next;
    int device;
    struct sim_graph *graph;
    struct sim_ticket *last;
};

struct sim_replay {
    struct sim_graph *graph;
    struct progress {
        uint32_t step;
        bool done;
        void *state;
    } * progress;
};

static struct sim_capture *captures;
static struct sim_graph *graphs;
static struct exec *execs;

/* ---- Graphs ---------------------------------------------------------------------- */

static struct sim_graph *new_graph(void)
{
    struct sim_graph *graph = sim_new(sizeof *graph);
    *graph = (struct sim_graph){.next = graphs, .refs = 1};
    graphs = graph;
    return graph;
}

static void drop_graph(struct sim_graph *graph)
{
    if (--graph->refs > 0) return;
    struct sim_graph **link = &graphs;
    while (*link != graph) link = &(*link)->next;
    *link = graph->next;
    for (uint32_t i = 0; i < graph->count; i++) {
        sim_op_drop(graph->nodes[i].op);
        free(graph->nodes[i].after);
    }
    free(graph->nodes);
    free(graph);
}

static uint32_t *copy_nodes(const uint32_t *nodes, uint32_t count)
{
    uint32_t *copy = sim_new(count * sizeof *copy);
    if (count > 0) memcpy(copy, nodes, count * sizeof *copy);
    return copy;
}

static uint32_t add_node(struct sim_graph *graph, struct sim_op *op,
                         const struct sim_front *front)
{
    if (graph->count == graph->room) {
        graph->room = graph->room ? 2 * graph->room : 64;
        struct node *larger = sim_new(graph->room * sizeof *larger);
        if (graph->nodes) memcpy(larger, graph->nodes, graph->count * sizeof *larger);
        free(graph->nodes);
        graph->nodes = larger;
    }
    graph->nodes[graph->count] =
        (struct node){op, copy_nodes(front->nodes, front->count), front->count};
    return graph->count++;
}

/* ---- Recording ------------------------------------------------------------------- */

void sim_front_end(struct sim_front *front)
{
    free(front->nodes);
    *front = (struct sim_front){0};
}

cudaError_t sim_capture_spoil(struct sim_front *front, cudaError_t error,
                              const char *what)
{
    front->capture->invalid = true;
    return sim_refuse(error, "%s in a stream that captures", what);
}

cudaError_t sim_capture_op(struct sim_front *front, struct sim_op *op)
{
    struct sim_capture *capture = front->capture;
    if (capture->invalid) {
        sim_op_drop(op);
        return cudaErrorStreamCaptureInvalidated;
    }
    const uint32_t node = add_node(capture->graph, op, front);
    sim_front_end(front);
    *front = (struct sim_front){capture, copy_nodes(&node, 1), 1};
    return cudaSuccess;
}

cudaError_t sim_capture_record(const struct sim_front *stream, struct sim_front *event)
{
    if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    *event = (struct sim_front){
        stream->capture, copy_nodes(stream->nodes, stream->count), stream->count};
    return cudaSuccess;
}

cudaError_t sim_capture_wait(struct sim_front *stream, const struct sim_front *event)
{
    if (event->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    if (stream->capture && stream->capture != event->capture) {
        stream->capture->invalid = true;
        return sim_refuse(cudaErrorStreamCaptureMerge,
                          "streamWaitEvent: of an event of another capture");
    }
    uint32_t *nodes = sim_new((stream->count + event->count) * sizeof *nodes);
    uint32_t count = 0;
    for (uint32_t i = 0; i < stream->count; i++) nodes[count++] = stream->nodes[i];
    for (uint32_t i = 0; i < event->count; i++) {
        bool known = false;
        for (uint32_t k = 0; k < stream->count; k++)
            known = known || stream->nodes[k] == event->nodes[i];
        if (!known) nodes[count++] = event->nodes[i];
    }
    sim_front_end(stream);
    *stream = (struct sim_front){event->capture, nodes, count};
    return cudaSuccess;
}

cudaError_t sim_capture_begin(struct sim_front *front, cudaStream_t stream,
                              enum cudaStreamCaptureMode mode)
{
    if (front->capture)
        return sim_capture_spoil(front, cudaErrorIllegalState, "streamBeginCapture");
    if (mode != cudaStreamCaptureModeThreadLocal)
        return sim_refuse(cudaErrorInvalidValue,
                          "streamBeginCapture: mode %d is not cudaStreamCaptureMode"
                          "ThreadLocal: the host's other threads would feel it, or "
                          "mistakes be hidden",
                          mode);
    struct sim_capture *capture = sim_new(sizeof *capture);
    *capture = (struct sim_capture){.next = captures,
                                    .origin = stream,
                                    .thread = pthread_self(),
                                    .graph = new_graph()};
    captures = capture;
    front->capture = capture;
    return cudaSuccess;
}

/* Mark all that node comes after. */
static void mark(const struct sim_graph *graph, uint32_t node, bool *joined)
{
    if (joined[node]) return;
    joined[node] = true;
    for (uint32_t i = 0; i < graph->nodes[node].count; i++)
        mark(graph, graph->nodes[node].after[i], joined);
}

static cudaError_t judge(const struct sim_capture *capture,
                         const struct sim_front *front)
{
    if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
    bool *joined = sim_new(capture->graph->count * sizeof *joined);
    for (uint32_t i = 0; i < front->count; i++)
        mark(capture->graph, front->nodes[i], joined);
    const bool unjoined = sim_streams_unjoined(capture, joined);
    free(joined);
    return unjoined ? sim_refuse_unless_failed(
                          cudaErrorStreamCaptureUnjoined,
                          "streamEndCapture: a stream was not joined to the one where "
                          "the capture began")
                    : cudaSuccess;
}

cudaError_t sim_capture_end(struct sim_front *front, cudaStream_t stream,
                            cudaGraph_t *graph)
{
    struct sim_capture *capture = front->capture;
    if (!capture)
        return sim_refuse(cudaErrorIllegalState, "streamEndCapture: nothing captured");
    if (capture->origin != stream) {
        capture->invalid = true;
        return sim_refuse(cudaErrorStreamCaptureUnmatched,
                          "streamEndCapture: the capture began in another stream");
    }
    if (!pthread_equal(capture->thread, pthread_self()))
        return sim_refuse(cudaErrorStreamCaptureWrongThread,
                          "streamEndCapture: the capture began in another thread");
    const cudaError_t error = judge(capture, front);
    sim_streams_leave(capture);
    struct sim_capture **link = &captures;
    while (*link != capture) link = &(*link)->next;
    *link = capture->next;
    if (error) {
        drop_graph(capture->graph);
    } else {
        capture->graph->handle = true;
        *graph = (cudaGraph_t)capture->graph;
    }
    free(capture);
    return error;
}

cudaError_t sim_capture_forbids(const char *name)
{
    for (struct sim_capture *c = captures; c; c = c->next)
        if (pthread_equal(c->thread, pthread_self())) {
            c->invalid = true;
            return sim_refuse(cudaErrorStreamCaptureUnsupported,
                              "%s while the thread captures", name);
        }
    return cudaSuccess;
}

/* ---- Replays --------------------------------------------------------------------- */

struct sim_replay *sim_replay_new(struct sim_graph *graph)
{
    struct sim_replay *replay = sim_new(sizeof *replay);
    graph->refs++;
    replay->graph = graph;
    replay->progress = sim_new(graph->count * sizeof *replay->progress);
    return replay;
}

void sim_replay_end(struct sim_replay *replay)
{
    for (uint32_t i = 0; i < replay->graph->count; i++) free(replay->progress[i].state);
    drop_graph(replay->graph);
    free(replay->progress);
    free(replay);
}

static bool may_go_on(const struct sim_replay *replay, uint32_t node)
{
    const struct node *n = &replay->graph->nodes[node];
    if (replay->progress[node].done) return false;
    for (uint32_t i = 0; i < n->count; i++)
        if (!replay->progress[n->after[i]].done) return false;
    return true;
}

bool sim_replay_step(struct sim_replay *replay)
{
    uint64_t ready = 0;
    uint32_t picked = 0;
    for (uint32_t i = 0; i < replay->graph->count; i++)
        if (may_go_on(replay, i) && sim_random(++ready) == 0) picked = i;
    if (ready == 0) return true;
    struct progress *p = &replay->progress[picked];
    p->done = sim_op_step(replay->graph->nodes[picked].op, &p->step, &p->state);
    return false;
}

bool sim_replay_uses(const struct sim_replay *replay, const void *memory, size_t size)
{
    for (uint32_t i = 0; i < replay->graph->count; i++) {
        const struct sim_op *op = replay->graph->nodes[i].op;
        if (!replay->progress[i].done && op->uses && op->uses(op, memory, size))
            return true;
    }
    return false;
}

/* ---- Calls ----------------------------------------------------------------------- */

static struct sim_graph *graph_of(cudaGraph_t handle)
{
    for (struct sim_graph *g = graphs; g; g = g->next)
        if ((cudaGraph_t)g == handle && g->handle) return g;
    return NULL;
}

static struct exec *exec_of(cudaGraphExec_t handle)
{
    for (struct exec *e = execs; e; e = e->next)
        if ((cudaGraphExec_t)e == handle) return e;
    return NULL;
}

/* What was allowed when it was recorded must be so still. */
static cudaError_t check_nodes(const struct sim_graph *graph, const char *what)
{
    for (uint32_t i = 0; i < graph->count; i++) {
        const struct sim_op *op = graph->nodes[i].op;
        if (op->fits && !op->fits(op))
            return sim_refuse(cudaErrorInvalidValue,
                              "%s: %s needs more shared memory than its function may "
                              "have by now",
                              what, op->name);
    }
    return cudaSuccess;
}

static cudaError_t graph_instantiate(cudaGraphExec_t *handle, cudaGraph_t graph_handle,
                                     unsigned long long flags)
{
    cudaError_t error = sim_enter_outside_capture("graphInstantiate");
    *handle = NULL;
    struct sim_graph *graph = graph_of(graph_handle);
    if (!error && (!graph || flags != 0))
        error = sim_refuse(cudaErrorInvalidValue,
                           "graphInstantiate: no graph, or flags %llu", flags);
    if (!error) error = check_nodes(graph, "graphInstantiate");
    if (!error) {
        struct exec *exec = sim_new(sizeof *exec);
        *exec = (struct exec){execs, sim_device(), graph, NULL};
        graph->refs++;
        execs = exec;
        *handle = (cudaGraphExec_t)exec;
    }
    return sim_leave(error);
}

static cudaError_t graph_launch(cudaGraphExec_t handle, cudaStream_t stream)
{
    cudaError_t error = sim_enter_outside_capture("graphLaunch");
    if (!error) error = sim_stream_check(stream, "graphLaunch");
    struct exec *exec = exec_of(handle);
    if (!error && !exec)
        error = sim_refuse(cudaErrorInvalidValue, "graphLaunch: no executable graph");
    if (!error && exec->device != sim_device())
        error = sim_refuse(cudaErrorInvalidValue, "graphLaunch: on another device");
    if (!error && sim_stream_captures(stream))
        error = sim_refuse(cudaErrorStreamCaptureUnsupported,
                           "graphLaunch in a stream that captures");
    if (!error) error = check_nodes(exec->graph, "graphLaunch");
    if (!error) error = sim_queue_replay(stream, exec->graph, &exec->last);
    return sim_leave(error);
}

static void end_exec(struct exec *exec)
{
    struct exec **link = &execs;
    while (*link != exec) link = &(*link)->next;
    *link = exec->next;
    drop_graph(exec->graph);
    sim_ticket_drop(exec->last);
    free(exec);
}

static cudaError_t graph_exec_destroy(cudaGraphExec_t handle)
{
    const cudaError_t error = sim_enter("graphExecDestroy");
    struct exec *exec = exec_of(handle);
    if (!exec)
        return sim_leave(
            sim_refuse(cudaErrorInvalidValue, "graphExecDestroy: no executable graph"));
    end_exec(exec);
    return sim_leave(error);
}

static cudaError_t graph_destroy(cudaGraph_t handle)
{
    const cudaError_t error = sim_enter("graphDestroy");
    struct sim_graph *graph = graph_of(handle);
    if (!graph)
        return sim_leave(sim_refuse(cudaErrorInvalidValue, "graphDestroy: no graph"));
    graph->handle = false;
    drop_graph(graph);
    return sim_leave(error);
}

bool sim_capture_leak(char *text, size_t room)
{
    if (execs) snprintf(text, room, "an executable graph");
    if (graphs && !execs) snprintf(text, room, "a graph");
    return execs || graphs;
}

/* Streams and their work are gone. */
void sim_capture_reset(void)
{
    while (execs) end_exec(execs);
    while (captures) {
        struct sim_capture *next = captures->next;
        drop_graph(captures->graph);
        free(captures);
        captures = next;
    }
    while (graphs) {
        graphs->refs = 1;
        drop_graph(graphs);
    }
}

void sim_capture_table(struct vgg__api *api)
{
    api->graphInstantiate = graph_instantiate;
    api->graphLaunch = graph_launch;
    api->graphExecDestroy = graph_exec_destroy;
    api->graphDestroy = graph_destroy;
}
