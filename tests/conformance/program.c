/* SPDX-License-Identifier: Apache-2.0 */
/* What engines share beyond the arithmetic of stages: batches, taps, frozen parameters,
 * accumulation, stores, memory that runs out. Every test runs on every target. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/program.h"
#include "compare.h"
#include "core/error.h"
#include "guard.h"
#include "harness.h"
#include "targets.h"

static const char small_net[] =
    "2x8x8 conv3:3 bn relu max conv3:4 relu max linear:9 relu "
    "dropout:0.5 linear:5 loss";

static void begin(struct net *net, struct data *data, uint32_t count)
{
    net_parse(net, small_net);
    data_create(data, net, count, DATA_REAL, 11);
}

static void run_back(struct session *s, const struct data *data)
{
    const vgg_run run = session_run_desc(data);
    ck_ok(s->target->engine->run(s->program, VGG_PHASE_BACKWARD, &run));
}

static void run_loss(struct session *s, const struct data *data)
{
    double sum = 0;
    uint32_t correct = 0;
    vgg_run run = session_run_desc(data);
    run.loss_sum = &sum;
    run.correct = &correct;
    ck_ok(s->target->engine->run(s->program, VGG_PHASE_LOSS, &run));
}

static double *read_slot(struct session *s, uint32_t param, vgg_slot slot)
{
    double *array = guard_array(s->net.params[param].count, sizeof *array);
    ck_ok(s->target->engine->store_read(s->store, param, slot, array, VGG_F64));
    return array;
}

static double *read_view(struct session *s, vgg_view view, uint32_t index, size_t count)
{
    double *array = guard_array(count, sizeof *array);
    ck_ok(s->target->engine->read(s->program, view, index, array, VGG_F64));
    return array;
}

/* What two programs give that compute the same thing: on the host exactly; a library's
 * choice for one batch size, or by timing, may round otherwise than for another: both
 * are within the tolerance of what is right. */
static void compare_same(int target, const char *what, const double *got,
                         const double *want, size_t count)
{
    compare_label("%s", targets[target].label);
    if (targets[target].apart)
        compare_rough(what, got, want, count, 2 * targets[target].tolerance);
    else
        compare_exact(what, got, want, count);
}

/* A program for seven samples run on three gives what a program for three gives. */
START_TEST(short_batch)
{
    struct net net;
    struct data data;
    begin(&net, &data, 3);
    struct outcome want;
    run_net(&targets[_i], &net, &data, VGG_MODE_TRAIN, &want);
    struct session s;
    session_open(&s, &targets[_i], &net, 7, VGG_MODE_TRAIN, false);
    session_write(&s, &data);
    session_forward(&s, &data);
    run_loss(&s, &data);
    run_back(&s, &data);
    double *output = read_view(&s, VGG_VIEW_OUTPUT, 0, 3 * net_output_count(&net));
    double *dx = read_view(&s, VGG_VIEW_INPUT_GRADIENT, 0, 3 * net_input_count(&net));
    double *dweight = read_slot(&s, 0, VGG_SLOT_GRADIENT);
    compare_same(_i, "output", output, want.output, 3 * net_output_count(&net));
    compare_same(_i, "dx", dx, want.dx, 3 * net_input_count(&net));
    compare_same(_i, "dweight", dweight, want.dparams[0], net.params[0].count);
    guard_free(output);
    guard_free(dx);
    guard_free(dweight);
    session_close(&s);
    outcome_free(&want);
    data_free(&data);
}
END_TEST

/* A tap of every stage shows what the network cut off after it gives. */
START_TEST(taps)
{
    struct net net;
    struct data data;
    begin(&net, &data, 2);
    struct session s;
    session_open(&s, &targets[_i], &net, 2, VGG_MODE_GRAD, true);
    session_write(&s, &data);
    session_forward(&s, &data);
    for (uint32_t i = 0; i + 1 < s.net.stage_count; i++) {
        struct net cut = s.net;
        cut.stage_count = i + 1;
        struct outcome want;
        run_net(&targets[_i], &cut, &data, VGG_MODE_INFER, &want);
        const size_t count = 2 * net_output_count(&cut);
        double *got = read_view(&s, VGG_VIEW_TAP, i, count);
        char what[16];
        snprintf(what, sizeof what, "tap %u", i);
        compare_same(_i, what, got, want.output, count);
        guard_free(got);
        outcome_free(&want);
    }
    double none;
    ck_fails(targets[_i].engine->read(s.program, VGG_VIEW_TAP, 99, &none, VGG_F64),
             VGG_ESTATE);
    session_close(&s);
    data_free(&data);
}
END_TEST

/* With frozen parameters the others' gradients stay, and memory shrinks. */
START_TEST(frozen)
{
    struct net net;
    struct data data;
    begin(&net, &data, 2);
    struct outcome want;
    run_net(&targets[_i], &net, &data, VGG_MODE_TRAIN, &want);
    const uint32_t last = net.param_count - 2; /* weight and bias of the last layer */
    for (uint32_t i = 0; i < last; i++) net.params[i].trainable = 0;
    struct session s;
    session_open(&s, &targets[_i], &net, 2, VGG_MODE_TRAIN, false);
    session_write(&s, &data);
    session_forward(&s, &data);
    run_loss(&s, &data);
    run_back(&s, &data);
    double *dweight = read_slot(&s, last, VGG_SLOT_GRADIENT);
    compare_same(_i, "dweight", dweight, want.dparams[last], net.params[last].count);
    guard_free(dweight);
    double none;
    ck_fails(
        targets[_i].engine->store_read(s.store, 0, VGG_SLOT_GRADIENT, &none, VGG_F64),
        VGG_ESTATE);

    vgg_program_desc desc = {.stages = s.net.stages,
                             .stage_count = s.net.stage_count,
                             .batch = 64,
                             .mode = VGG_MODE_TRAIN,
                             .precision = targets[_i].precision};
    uint64_t all = 0, some = 0;
    ck_ok(targets[_i].engine->measure(s.device, &desc, &all));
    desc.params = s.net.params;
    desc.param_count = s.net.param_count;
    ck_ok(targets[_i].engine->measure(s.device, &desc, &some));
    ck_assert_uint_lt(some, all);
    session_close(&s);
    outcome_free(&want);
    data_free(&data);
}
END_TEST

/* Parameter gradients add up: in GRAD mode the same run twice gives the
 * double, but for the order of additions. */
START_TEST(accumulation)
{
    struct net net;
    struct data data;
    begin(&net, &data, 2);
    struct outcome once;
    run_net(&targets[_i], &net, &data, VGG_MODE_GRAD, &once);
    struct session s;
    session_open(&s, &targets[_i], &net, 2, VGG_MODE_GRAD, false);
    session_write(&s, &data);
    for (int k = 0; k < 2; k++) {
        session_forward(&s, &data);
        run_loss(&s, &data);
        run_back(&s, &data);
    }
    for (uint32_t i = 0; i < net.param_count; i++) {
        if (!net.params[i].trainable) continue;
        double *twice = read_slot(&s, i, VGG_SLOT_GRADIENT);
        for (size_t k = 0; k < net.params[i].count; k++) once.dparams[i][k] *= 2;
        compare_label("%s, parameter %u", targets[_i].label, i);
        compare_close("gradient", twice, once.dparams[i], net.params[i].count,
                      targets[_i].tunes ? targets[_i].tolerance : 1e-6);
        guard_free(twice);
    }
    ck_ok(targets[_i].engine->store_zero_gradients(s.store));
    double norm2 = 1;
    ck_ok(targets[_i].engine->store_gradient_norm2(s.store, &norm2));
    ck_assert_double_eq(norm2, 0);
    session_close(&s);
    outcome_free(&once);
    data_free(&data);
}
END_TEST

/* A loss after the backward reads the output but leaves gradients alone. */
START_TEST(late_loss)
{
    struct net net;
    struct data data;
    begin(&net, &data, 2);
    struct session s;
    session_open(&s, &targets[_i], &net, 2, VGG_MODE_TRAIN, false);
    session_write(&s, &data);
    session_forward(&s, &data);
    run_loss(&s, &data);
    run_loss(&s, &data);
    run_back(&s, &data);
    const size_t count = 2 * net_input_count(&net);
    double *before = read_view(&s, VGG_VIEW_INPUT_GRADIENT, 0, count);
    run_loss(&s, &data);
    double *after = read_view(&s, VGG_VIEW_INPUT_GRADIENT, 0, count);
    compare_exact("dx", after, before, count);
    guard_free(before);
    guard_free(after);
    session_close(&s);
    data_free(&data);
}
END_TEST

/* Dropout depends on a sample's place in the step, not on how the step is split. */
START_TEST(split_dropout)
{
    struct net net;
    struct data data;
    net_parse(&net, "7x3x1 dropout:0.3");
    data_create(&data, &net, 6, DATA_REAL, 2);
    struct session s;
    session_open(&s, &targets[_i], &net, 6, VGG_MODE_TRAIN, false);
    vgg_run run = session_run_desc(&data);
    ck_ok(targets[_i].engine->run(s.program, VGG_PHASE_FORWARD, &run));
    double *whole = read_view(&s, VGG_VIEW_OUTPUT, 0, 6 * 21);
    run.first += 4;
    run.count = 2;
    run.input += 4 * 21;
    ck_ok(targets[_i].engine->run(s.program, VGG_PHASE_FORWARD, &run));
    double *rest = read_view(&s, VGG_VIEW_OUTPUT, 0, 2 * 21);
    compare_exact("output", rest, whole + 4 * 21, 2 * 21);
    run.step++;
    ck_ok(targets[_i].engine->run(s.program, VGG_PHASE_FORWARD, &run));
    double *next = read_view(&s, VGG_VIEW_OUTPUT, 0, 2 * 21);
    ck_assert_msg(memcmp(next, rest, 2 * 21 * sizeof *next) != 0,
                  "steps drop the same");
    guard_free(whole);
    guard_free(rest);
    guard_free(next);
    session_close(&s);
    data_free(&data);
}
END_TEST

/* The rate is what is dropped, within five standard deviations of a fair draw. */
START_TEST(dropout_rate)
{
    struct net net;
    struct data data;
    net_parse(&net, "100x10x10 dropout:0.3");
    data_create(&data, &net, 1, DATA_REAL, 2);
    for (int i = 0; i < 10000; i++) data.input[i] = 1;
    struct outcome got;
    run_net(&targets[_i], &net, &data, VGG_MODE_TRAIN, &got);
    const double rounding =
        targets[_i].keeps < 24 ? ldexp(2, -targets[_i].keeps) : 1e-6;
    int dropped = 0;
    for (int i = 0; i < 10000; i++) {
        dropped += got.output[i] == 0;
        ck_assert(got.output[i] == 0 || fabs(got.output[i] - 1 / 0.7) < rounding);
    }
    ck_assert_int_le(abs(dropped - 3000), 5 * 46);
    outcome_free(&got);
    data_free(&data);
}
END_TEST

START_TEST(loss_not_finite)
{
    static const float values[] = {NAN, INFINITY};
    struct net net;
    struct data data;
    net_parse(&net, "4x1x1 loss");
    data_create(&data, &net, 2, DATA_REAL, 1);
    for (int k = 0; k < 2; k++) {
        data.input[5] = values[k];
        struct outcome got;
        run_net(&targets[_i], &net, &data, VGG_MODE_TRAIN, &got);
        ck_assert_int_eq(got.loss_status, VGG_ENONFINITE);
        ck_assert(!isfinite(got.loss));
        outcome_free(&got);
    }
    /* As far apart as float allows, the loss is large and right. */
    memcpy(data.input, (float[]){1e4f, -1e4f, 0, 0, -1e4f, 1e4f, 0, 0},
           8 * sizeof(float));
    data.labels[0] = 1;
    data.labels[1] = 1;
    struct outcome got;
    run_net(&targets[_i], &net, &data, VGG_MODE_TRAIN, &got);
    ck_assert_int_eq(got.loss_status, VGG_OK);
    ck_assert_double_eq_tol(got.loss, 2e4, targets[_i].keeps < 24 ? 2e4 / 256 : 1e-9);
    ck_assert_uint_eq(got.correct, 1);
    outcome_free(&got);
    data_free(&data);
}
END_TEST

/* A channel with one value: normalised to beta, running variance untouched. */
START_TEST(single_value)
{
    struct net net;
    struct data data;
    net_parse(&net, "3x1x1 bn");
    data_create(&data, &net, 1, DATA_REAL, 1);
    struct outcome got;
    run_net(&targets[_i], &net, &data, VGG_MODE_TRAIN, &got);
    for (uint32_t c = 0; c < 3; c++) {
        const double beta = data.params[1][c];
        compare_rounded("output", &got.output[c], &beta, 1,
                        targets[_i].keeps < 24 ? targets[_i].keeps : 53);
        ck_assert_double_eq(got.dx[c], 0);
        ck_assert_double_eq(got.params[3][c], data.params[3][c]);
        ck_assert_double_ne(got.params[2][c], data.params[2][c]);
    }
    outcome_free(&got);
    data_free(&data);
}
END_TEST

/* ---- Stores ------------------------------------------------------------ */

static void check_update(struct session *s, uint32_t param)
{
    const vgg_engine *engine = s->target->engine;
    double *before = read_slot(s, param, VGG_SLOT_VALUE);
    double *gradient = read_slot(s, param, VGG_SLOT_GRADIENT);
    const vgg_update update = {.kind = VGG_SGD, .lr = 0.5, .momentum = 0.75, .t = 1};
    ck_ok(engine->store_update(s->store, &update));
    double *after = read_slot(s, param, VGG_SLOT_VALUE);
    double *velocity = read_slot(s, param, VGG_SLOT_STATE0);
    compare_exact("velocity", velocity, gradient, s->net.params[param].count);
    for (size_t i = 0; i < s->net.params[param].count; i++)
        ck_assert_double_eq_tol(after[i], before[i] - 0.5 * gradient[i], 1e-7);
    guard_free(before);
    guard_free(gradient);
    guard_free(after);
    guard_free(velocity);
}

START_TEST(store)
{
    struct net net;
    struct data data;
    net_parse(&net, "300x1x1 linear:300 linear:7"); /* more than one chunk */
    data_create(&data, &net, 2, DATA_REAL, 3);
    struct session s;
    session_open(&s, &targets[_i], &net, 2, VGG_MODE_TRAIN, false);
    const vgg_engine *engine = targets[_i].engine;
    session_write(&s, &data);
    session_forward(&s, &data);
    vgg_run run = session_run_desc(&data);
    run.output_gradient = data.dy;
    ck_ok(engine->run(s.program, VGG_PHASE_BACKWARD, &run));

    double want = 0, norm2 = 0, quarter = 0, none[1];
    for (uint32_t i = 0; i < net.param_count; i++) {
        double *gradient = read_slot(&s, i, VGG_SLOT_GRADIENT);
        for (size_t k = 0; k < net.params[i].count; k++)
            want += gradient[k] * gradient[k];
        guard_free(gradient);
    }
    ck_ok(engine->store_gradient_norm2(s.store, &norm2));
    ck_assert_double_eq_tol(norm2, want, 1e-12 * want);
    ck_ok(engine->store_scale_gradients(s.store, 0.5));
    ck_ok(engine->store_gradient_norm2(s.store, &quarter));
    ck_assert_double_eq(quarter, norm2 / 4); /* halves are exact */

    ck_fails(engine->store_read(s.store, 0, VGG_SLOT_STATE0, none, VGG_F64),
             VGG_ESTATE);
    check_update(&s, 0);
    ck_fails(engine->store_read(s.store, 0, VGG_SLOT_STATE1, none, VGG_F64),
             VGG_ESTATE);
    ck_ok(engine->store_write(s.store, 1, VGG_SLOT_STATE1, data.params[1], VGG_F32));
    double *state = read_slot(&s, 1, VGG_SLOT_STATE1);
    for (size_t k = 0; k < net.params[1].count; k++)
        ck_assert_double_eq(state[k], data.params[1][k]);
    guard_free(state);
    session_close(&s);
    data_free(&data);
}
END_TEST

/* ---- What is derived from parameters ------------------------------------ */

static const struct vgg__stage_impl *counted; /* the engine's own convolution */
static int preparations;

static void count_prepare(const struct vgg__stage_args *args)
{
    preparations++;
    counted->prepare(args);
}

/* Forward passes with batch norm: running statistics change each time, weights don't,
 * so nothing is prepared anew; it is when a weight changes. */
START_TEST(prepared_once)
{
    const vgg_engine *engine = targets[_i].engine;
    if (targets[_i].apart) return; /* nothing is prepared there */
    struct net net;
    struct data data;
    begin(&net, &data, 2);
    struct session s;
    session_open(&s, &targets[_i], &net, 2, VGG_MODE_TRAIN, false);
    struct vgg__machine *machine = s.device;
    const uint32_t precision = targets[_i].precision;
    const struct vgg__stage_impl *table[VGG_STAGE_KINDS];
    memcpy(table, machine->stages[precision], sizeof table);
    counted = table[VGG_STAGE_CONV];
    struct vgg__stage_impl counting = *counted;
    if (counting.prepare) counting.prepare = count_prepare;
    table[VGG_STAGE_CONV] = &counting;
    machine->stages[precision] = table;
    engine->program_free(s.program);
    const vgg_program_desc desc = {.stages = s.net.stages,
                                   .stage_count = s.net.stage_count,
                                   .batch = 2,
                                   .mode = VGG_MODE_TRAIN,
                                   .precision = precision};
    ck_ok(engine->compile(s.device, s.store, &desc, &s.program));
    session_write(&s, &data);

    const int convolutions = counting.prepare ? 2 : 0;
    preparations = 0;
    for (int i = 0; i < 3; i++) session_forward(&s, &data);
    ck_assert_int_eq(preparations, convolutions);
    for (uint32_t i = 0; i < net.param_count; i++) {
        if (!net.params[i].buffer) continue;
        ck_ok(engine->store_write(s.store, i, VGG_SLOT_VALUE, data.params[i], VGG_F32));
        session_forward(&s, &data);
        ck_assert_int_eq(preparations, convolutions);
    }
    ck_ok(engine->store_write(s.store, 0, VGG_SLOT_VALUE, data.params[0], VGG_F32));
    session_forward(&s, &data);
    ck_assert_int_eq(preparations, 2 * convolutions);
    const vgg_update sgd = {.kind = VGG_SGD, .lr = 0.1, .t = 1};
    ck_ok(engine->store_update(s.store, &sgd));
    session_forward(&s, &data);
    ck_assert_int_eq(preparations, 3 * convolutions);
    session_close(&s);
    data_free(&data);
}
END_TEST

/* ---- Memory that runs out ---------------------------------------------- */

static int allocations_left;

static void *failing_alloc(void *cookie, size_t size, size_t align)
{
    if (allocations_left-- <= 0) return NULL;
    return guard_allocator.alloc(cookie, size, align);
}

static void failing_release(void *cookie, void *memory)
{
    guard_allocator.release(cookie, memory);
}

/* A store with gradients and a program; VGG_ENOMEM with all given back, or success. */
static vgg_status build(struct session *s, const struct net *net)
{
    const vgg_engine *engine = s->target->engine;
    VGG_TRY(engine->store_create(s->device, net->params, net->param_count,
                                 s->target->precision, &s->store));
    VGG_TRY(engine->store_gradients(s->store, net->params));
    const vgg_program_desc desc = {.stages = net->stages,
                                   .stage_count = net->stage_count,
                                   .batch = 2,
                                   .mode = VGG_MODE_TRAIN,
                                   .precision = s->target->precision};
    VGG_TRY(engine->compile(s->device, s->store, &desc, &s->program));
    const vgg_update adam = {.kind = VGG_ADAM, .lr = 0.1, .epsilon = 1e-8, .t = 1};
    return engine->store_update(s->store, &adam);
}

START_TEST(out_of_memory)
{
    struct net plain, net;
    net_parse(&plain, small_net);
    net_fuse(&plain, targets[_i].engine->fusions, &net);
    vgg_allocator allocator = {NULL, failing_alloc, failing_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    opts.threads = 1;
    vgg_status status = VGG_ENOMEM;
    int fail_at = 0;
    for (; status != VGG_OK; fail_at++) {
        struct session s = {.target = &targets[_i]};
        allocations_left = 1000;
        session_open_device(&s, &opts);
        const uint64_t before = vgg_context_bytes(s.ctx);
        allocations_left = fail_at;
        status = build(&s, &net);
        if (status != VGG_OK) ck_assert_int_eq(status, VGG_ENOMEM);
        targets[_i].engine->program_free(s.program);
        targets[_i].engine->store_free(s.store);
        ck_assert_uint_eq(vgg_context_bytes(s.ctx), before);
        targets[_i].engine->close(s.device);
        vgg_context_free(s.ctx);
    }
    ck_assert_int_gt(fail_at, targets[_i].apart ? 8 : 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("program");
    TCase *tcase = tcase_create("engines");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, short_batch, 0, (int)target_count);
    tcase_add_loop_test(tcase, taps, 0, (int)target_count);
    tcase_add_loop_test(tcase, frozen, 0, (int)target_count);
    tcase_add_loop_test(tcase, accumulation, 0, (int)target_count);
    tcase_add_loop_test(tcase, prepared_once, 0, (int)target_count);
    tcase_add_loop_test(tcase, late_loss, 0, (int)target_count);
    tcase_add_loop_test(tcase, split_dropout, 0, (int)target_count);
    tcase_add_loop_test(tcase, dropout_rate, 0, (int)target_count);
    tcase_add_loop_test(tcase, loss_not_finite, 0, (int)target_count);
    tcase_add_loop_test(tcase, single_value, 0, (int)target_count);
    tcase_add_loop_test(tcase, store, 0, (int)target_count);
    tcase_add_loop_test(tcase, out_of_memory, 0, (int)target_count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
