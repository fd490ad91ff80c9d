/* SPDX-License-Identifier: Apache-2.0 */
/* See session.h. All memory has guards; everything is read back as double. */
#include "session.h"

#include <math.h>

#include "core/context.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/random.h"
#include "guard.h"
#include "harness.h"

const struct target target_ref64 = {
    "ref in double", &vgg__engine_ref, VGG_FP64, 1, VGG_GEMM_AUTO, 0, 53, 53};
const struct target target_ref32 = {
    "ref in float", &vgg__engine_ref, VGG_FP32, 1, VGG_GEMM_AUTO, 1e-5, 24, 24};

__attribute__((weak)) void session_opening(void)
{
}

__attribute__((weak)) void session_closed(void)
{
}

__attribute__((weak)) bool session_takes(const struct net *net, uint32_t batch)
{
    return true;
}

/* ---- Data ------------------------------------------------------------ */

struct stream {
    uint64_t seed, index;
    uint32_t kind;
};

/* Uniform in [-1, 1) in steps of 2^-20, which leaves room to add an epsilon exactly; or
 * an integer from -2 to 2. */
static float draw(struct stream *stream)
{
    uint32_t words[4];
    vgg__random(stream->seed, 1, 0, stream->index++, words);
    if (stream->kind != DATA_REAL) return (float)(words[0] % 5) - 2.0f;
    return (float)(int32_t)(words[0] >> 11) * 0x1p-20f - 1.0f;
}

static float *draw_array(struct stream *stream, size_t count, float factor,
                         float offset)
{
    float *array = guard_array(count, sizeof *array);
    for (size_t i = 0; i < count; i++) array[i] = draw(stream) * factor + offset;
    return array;
}

/* About two of an output's inputs have a weight, of 1 or -1. */
static float *draw_sparse(struct stream *stream, size_t count, uint32_t fan)
{
    float *array = guard_array(count, sizeof *array);
    for (size_t i = 0; i < count; i++) {
        uint32_t words[4];
        vgg__random(stream->seed, 1, 0, stream->index++, words);
        if (words[0] % fan < 2) array[i] = words[1] % 2 ? 1.0f : -1.0f;
    }
    return array;
}

/* Weights so that activations keep their size from layer to layer. */
static float *draw_param(struct stream *stream, const struct net *net, uint32_t index)
{
    const size_t count = net->params[index].count;
    if (stream->kind == DATA_SPARSE && net->fan[index] > 0)
        return draw_sparse(stream, count, net->fan[index]);
    if (stream->kind == DATA_SPARSE) return draw_array(stream, count, 1, 0);
    if (stream->kind == DATA_INTEGER) return draw_array(stream, count, 1, 0);
    if (net->fan[index] > 0)
        return draw_array(stream, count, sqrtf(6.0f / (float)net->fan[index]), 0);
    /* Running variances are positive; near 1 does no harm to the other vectors. */
    return draw_array(stream, count, 0.5f, net->params[index].buffer ? 1.0f : 0.25f);
}

void data_create(struct data *data, const struct net *net, uint32_t count,
                 uint32_t kind, uint64_t seed)
{
    struct stream stream = {seed, 0, kind};
    *data = (struct data){.count = count, .scale = 1};
    data->input = draw_array(&stream, count * net_input_count(net), 1, 0);
    data->dy = draw_array(&stream, count * net_output_count(net), 1, 0);
    for (uint32_t i = 0; i < net->param_count; i++)
        data->params[i] = draw_param(&stream, net, i);
    for (uint32_t i = 0; i < net->stage_count; i++) {
        const vgg_stage *stage = &net->stages[i];
        if (stage->kind == VGG_STAGE_TAP)
            data->taps[stage->tap] =
                draw_array(&stream, count * net_extent(stage->in), 1, 0);
    }
    data->labels = guard_array(count, sizeof *data->labels);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t words[4];
        vgg__random(seed, 2, 0, i, words);
        data->labels[i] = words[0] % (uint32_t)net_output_count(net);
    }
}

void data_free(struct data *data)
{
    guard_free(data->input);
    guard_free(data->dy);
    guard_free(data->labels);
    for (uint32_t i = 0; i < NET_PARAMS; i++) guard_free(data->params[i]);
    for (uint32_t i = 0; i < NET_TAPS; i++) guard_free((float *)data->taps[i]);
    *data = (struct data){0};
}

/* ---- Sessions ------------------------------------------------------------ */

vgg_host session_host(vgg_context *ctx)
{
    return (vgg_host){.abi = VGG_ENGINE_ABI,
                      .size = sizeof(vgg_host),
                      .ctx = ctx,
                      .alloc = vgg__alloc,
                      .release = vgg__free,
                      .fail = vgg__fail,
                      .log = vgg__log};
}

void session_open_device(struct session *s, const vgg_context_options *opts)
{
    session_opening();
    ck_ok(vgg_context_create(opts, &s->ctx));
    s->host = session_host(s->ctx);
    ck_ok(s->target->engine->open(&s->host, 0, &s->device));
}

void session_open(struct session *s, const struct target *target,
                  const struct net *plain, uint32_t batch, uint32_t mode, bool taps)
{
    *s = (struct session){.target = target};
    net_fuse(plain, target->engine->fusions, &s->net);
    if (taps)
        for (uint32_t i = 0; i < s->net.stage_count; i++)
            s->net.stages[i].tap = (int32_t)i;
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &guard_allocator;
    opts.threads = target->threads;
    opts.gemm = target->gemm;
    opts.conv = target->conv;
    session_open_device(s, &opts);
    const vgg_engine *engine = target->engine;
    ck_ok(engine->store_create(s->device, s->net.params, s->net.param_count,
                               target->precision, &s->store));
    if (mode != VGG_MODE_INFER) ck_ok(engine->store_gradients(s->store, s->net.params));

    const vgg_program_desc desc = {.stages = s->net.stages,
                                   .stage_count = s->net.stage_count,
                                   .batch = batch,
                                   .mode = mode,
                                   .precision = target->precision,
                                   .input_gradient =
                                       mode != VGG_MODE_INFER && !target->no_dx,
                                   .deterministic = target->apart && !target->tunes,
                                   .params = s->net.params,
                                   .param_count = s->net.param_count};
    const uint64_t before = vgg_context_bytes(s->ctx);
    uint64_t bytes = 0;
    ck_ok(engine->measure(s->device, &desc, &bytes));
    ck_assert_uint_eq(vgg_context_bytes(s->ctx), before);
    ck_ok(engine->compile(s->device, s->store, &desc, &s->program));
    /* The context counts a header for each of the program's four blocks. */
    if (!target->apart)
        ck_assert_uint_eq(vgg_context_bytes(s->ctx) - before, bytes + 4 * VGG_ALIGN);
}

void session_close(struct session *s)
{
    const vgg_engine *engine = s->target->engine;
    engine->program_free(s->program);
    engine->store_free(s->store);
    engine->close(s->device);
    ck_assert_uint_eq(vgg_context_bytes(s->ctx), 0);
    vgg_context_free(s->ctx);
    session_closed();
    *s = (struct session){0};
}

void session_write(struct session *s, const struct data *data)
{
    for (uint32_t i = 0; i < s->net.param_count; i++)
        ck_ok(s->target->engine->store_write(s->store, i, VGG_SLOT_VALUE,
                                             data->params[i], VGG_F32));
}

vgg_run session_run_desc(const struct data *data)
{
    return (vgg_run){.count = data->count,
                     .input = data->input,
                     .seed = 0x123456789abcdef,
                     .step = 7,
                     .first = 5,
                     .labels = data->labels,
                     .smoothing = data->smoothing,
                     .scale = data->scale};
}

void session_forward(struct session *s, const struct data *data)
{
    const vgg_run run = session_run_desc(data);
    ck_ok(s->target->engine->run(s->program, VGG_PHASE_FORWARD, &run));
}

/* ---- Whole runs ------------------------------------------------------------ */

static double *read_view(struct session *s, vgg_view view, uint32_t index, size_t count)
{
    double *array = guard_array(count, sizeof *array);
    ck_ok(s->target->engine->read(s->program, view, index, array, VGG_F64));
    return array;
}

static double *read_slot(struct session *s, uint32_t param, vgg_slot slot)
{
    double *array = guard_array(s->net.params[param].count, sizeof *array);
    ck_ok(s->target->engine->store_read(s->store, param, slot, array, VGG_F64));
    return array;
}

static void run_back(struct session *s, const struct data *data, struct outcome *out)
{
    vgg_run run = session_run_desc(data);
    if (!net_has_loss(&s->net)) run.output_gradient = data->dy;
    run.tap_gradients = data->taps;
    ck_ok(s->target->engine->run(s->program, VGG_PHASE_BACKWARD, &run));
    out->dx = read_view(s, VGG_VIEW_INPUT_GRADIENT, 0,
                        data->count * net_input_count(&s->net));
    for (uint32_t i = 0; i < s->net.stage_count; i++) {
        const vgg_stage *stage = &s->net.stages[i];
        if (stage->kind == VGG_STAGE_TAP)
            out->taps[stage->tap] =
                read_view(s, VGG_VIEW_TAP_GRADIENT, (uint32_t)stage->tap,
                          data->count * net_extent(stage->in));
    }
    for (uint32_t i = 0; i < s->net.param_count; i++)
        if (s->net.params[i].trainable)
            out->dparams[i] = read_slot(s, i, VGG_SLOT_GRADIENT);
}

void run_net(const struct target *target, const struct net *plain,
             const struct data *data, uint32_t mode, struct outcome *out)
{
    run_net_in(data->count, target, plain, data, mode, out);
}

void run_net_in(uint32_t batch, const struct target *target, const struct net *plain,
                const struct data *data, uint32_t mode, struct outcome *out)
{
    *out = (struct outcome){.mode = mode};
    struct session s;
    session_open(&s, target, plain, batch, mode, false);
    session_write(&s, data);
    session_forward(&s, data);
    out->output =
        read_view(&s, VGG_VIEW_OUTPUT, 0, data->count * net_output_count(&s.net));
    if (net_has_loss(&s.net)) {
        vgg_run run = session_run_desc(data);
        run.loss_sum = &out->loss;
        run.correct = &out->correct;
        out->loss_status = target->engine->run(s.program, VGG_PHASE_LOSS, &run);
    }
    if (mode != VGG_MODE_INFER && out->loss_status == VGG_OK) run_back(&s, data, out);
    for (uint32_t i = 0; i < s.net.param_count; i++)
        out->params[i] = read_slot(&s, i, VGG_SLOT_VALUE);
    session_close(&s);
}

void outcome_free(struct outcome *out)
{
    guard_free(out->output);
    guard_free(out->dx);
    for (uint32_t i = 0; i < NET_TAPS; i++) guard_free(out->taps[i]);
    for (uint32_t i = 0; i < NET_PARAMS; i++) {
        guard_free(out->dparams[i]);
        guard_free(out->params[i]);
    }
    *out = (struct outcome){0};
}

/* ---- Kinks ------------------------------------------------------------ */

/* Zeros that another ReLU has made do not matter: it lets no gradient pass. */
static double relu_distance(const vgg_stage *stage, uint32_t count, const double *x)
{
    double least = INFINITY;
    for (size_t i = 0; i < count * net_extent(stage->in); i++)
        if (x[i] != 0 || !stage->input_relu) least = fmin(least, fabs(x[i]));
    return least;
}

static double window_distance(const vgg_stage *stage, const double window[4])
{
    double first = -INFINITY, second = -INFINITY;
    for (int i = 0; i < 4; i++) {
        if (window[i] > first) {
            second = first;
            first = window[i];
        } else {
            second = fmax(second, window[i]);
        }
    }
    return stage->input_relu && first == 0 ? INFINITY : first - second;
}

static double pool_distance(const vgg_stage *stage, uint32_t count, const double *x)
{
    double least = INFINITY;
    const size_t width = stage->in.w;
    for (size_t plane = 0; plane < (size_t)count * stage->in.c; plane++)
        for (size_t h = 0; h < stage->out.h; h++)
            for (size_t w = 0; w < stage->out.w; w++) {
                const double *at = x + (plane * stage->in.h + 2 * h) * width + 2 * w;
                const double window[4] = {at[0], at[1], at[width], at[width + 1]};
                least = fmin(least, window_distance(stage, window));
            }
    return least;
}

/* Call `look` with every stage's input. */
static void each_input(const struct net *plain, const struct data *data, uint32_t mode,
                       void (*look)(const vgg_stage *, uint32_t count, const double *x,
                                    void *cookie),
                       void *cookie)
{
    struct session s;
    session_open(&s, &target_ref64, plain, data->count, mode, true);
    session_write(&s, data);
    session_forward(&s, data);
    for (uint32_t i = 1; i < s.net.stage_count; i++) {
        const vgg_stage *stage = &s.net.stages[i];
        double *x = guard_array(data->count * net_extent(stage->in), sizeof *x);
        ck_ok(s.target->engine->read(s.program, VGG_VIEW_TAP, i - 1, x, VGG_F64));
        look(stage, data->count, x, cookie);
        guard_free(x);
    }
    session_close(&s);
}

static bool is_maximum(const vgg_stage *stage)
{
    return stage->kind == VGG_STAGE_POOL && stage->pool == VGG_MAX_POOL;
}

static void look_for_least(const vgg_stage *stage, uint32_t count, const double *x,
                           void *cookie)
{
    double *least = cookie;
    if (stage->kind == VGG_STAGE_RELU)
        *least = fmin(*least, relu_distance(stage, count, x));
    else if (is_maximum(stage))
        *least = fmin(*least, pool_distance(stage, count, x));
}

double net_kink_distance(const struct net *plain, const struct data *data,
                         uint32_t mode)
{
    double least = INFINITY;
    each_input(plain, data, mode, look_for_least, &least);
    return least;
}

struct share {
    double reach, sum;
};

/* One value at a time, so that the functions above judge each alone. */
static void add_share(const vgg_stage *stage, uint32_t count, const double *x,
                      void *cookie)
{
    struct share *share = cookie;
    const size_t values = count * net_extent(stage->in), width = stage->in.w;
    double square = 0, near = 0, all = 0;
    for (size_t i = 0; i < values; i++) square += x[i] * x[i];
    const double reach = share->reach * sqrt(square / (double)values);
    if (stage->kind == VGG_STAGE_RELU) {
        for (size_t i = 0; i < values; i++)
            near += fabs(x[i]) <= reach && (x[i] != 0 || !stage->input_relu);
        all = (double)values;
    } else if (is_maximum(stage)) {
        for (size_t row = 0; row < (size_t)count * stage->in.c * stage->in.h; row++)
            for (size_t w = 0; w < stage->out.w; w++) {
                const size_t h = row % stage->in.h;
                if (h % 2 || h / 2 >= stage->out.h) continue;
                const double *at = x + row * width + 2 * w;
                const double window[4] = {at[0], at[1], at[width], at[width + 1]};
                near += window_distance(stage, window) <= 2 * reach;
                all++;
            }
    }
    if (all > 0) share->sum += near / all;
}

double net_kink_share(const struct net *plain, const struct data *data, uint32_t mode,
                      double reach)
{
    struct share share = {reach, 0};
    each_input(plain, data, mode, add_share, &share);
    return share.sum;
}

static void count_bits(const vgg_stage *stage, uint32_t count, const double *x,
                       void *cookie)
{
    int *bits = cookie;
    for (size_t i = 0; i < count * net_extent(stage->in); i++) {
        int exponent, need = 0;
        double rest = frexp(x[i], &exponent);
        for (; rest != 0; need++) rest = 2 * rest - trunc(2 * rest);
        if (need > *bits) *bits = need;
    }
}

int net_value_bits(const struct net *plain, const struct data *data, uint32_t mode)
{
    int bits = 0;
    each_input(plain, data, mode, count_bits, &bits);
    return bits;
}
