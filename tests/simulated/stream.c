/* SPDX-License-Identifier: Apache-2.0 */
/* Streams and events. Nothing is done when it is queued: a call that waits carries out
 * queued work, of all streams, until what it waits for is done. In a stream it goes in
 * order; between streams nothing but events decides, and then chance. */
#include "inside.h"

/* Done or not; what an event's last recording is to those that wait for it. */
struct sim_ticket {
    uint32_t refs;
    bool done;
    uint64_t time; /* nanoseconds, when it was done */
};

/* An entry of a stream: wait for `after`, do the work, then `signal`. */
struct entry {
    struct entry *next;
    struct sim_op *op;
    struct sim_replay *replay;
    struct sim_ticket *after, *signal;
    uint32_t step;
    void *state;
};

struct stream {
    struct stream *next;
    int device;
    struct entry *first, *last;
    struct sim_front front; /* in capture */
};

struct event {
    struct event *next;
    int device;
    bool timed;
    struct sim_ticket *ticket; /* NULL: never recorded */
    struct sim_front front;    /* recorded in capture */
};

static struct stream *streams;
static struct event *events;
static uint64_t now;

/* ---- Small parts ----------------------------------------------------------------- */

void *sim_op_new(size_t size, const char *name,
                 void (*run)(struct sim_op *op, uint32_t step, void **state))
{
    struct sim_op *op = sim_new(size);
    *op =
        (struct sim_op){.refs = 1, .steps = 1, .name = name, .cost = 1000, .run = run};
    return op;
}

void sim_op_drop(struct sim_op *op)
{
    if (!op || --op->refs > 0) return;
    if (op->drop) op->drop(op);
    free(op);
}

static struct sim_ticket *hold(struct sim_ticket *ticket)
{
    if (ticket) ticket->refs++;
    return ticket;
}

void sim_ticket_drop(struct sim_ticket *ticket)
{
    if (ticket && --ticket->refs == 0) free(ticket);
}

static struct sim_ticket *new_ticket(void)
{
    struct sim_ticket *ticket = sim_new(sizeof *ticket);
    ticket->refs = 1;
    return ticket;
}

static struct stream *stream_of(cudaStream_t handle)
{
    for (struct stream *s = streams; s; s = s->next)
        if ((cudaStream_t)s == handle) return s;
    return NULL;
}

static struct event *event_of(cudaEvent_t handle)
{
    for (struct event *e = events; e; e = e->next)
        if ((cudaEvent_t)e == handle) return e;
    return NULL;
}

static void end_entry(struct entry *entry)
{
    sim_op_drop(entry->op);
    sim_ticket_drop(entry->after);
    sim_ticket_drop(entry->signal);
    if (entry->replay) sim_replay_end(entry->replay);
    free(entry->state);
    free(entry);
}

static struct entry *append(struct stream *stream)
{
    struct entry *entry = sim_new(sizeof *entry);
    if (stream->last)
        stream->last->next = entry;
    else
        stream->first = entry;
    stream->last = entry;
    return entry;
}

static void take_first(struct stream *stream)
{
    struct entry *entry = stream->first;
    stream->first = entry->next;
    if (!stream->first) stream->last = NULL;
    end_entry(entry);
}

/* ---- Carrying out ---------------------------------------------------------------- */

bool sim_op_step(struct sim_op *op, uint32_t *step, void **state)
{
    sim_memory_running(op->name);
    op->run(op, *step, state);
    sim_memory_running(NULL);
    if (++*step < op->steps) return false;
    now += op->cost;
    return true;
}

static void run_pause(struct sim_op *op, uint32_t step, void **state)
{
    (void)op, (void)step, (void)state;
}

static bool is_ready(const struct stream *stream)
{
    return stream->first && (!stream->first->after || stream->first->after->done);
}

static void advance(struct stream *stream)
{
    struct entry *entry = stream->first;
    bool done = true;
    if (entry->op) done = sim_op_step(entry->op, &entry->step, &entry->state);
    if (entry->replay) done = sim_replay_step(entry->replay);
    if (!done) return;
    if (entry->signal) {
        entry->signal->done = true;
        entry->signal->time = now;
    }
    take_first(stream);
}

static bool has_before(const struct stream *stream, const struct entry *entry)
{
    for (const struct entry *e = stream->first; e != entry; e = e->next)
        if (e->op && e->op->identity == entry->op->identity) return true;
    return false;
}

/* Take out the repetitions of work before `ticket`; their time passes. */
static void shorten(const struct sim_ticket *ticket)
{
    for (struct stream *s = streams; s; s = s->next) {
        const struct entry *end = s->first;
        while (end && end->signal != ticket) end = end->next;
        for (struct entry *e = s->first; end && e != end; e = e->next) {
            if (!e->op || e->op->identity == 0 || !has_before(s, e)) continue;
            struct sim_op *pause = sim_op_new(sizeof *pause, "pause", run_pause);
            pause->cost = e->op->cost;
            sim_op_drop(e->op);
            e->op = pause;
        }
    }
}

/* One step of a stream that chance picks; false: none can go on. */
static bool advance_any(void)
{
    struct stream *ready = NULL;
    uint64_t count = 0;
    for (struct stream *s = streams; s; s = s->next)
        if (is_ready(s) && sim_random(++count) == 0) ready = s;
    if (ready) advance(ready);
    return ready != NULL;
}

/* The work of a lost device is never done; what waits for it gets the error. */
static void abandon_all(void)
{
    for (struct stream *s = streams; s; s = s->next)
        while (s->first) {
            if (s->first->signal) s->first->signal->done = true;
            take_first(s);
        }
}

static bool all_done(const struct stream *stream)
{
    if (stream) return !stream->first;
    for (const struct stream *s = streams; s; s = s->next)
        if (s->first) return false;
    return true;
}

/* Until the ticket is done, or without one the stream's work, or everybody's. */
static void finish(const struct sim_ticket *ticket, const struct stream *stream)
{
    sim_memory_open();
    while (!(ticket ? ticket->done : all_done(stream)))
        if (sim_lost() || !advance_any()) break;
    sim_memory_close();
    if (sim_lost()) abandon_all();
}

void sim_finish_all(void)
{
    finish(NULL, NULL);
}

/* ---- Queueing -------------------------------------------------------------------- */

cudaError_t sim_stream_check(cudaStream_t handle, const char *what)
{
    const struct stream *stream = stream_of(handle);
    if (!handle || handle == cudaStreamLegacy || handle == cudaStreamPerThread)
        return sim_refuse(cudaErrorInvalidResourceHandle,
                          "%s: the default stream, which waits for all others", what);
    if (!stream)
        return sim_refuse(cudaErrorInvalidResourceHandle, "%s: no stream", what);
    if (stream->device != sim_device())
        return sim_refuse(cudaErrorInvalidResourceHandle,
                          "%s: device %d is set, the stream is of device %d", what,
                          sim_device(), stream->device);
    return cudaSuccess;
}

bool sim_stream_captures(cudaStream_t handle)
{
    const struct stream *stream = stream_of(handle);
    return stream && stream->front.capture;
}

cudaError_t sim_queue(cudaStream_t handle, struct sim_op *op)
{
    struct stream *stream = stream_of(handle);
    if (stream->front.capture) return sim_capture_op(&stream->front, op);
    append(stream)->op = op;
    return cudaSuccess;
}

cudaError_t sim_queue_replay(cudaStream_t handle, struct sim_graph *graph,
                             struct sim_ticket **last)
{
    struct stream *stream = stream_of(handle);
    struct entry *entry = append(stream);
    entry->replay = sim_replay_new(graph);
    entry->after = *last;
    entry->signal = new_ticket();
    *last = hold(entry->signal);
    return cudaSuccess;
}

bool sim_host_in_use(const void *memory, size_t size)
{
    for (const struct stream *s = streams; s; s = s->next)
        for (const struct entry *e = s->first; e; e = e->next) {
            if (e->op && e->op->uses && e->op->uses(e->op, memory, size)) return true;
            if (e->replay && sim_replay_uses(e->replay, memory, size)) return true;
        }
    return false;
}

/* ---- Streams --------------------------------------------------------------------- */

static cudaError_t stream_create(cudaStream_t *handle, unsigned flags)
{
    cudaError_t error = sim_enter_outside_capture("streamCreateWithFlags");
    *handle = NULL;
    if (!error && !sim_properties(sim_device())) error = cudaErrorNoDevice;
    if (!error && flags != cudaStreamNonBlocking)
        error = sim_refuse(cudaErrorInvalidValue,
                           "streamCreateWithFlags: a stream that waits for the default "
                           "stream, and so for the rest of the process");
    if (!error) {
        struct stream *stream = sim_new(sizeof *stream);
        *stream = (struct stream){.next = streams, .device = sim_device()};
        streams = stream;
        *handle = (cudaStream_t)stream;
    }
    return sim_leave(error);
}

static cudaError_t stream_destroy(cudaStream_t handle)
{
    const cudaError_t error = sim_enter("streamDestroy");
    struct stream *stream = stream_of(handle);
    if (!stream)
        return sim_leave(
            sim_refuse(cudaErrorInvalidResourceHandle, "streamDestroy: no stream"));
    if (stream->front.capture) {
        const cudaError_t spoilt = sim_capture_spoil(
            &stream->front, cudaErrorStreamCaptureUnsupported, "streamDestroy");
        return sim_leave(error ? error : spoilt);
    }
    finish(NULL, stream);
    struct stream **link = &streams;
    while (*link != stream) link = &(*link)->next;
    *link = stream->next;
    free(stream);
    return sim_leave(error);
}

static cudaError_t stream_synchronize(cudaStream_t handle)
{
    cudaError_t error = sim_enter_outside_capture("streamSynchronize");
    if (!error) error = sim_stream_check(handle, "streamSynchronize");
    struct stream *stream = stream_of(handle);
    if (!error && stream->front.capture)
        error = sim_capture_spoil(&stream->front, cudaErrorStreamCaptureUnsupported,
                                  "streamSynchronize");
    if (!error) finish(NULL, stream);
    return sim_leave(error);
}

static cudaError_t stream_wait_event(cudaStream_t handle, cudaEvent_t event_handle,
                                     unsigned flags)
{
    cudaError_t error = sim_enter("streamWaitEvent");
    if (!error) error = sim_stream_check(handle, "streamWaitEvent");
    struct event *event = event_of(event_handle);
    if (!error && (!event || flags != 0))
        error = sim_refuse(cudaErrorInvalidResourceHandle,
                           "streamWaitEvent: no event, or flags %u", flags);
    if (error) return sim_leave(error);
    struct stream *stream = stream_of(handle);
    const bool joins = event->front.capture && !stream->front.capture;
    if (joins && stream->first && vgg__simulated.idle_joins) {
        error = sim_refuse(cudaErrorStreamCaptureImplicit,
                           "streamWaitEvent: the stream that joins a capture has work "
                           "left");
    } else if (event->front.capture) {
        error = sim_capture_wait(&stream->front, &event->front);
    } else if (stream->front.capture) {
        error = sim_capture_spoil(&stream->front, cudaErrorStreamCaptureIsolation,
                                  "streamWaitEvent: of an event from outside");
    } else {
        append(stream)->after = hold(event->ticket);
    }
    return sim_leave(error);
}

static cudaError_t stream_begin_capture(cudaStream_t handle,
                                        enum cudaStreamCaptureMode mode)
{
    cudaError_t error = sim_enter("streamBeginCapture");
    if (!error) error = sim_stream_check(handle, "streamBeginCapture");
    if (!error) error = sim_capture_begin(&stream_of(handle)->front, handle, mode);
    return sim_leave(error);
}

static cudaError_t stream_end_capture(cudaStream_t handle, cudaGraph_t *graph)
{
    *graph = NULL;
    cudaError_t error = sim_enter("streamEndCapture");
    const struct stream *known = stream_of(handle);
    /* After a failure it must still end, so that the stream can be used again. */
    if (known) {
        const cudaError_t ended =
            sim_capture_end(&stream_of(handle)->front, handle, graph);
        if (!error) error = ended;
    } else if (!error) {
        error = sim_stream_check(handle, "streamEndCapture");
    }
    return sim_leave(error);
}

/* All streams that took part leave a capture that has ended. */
void sim_streams_leave(const struct sim_capture *capture)
{
    for (struct stream *s = streams; s; s = s->next)
        if (s->front.capture == capture) sim_front_end(&s->front);
    for (struct event *e = events; e; e = e->next)
        if (e->front.capture == capture) sim_front_end(&e->front);
}

bool sim_streams_unjoined(const struct sim_capture *capture, const bool *joined)
{
    for (struct stream *s = streams; s; s = s->next)
        for (uint32_t i = 0; s->front.capture == capture && i < s->front.count; i++)
            if (!joined[s->front.nodes[i]]) return true;
    return false;
}

/* ---- Events ---------------------------------------------------------------------- */

static cudaError_t event_create(cudaEvent_t *handle, unsigned flags)
{
    cudaError_t error = sim_enter("eventCreateWithFlags");
    *handle = NULL;
    if (!error && !sim_properties(sim_device())) error = cudaErrorNoDevice;
    if (!error) {
        struct event *event = sim_new(sizeof *event);
        *event = (struct event){.next = events,
                                .device = sim_device(),
                                .timed = !(flags & cudaEventDisableTiming)};
        events = event;
        *handle = (cudaEvent_t)event;
    }
    return sim_leave(error);
}

static cudaError_t event_record(cudaEvent_t handle, cudaStream_t stream_handle)
{
    cudaError_t error = sim_enter("eventRecord");
    if (!error) error = sim_stream_check(stream_handle, "eventRecord");
    struct event *event = event_of(handle);
    if (!error && (!event || event->device != sim_device()))
        error = sim_refuse(cudaErrorInvalidResourceHandle,
                           "eventRecord: no event of this device");
    if (error) return sim_leave(error);
    struct stream *stream = stream_of(stream_handle);
    sim_front_end(&event->front);
    if (stream->front.capture)
        return sim_leave(sim_capture_record(&stream->front, &event->front));
    sim_ticket_drop(event->ticket);
    event->ticket = new_ticket();
    append(stream)->signal = hold(event->ticket);
    return sim_leave(cudaSuccess);
}

/* The event, if it can be asked about by the host. */
static cudaError_t asked(cudaEvent_t handle, const char *what)
{
    const struct event *event = event_of(handle);
    if (!event) return sim_refuse(cudaErrorInvalidResourceHandle, "%s: no event", what);
    if (event->front.capture)
        return sim_refuse(cudaErrorCapturedEvent, "%s: of an event in capture", what);
    return cudaSuccess;
}

static cudaError_t event_synchronize(cudaEvent_t handle)
{
    cudaError_t error = sim_enter_outside_capture("eventSynchronize");
    if (!error) error = asked(handle, "eventSynchronize");
    const struct event *event = event_of(handle);
    if (!error && event->timed && vgg__simulated.hurry) shorten(event->ticket);
    if (!error && event->ticket) finish(event->ticket, NULL);
    return sim_leave(error);
}

static cudaError_t event_elapsed(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    cudaError_t error = sim_enter_outside_capture("eventElapsedTime");
    if (!error) error = asked(from, "eventElapsedTime");
    if (!error) error = asked(to, "eventElapsedTime");
    const struct event *a = event_of(from), *b = event_of(to);
    if (!error && (!a->timed || !b->timed || !a->ticket || !b->ticket))
        error = sim_refuse_unless_failed(cudaErrorInvalidResourceHandle,
                                         "eventElapsedTime: of an event without time");
    if (!error && (!a->ticket->done || !b->ticket->done))
        error =
            sim_refuse_unless_failed(cudaErrorNotReady, "eventElapsedTime: not ready");
    if (!error) *ms = (float)((double)(b->ticket->time - a->ticket->time) * 1e-6);
    return sim_leave(error);
}

static cudaError_t event_destroy(cudaEvent_t handle)
{
    const cudaError_t error = sim_enter("eventDestroy");
    struct event *event = event_of(handle);
    if (!event)
        return sim_leave(
            sim_refuse(cudaErrorInvalidResourceHandle, "eventDestroy: no event"));
    struct event **link = &events;
    while (*link != event) link = &(*link)->next;
    *link = event->next;
    sim_ticket_drop(event->ticket);
    sim_front_end(&event->front);
    free(event);
    return sim_leave(error);
}

/* ---- The end --------------------------------------------------------------------- */

bool sim_stream_leak(char *text, size_t room)
{
    if (streams) snprintf(text, room, "a stream");
    if (events) snprintf(text, room, "an event");
    return streams || events;
}

void sim_stream_reset(void)
{
    abandon_all();
    while (streams) {
        struct stream *next = streams->next;
        sim_front_end(&streams->front);
        free(streams);
        streams = next;
    }
    while (events) {
        struct event *next = events->next;
        sim_ticket_drop(events->ticket);
        sim_front_end(&events->front);
        free(events);
        events = next;
    }
    now = 0;
}

void sim_stream_table(struct vgg__api *api)
{
    api->streamCreateWithFlags = stream_create;
    api->streamDestroy = stream_destroy;
    api->streamSynchronize = stream_synchronize;
    api->streamWaitEvent = stream_wait_event;
    api->streamBeginCapture = stream_begin_capture;
    api->streamEndCapture = stream_end_capture;
    api->eventCreateWithFlags = event_create;
    api->eventRecord = event_record;
    api->eventSynchronize = event_synchronize;
    api->eventElapsedTime = event_elapsed;
    api->eventDestroy = event_destroy;
}
