/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the simulated device share. All of it is called with the lock held,
 * which sim_enter() takes and sim_leave() gives back. */
#ifndef VGG_TEST_SIMULATED_INSIDE_H
#define VGG_TEST_SIMULATED_INSIDE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn/api.h"
#include "simulated.h"
#include "site.h"

/* ---- Calls (api.c) --------------------------------------------------------------- */

/* Begin call `name` of the table: the error that it is to end with before it has done
 * anything (an injected one, or that of a lost device), or success. */
cudaError_t sim_enter(const char *name);
/* The same for a call that capture forbids. */
cudaError_t sim_enter_outside_capture(const char *name);
cudaError_t sim_leave(cudaError_t error);
/* The same for cuDNN and cuBLASLt, whose statuses are other numbers. */
cudnnStatus_t sim_dnn_enter(const char *name, bool in_capture);
cudnnStatus_t sim_dnn_leave(cudnnStatus_t status);
cublasStatus_t sim_lt_enter(const char *name, bool in_capture);
cublasStatus_t sim_lt_leave(cublasStatus_t status);

/* Note a misuse that the call tells with an error; `site` is where it was found. */
cudaError_t sim_refuse_at(const char *site, cudaError_t error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
cudnnStatus_t sim_dnn_refuse_at(const char *site, cudnnStatus_t status,
                                const char *format, ...)
    __attribute__((format(printf, 3, 4)));
cublasStatus_t sim_lt_refuse_at(const char *site, cublasStatus_t status,
                                const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, but no misuse where an injected failure may have led to it. */
cudaError_t sim_refuse_unless_failed_at(const char *site, cudaError_t error,
                                        const char *what);
/* Note a misuse that hardware would not tell: the device is lost. */
void sim_violate_at(const char *site, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#define sim_refuse(...)     sim_refuse_at(VGG__SITE, __VA_ARGS__)
#define sim_dnn_refuse(...) sim_dnn_refuse_at(VGG__SITE, __VA_ARGS__)
#define sim_lt_refuse(...)  sim_lt_refuse_at(VGG__SITE, __VA_ARGS__)
#define sim_refuse_unless_failed(error, what)                                          \
    sim_refuse_unless_failed_at(VGG__SITE, error, what)
#define sim_violate(...) sim_violate_at(VGG__SITE, __VA_ARGS__)
cudaError_t sim_lost(void); /* cudaSuccess: it is not */

/* Draw from vgg__simulated.seed; `below` > 0. */
uint64_t sim_random(uint64_t below);
/* A number of the seed and `key` alone. */
uint64_t sim_hash(uint64_t key);
uint64_t sim_hash_text(const char *text);
uint64_t sim_hash_bytes(uint64_t before, const void *bytes, size_t size);

/* Memory of the simulator itself; ends the test program if there is none. */
void *sim_new(size_t size);

/* ---- Memory (memory.c) ----------------------------------------------------------- */

/* Between these, device memory can be read and written. They nest. */
void sim_memory_open(void);
void sim_memory_close(void);
/* Is all of it within one live allocation on the device? `why` is filled in if not. */
bool sim_device_range(const void *memory, size_t size, char *why, size_t room);
/* Page-locked host memory. */
bool sim_pinned_range(const void *memory, size_t size);
/* Can `word` be a pointer to memory that a kernel may not touch? */
bool sim_bad_pointer(uint64_t word, char *why, size_t room);
uint64_t sim_memory_used(int device);
bool sim_memory_leak(char *text, size_t room);
void sim_memory_reset(void);
/* What is being carried out, for the text of a fault. */
void sim_memory_running(const char *what);

/* ---- Work (stream.c) ------------------------------------------------------------- */

/* A piece of work, first member of every kind of it. It may be carried out many times
 * (a captured one); what one time needs from step to step is in `state`. */
struct sim_op {
    uint32_t refs, steps; /* steps: other streams' work may come in between */
    const char *name;
    uint64_t cost;     /* nanoseconds */
    uint64_t identity; /* equal: the same work on the same memory; 0: not known */
    void (*run)(struct sim_op *op, uint32_t step, void **state);
    void (*drop)(struct sim_op *op); /* what it holds; NULL: nothing */
    /* Does it read or write host memory there? NULL: it does not. */
    bool (*uses)(const struct sim_op *op, const void *memory, size_t size);
    /* Is it still allowed, when a graph that has it is used? NULL: always. */
    bool (*fits)(const struct sim_op *op);
};

/* A new piece of work of `size` bytes with one step. */
void *sim_op_new(size_t size, const char *name,
                 void (*run)(struct sim_op *op, uint32_t step, void **state));
void sim_op_drop(struct sim_op *op);

/* Let `stream` do it, or its capture record it; takes the reference. */
cudaError_t sim_queue(cudaStream_t stream, struct sim_op *op);
/* The error for queueing on a stream that is none, or another device's. */
cudaError_t sim_stream_check(cudaStream_t stream, const char *what);
bool sim_stream_captures(cudaStream_t stream);
void sim_finish_all(void);
/* Does queued work read or write this host memory? */
bool sim_host_in_use(const void *memory, size_t size);
/* Streams and events of a capture that has ended leave it; `joined`: which of its nodes
 * the end comes after. */
struct sim_capture;
void sim_streams_leave(const struct sim_capture *capture);
bool sim_streams_unjoined(const struct sim_capture *capture, const bool *joined);
bool sim_stream_leak(char *text, size_t room);
void sim_stream_reset(void);

/* ---- Capture (capture.c) --------------------------------------------------------- */

struct sim_graph;

/* What a stream or event in capture comes after: nodes of the graph to be. */
struct sim_front {
    struct sim_capture *capture; /* NULL: not in capture */
    uint32_t *nodes, count;
};

void sim_front_end(struct sim_front *front);
/* Append work to a stream in capture; takes the reference. */
cudaError_t sim_capture_op(struct sim_front *front, struct sim_op *op);
/* An event recorded in capture, and a stream that waits for it. */
cudaError_t sim_capture_record(const struct sim_front *stream, struct sim_front *event);
cudaError_t sim_capture_wait(struct sim_front *stream, const struct sim_front *event);
cudaError_t sim_capture_begin(struct sim_front *front, cudaStream_t stream,
                              enum cudaStreamCaptureMode mode);
cudaError_t sim_capture_end(struct sim_front *front, cudaStream_t stream,
                            cudaGraph_t *graph);
/* A call that capture forbids: cudaSuccess if this thread captures nothing. */
cudaError_t sim_capture_forbids(const char *name);
cudaError_t sim_capture_spoil(struct sim_front *front, cudaError_t error,
                              const char *what);
bool sim_capture_leak(char *text, size_t room);
void sim_capture_reset(void);

/* A replay under way. */
struct sim_replay;
struct sim_replay *sim_replay_new(struct sim_graph *graph);
/* One step of a node drawn among those that may go on; true: all is done. */
bool sim_replay_step(struct sim_replay *replay);
void sim_replay_end(struct sim_replay *replay);
bool sim_replay_uses(const struct sim_replay *replay, const void *memory, size_t size);

/* Carry out one step; true: it was the last. Advances the device's clock. */
bool sim_op_step(struct sim_op *op, uint32_t *step, void **state);

/* The call behind graphLaunch, in stream.c: queue a replay. `last` is the executable
 * graph's own: replays of one never overlap. */
struct sim_ticket;
cudaError_t sim_queue_replay(cudaStream_t stream, struct sim_graph *graph,
                             struct sim_ticket **last);
void sim_ticket_drop(struct sim_ticket *ticket);

/* ---- Devices (device.c) ---------------------------------------------------------- */

int sim_device(void); /* the thread's */
const struct cudaDeviceProp *sim_properties(int device);
void sim_device_reset(void);

/* ---- Launches (launch.c) --------------------------------------------------------- */

void sim_launch_reset(void);

/* ---- The rest -------------------------------------------------------------------- */

bool sim_dnn_leak(char *text, size_t room);
void sim_dnn_reset(void);
bool sim_lt_leak(char *text, size_t room);
void sim_lt_reset(void);

/* Element types that device memory is read as. */
float sim_bf16_get(const void *at);
void sim_bf16_put(void *at, double value);
double sim_round(double value,
                 int bits); /* to so many significant bits, nearest even */

/* Every file's entries of the table. */
void sim_memory_table(struct vgg__api *api);
void sim_stream_table(struct vgg__api *api);
void sim_capture_table(struct vgg__api *api);
void sim_device_table(struct vgg__api *api);
void sim_launch_table(struct vgg__api *api);
void sim_dnn_table(struct vgg__api *api);
void sim_lt_table(struct vgg__api *api);

#endif
