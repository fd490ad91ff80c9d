/* SPDX-License-Identifier: Apache-2.0 */
/* One program run again and again, as in training: engines that record what they do and
 * replay it must do the right thing each time. And steps: loss, backward and update.
 */
#include <math.h>
#include <string.h>

#include "compare.h"
#include "core/memory.h"
#include "guard.h"
#include "harness.h"
#include "targets.h"

static const char small_net[] =
    "2x8x8 conv3:4 bn relu max conv3:8 relu max linear:9 relu "
    "dropout:0.5 linear:5 loss";
static const char plain_net[] =
    "3x8x8 conv3:8 relu max conv3:4 relu avg linear:12 relu linear:5 loss";

static double *read_slot(struct session *s, uint32_t param, vgg_slot slot)
{
    double *array = guard_array(s->net.params[param].count, sizeof *array);
    ck_ok(s->target->engine->store_read(s->store, param, slot, array, VGG_F64));
    return array;
}

static void run_phase(struct session *s, const struct data *data, vgg_phase phase,
                      const vgg_update *update)
{
    double sum = 0;
    uint32_t correct = 0;
    vgg_run run = session_run_desc(data);
    run.update = update;
    run.loss_sum = &sum;
    run.correct = &correct;
    ck_ok(s->target->engine->run(s->program, phase, &run));
}

/* Against the tolerance of both. */
static void compare_twice(const struct target *target, const char *what,
                          const double *got, const double *want, size_t count)
{
    if (target->apart)
        compare_rough(what, got, want, count, 2 * target->tolerance);
    else
        compare_exact(what, got, want, count);
}

static void compare_fresh(struct session *s, const struct net *net,
                          const struct data *data)
{
    struct outcome want;
    run_net(s->target, net, data, VGG_MODE_TRAIN, &want);
    const size_t outputs = data->count * net_output_count(net);
    const size_t inputs = data->count * net_input_count(net);
    double *output = guard_array(outputs, sizeof *output);
    double *dx = guard_array(inputs, sizeof *dx);
    ck_ok(s->target->engine->read(s->program, VGG_VIEW_OUTPUT, 0, output, VGG_F64));
    ck_ok(s->target->engine->read(s->program, VGG_VIEW_INPUT_GRADIENT, 0, dx, VGG_F64));
    compare_twice(s->target, "output", output, want.output, outputs);
    compare_twice(s->target, "dx", dx, want.dx, inputs);
    for (uint32_t i = 0; i < net->param_count; i++) {
        if (!net->params[i].trainable || (i == 1 && net_has(net, VGG_STAGE_BATCH_NORM)))
            continue; /* a bias that is taken away again has no gradient but rounding */
        double *gradient = read_slot(s, i, VGG_SLOT_GRADIENT);
        compare_twice(s->target, "gradient", gradient, want.dparams[i],
                      net->params[i].count);
        guard_free(gradient);
    }
    guard_free(output);
    guard_free(dx);
    outcome_free(&want);
}

/* Other samples, weights and counts each time. */
START_TEST(repeated)
{
    static const uint32_t counts[] = {4, 3, 4, 1, 2, 4};
    const struct target *target = &targets[_i];
    struct net net;
    struct session s;
    net_parse(&net, small_net);
    session_open(&s, target, &net, 4, VGG_MODE_TRAIN, false);
    for (uint32_t round = 0; round < sizeof counts / sizeof *counts; round++) {
        struct data data;
        data_create(&data, &net, counts[round], DATA_REAL, 20 + round);
        compare_label("%s, round %u", target->label, round);
        session_write(&s, &data);
        ck_ok(target->engine->store_zero_gradients(s.store));
        session_forward(&s, &data);
        run_phase(&s, &data, VGG_PHASE_LOSS, NULL);
        run_phase(&s, &data, VGG_PHASE_BACKWARD, NULL);
        compare_fresh(&s, &net, &data);
        data_free(&data);
    }
    session_close(&s);
}
END_TEST

/* Calls that follow each other without anything that waits: what the first was given
 * may be overwritten by the caller, and what it computes is not what the second does.
 */
START_TEST(at_once)
{
    const struct target *target = &targets[_i];
    struct net net;
    struct session s;
    struct data first, second;
    net_parse(&net, "3x6x6 conv3:8 relu max linear:7");
    data_create(&first, &net, 3, DATA_REAL, 8);
    data_create(&second, &net, 3, DATA_REAL, 9);
    for (uint32_t i = 0; i < net.param_count; i++)
        memcpy(second.params[i], first.params[i], net.params[i].count * sizeof(float));
    session_open(&s, target, &net, 3, VGG_MODE_TRAIN, false);
    session_write(&s, &first);
    for (int round = 0; round < 4; round++) {
        compare_label("%s, round %d", target->label, round);
        ck_ok(target->engine->store_zero_gradients(s.store));
        float *input = guard_array(3 * net_input_count(&net), sizeof *input);
        memcpy(input, first.input, 3 * net_input_count(&net) * sizeof *input);
        vgg_run run = session_run_desc(&second);
        run.input = input;
        ck_ok(target->engine->run(s.program, VGG_PHASE_FORWARD, &run));
        guard_free(input); /* full of other bytes now */
        run.input = second.input;
        run.output_gradient = second.dy;
        ck_ok(target->engine->run(s.program, VGG_PHASE_FORWARD, &run));
        ck_ok(target->engine->run(s.program, VGG_PHASE_BACKWARD, &run));
        compare_fresh(&s, &net, &second);
    }
    session_close(&s);
    data_free(&first);
    data_free(&second);
}
END_TEST

/* More samples than an engine may move over the boundary at a time. */
START_TEST(many_pieces)
{
    const struct target *target = &targets[_i];
    if (target->tunes || target->multiplies == 11) return; /* as the others */
    struct net net;
    struct data data;
    struct outcome got, want;
    net_parse(&net, "1x1024x1024 max");
    data_create(&data, &net, 5, DATA_INTEGER, 3);
    run_net(&target_ref64, &net, &data, VGG_MODE_INFER, &want);
    run_net(target, &net, &data, VGG_MODE_INFER, &got);
    compare_label("%s", target->label);
    compare_exact("output", got.output, want.output, 5 * net_output_count(&net));
    outcome_free(&got);
    outcome_free(&want);
    data_free(&data);
}
END_TEST

/* Micro-batches: gradients of replays add up. */
START_TEST(accumulated)
{
    const struct target *target = &targets[_i];
    struct net net;
    struct session s;
    struct data data;
    struct outcome once;
    net_parse(&net, plain_net);
    data_create(&data, &net, 3, DATA_REAL, 5);
    run_net(target, &net, &data, VGG_MODE_TRAIN, &once);
    session_open(&s, target, &net, 3, VGG_MODE_TRAIN, false);
    session_write(&s, &data);
    for (int k = 0; k < 5; k++) {
        session_forward(&s, &data);
        run_phase(&s, &data, VGG_PHASE_LOSS, NULL);
        run_phase(&s, &data, VGG_PHASE_BACKWARD, NULL);
    }
    for (uint32_t i = 0; i < net.param_count; i++) {
        double *five = read_slot(&s, i, VGG_SLOT_GRADIENT);
        for (size_t k = 0; k < net.params[i].count; k++) once.dparams[i][k] *= 5;
        compare_label("%s, parameter %u", target->label, i);
        compare_rough("gradient", five, once.dparams[i], net.params[i].count,
                      target->tunes ? 2 * target->tolerance : 1e-6);
        guard_free(five);
    }
    session_close(&s);
    outcome_free(&once);
    data_free(&data);
}
END_TEST

/* ---- Steps ----------------------------------------------------------------------- */

static void open_stepper(struct session *s, const struct target *target,
                         const struct net *net, uint32_t batch)
{
    *s = (struct session){.target = target};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &guard_allocator;
    opts.threads = target->threads;
    opts.gemm = target->gemm;
    net_fuse(net, target->engine->fusions, &s->net);
    session_open_device(s, &opts);
    ck_ok(target->engine->store_create(s->device, s->net.params, s->net.param_count,
                                       target->precision, &s->store));
    const vgg_program_desc desc = {.stages = s->net.stages,
                                   .stage_count = s->net.stage_count,
                                   .batch = batch,
                                   .mode = VGG_MODE_TRAIN,
                                   .precision = target->precision,
                                   .deterministic = !target->tunes,
                                   .step = 1,
                                   .params = s->net.params,
                                   .param_count = s->net.param_count};
    const uint64_t before = vgg_context_bytes(s->ctx);
    uint64_t bytes = 0;
    ck_ok(target->engine->measure(s->device, &desc, &bytes));
    ck_ok(target->engine->compile(s->device, s->store, &desc, &s->program));
    /* As for session_open(). */
    if (!target->apart)
        ck_assert_uint_eq(vgg_context_bytes(s->ctx) - before, bytes + 4 * VGG_ALIGN);
}

/* Steps of the oracle, one after the other. */
static void step_oracle(struct session *s, const struct data *data,
                        const vgg_update *update)
{
    ck_ok(s->target->engine->store_zero_gradients(s->store));
    session_forward(s, data);
    run_phase(s, data, VGG_PHASE_LOSS, NULL);
    run_phase(s, data, VGG_PHASE_BACKWARD, NULL);
    ck_ok(s->target->engine->store_update(s->store, update));
}

/* What changed, against what the oracle changed. A step leaves errors in the weights,
 * and with them in the next step's gradients. */
static void compare_changes(struct session *s, struct session *oracle,
                            const struct data *start, double tolerance)
{
    for (uint32_t i = 0; i < s->net.param_count; i++) {
        const size_t count = s->net.params[i].count;
        double *got = read_slot(s, i, VGG_SLOT_VALUE);
        double *want = read_slot(oracle, i, VGG_SLOT_VALUE);
        for (size_t k = 0; k < count; k++) {
            got[k] -= start->params[i][k];
            want[k] -= start->params[i][k];
        }
        compare_label("%s, parameter %u", s->target->label, i);
        if (s->net.params[i].trainable)
            compare_rough("change", got, want, count, tolerance);
        else
            compare_exact("change", got, want, count);
        guard_free(got);
        guard_free(want);
    }
}

/* Rates, decays and counts that differ from step to step; one layer is frozen. */
START_TEST(stepped)
{
    static const struct {
        uint32_t count;
        double lr, weight_decay;
    } steps[] = {{4, 0.1, 0.01}, {4, 0.05, 0}, {3, 0.2, 0.1}, {4, 0.01, 0}};
    const struct target *target = &targets[_i];
    if (!(target->engine->abilities & VGG_CAN_STEP)) return;
    struct net net;
    struct data first;
    struct session s, oracle;
    net_parse(&net, plain_net);
    net.params[2].trainable = net.params[3].trainable = 0;
    data_create(&first, &net, 4, DATA_REAL, 30);
    open_stepper(&s, target, &net, 4);
    session_open(&oracle, &target_ref64, &net, 4, VGG_MODE_TRAIN, false);
    session_write(&s, &first);
    session_write(&oracle, &first);
    double tolerance = 4 * target->tolerance;
    for (uint32_t k = 0; k < sizeof steps / sizeof *steps; k++) {
        struct data data;
        const vgg_update update = {.kind = VGG_SGD,
                                   .lr = steps[k].lr,
                                   .weight_decay = steps[k].weight_decay,
                                   .t = k + 1};
        data_create(&data, &net, steps[k].count, DATA_REAL, 30 + k);
        tolerance +=
            closeness_of(target, &net, &data, VGG_MODE_TRAIN).gradients / (k + 1);
        session_forward(&s, &data);
        run_phase(&s, &data, VGG_PHASE_STEP, &update);
        step_oracle(&oracle, &data, &update);
        compare_changes(&s, &oracle, &first, tolerance);
        data_free(&data);
    }
    session_close(&oracle);
    session_close(&s);
    data_free(&first);
}
END_TEST

/* A step and what it stands for give the same, to a rounding. */
START_TEST(step_by_step)
{
    const struct target *target = &targets[_i];
    if (!(target->engine->abilities & VGG_CAN_STEP) || target->tunes) return;
    const vgg_update update = {
        .kind = VGG_SGD, .lr = 0.1, .weight_decay = 0.01, .t = 1};
    struct net net;
    struct data data;
    struct session one, two;
    net_parse(&net, small_net);
    data_create(&data, &net, 4, DATA_REAL, 40);
    open_stepper(&one, target, &net, 4);
    session_open(&two, target, &net, 4, VGG_MODE_TRAIN, false);
    session_write(&one, &data);
    session_write(&two, &data);
    for (int k = 0; k < 3; k++) {
        session_forward(&one, &data);
        run_phase(&one, &data, VGG_PHASE_STEP, &update);
        step_oracle(&two, &data, &update);
        for (uint32_t i = 0; i < net.param_count; i++) {
            double *a = read_slot(&one, i, VGG_SLOT_VALUE);
            double *b = read_slot(&two, i, VGG_SLOT_VALUE);
            compare_label("%s, step %d, parameter %u", target->label, k, i);
            compare_close("value", a, b, net.params[i].count,
                          target->multiplies < 24 ? target->tolerance : 1e-6);
            guard_free(a);
            guard_free(b);
        }
    }
    session_close(&two);
    session_close(&one);
    data_free(&data);
}
END_TEST

/* Three steps on `target`; the parameters after them. */
static void run_steps(const struct target *target, const struct net *net,
                      const struct data *data, double *params[NET_PARAMS])
{
    const vgg_update update = {
        .kind = VGG_SGD, .lr = 0.1, .weight_decay = 0.01, .t = 1};
    struct session s;
    open_stepper(&s, target, net, data->count);
    session_write(&s, data);
    for (int k = 0; k < 3; k++) {
        session_forward(&s, data);
        run_phase(&s, data, VGG_PHASE_STEP, &update);
    }
    for (uint32_t i = 0; i < net->param_count; i++)
        params[i] = read_slot(&s, i, VGG_SLOT_VALUE);
    session_close(&s);
}

/* The same bits whatever must not matter: threads, above all. Linear layers of one task
 * and of many, with edges. */
START_TEST(step_bits)
{
    static const char *const nets[] = {small_net,
                                       "3x7x5 linear:300 relu linear:131 relu "
                                       "linear:10 loss"};
    struct target target = targets[_i / 2];
    if (!(target.engine->abilities & VGG_CAN_STEP) || target.tunes) return;
    struct net net;
    struct data data;
    double *first[NET_PARAMS], *other[NET_PARAMS];
    net_parse(&net, nets[_i % 2]);
    data_create(&data, &net, 19, DATA_REAL, 50);
    target_vary(&target, 0);
    run_steps(&target, &net, &data, first);
    for (uint32_t round = 1; round < TARGET_ROUNDS; round++) {
        target_vary(&target, round);
        run_steps(&target, &net, &data, other);
        for (uint32_t i = 0; i < net.param_count; i++) {
            compare_label("%s, round %u, parameter %u", target.label, round, i);
            compare_exact("value", other[i], first[i], net.params[i].count);
            guard_free(other[i]);
        }
    }
    for (uint32_t i = 0; i < net.param_count; i++) guard_free(first[i]);
    data_free(&data);
}
END_TEST

/* A loss that is not finite leaves every parameter as it was, and the next step is as
 * if nothing had been. */
START_TEST(step_not_finite)
{
    static const float values[] = {NAN, INFINITY};
    const struct target *target = &targets[_i / 2];
    if (!(target->engine->abilities & VGG_CAN_STEP) || target->tunes) return;
    const vgg_update update = {
        .kind = VGG_SGD, .lr = 0.1, .weight_decay = 0.01, .t = 1};
    double sum = 0, *params[NET_PARAMS], *want[NET_PARAMS];
    uint32_t correct = 0;
    struct net net;
    struct data data, bad;
    struct session s;
    net_parse(&net, plain_net);
    data_create(&data, &net, 4, DATA_REAL, 60);
    data_create(&bad, &net, 4, DATA_REAL, 60);
    for (size_t i = 0; i < 4 * net_input_count(&net); i++)
        bad.input[i] = values[_i % 2];
    run_steps(target, &net, &data, want);
    open_stepper(&s, target, &net, 4);
    session_write(&s, &data);
    for (int k = 0; k < 3; k++) {
        for (uint32_t i = 0; i < net.param_count; i++)
            params[i] = read_slot(&s, i, VGG_SLOT_VALUE);
        session_forward(&s, &bad);
        vgg_run run = session_run_desc(&bad);
        run.update = &update;
        run.loss_sum = &sum;
        run.correct = &correct;
        ck_fails(target->engine->run(s.program, VGG_PHASE_STEP, &run), VGG_ENONFINITE);
        ck_assert(!isfinite(sum));
        for (uint32_t i = 0; i < net.param_count; i++) {
            double *after = read_slot(&s, i, VGG_SLOT_VALUE);
            compare_label("%s, step %d, parameter %u", target->label, k, i);
            compare_exact("value", after, params[i], net.params[i].count);
            guard_free(after);
            guard_free(params[i]);
        }
        session_forward(&s, &data);
        run_phase(&s, &data, VGG_PHASE_STEP, &update);
    }
    for (uint32_t i = 0; i < net.param_count; i++) {
        double *after = read_slot(&s, i, VGG_SLOT_VALUE);
        compare_label("%s, parameter %u", target->label, i);
        compare_exact("value", after, want[i], net.params[i].count);
        guard_free(after);
        guard_free(want[i]);
    }
    session_close(&s);
    data_free(&bad);
    data_free(&data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("steps");
    TCase *tcase = tcase_create("engines");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, repeated, 0, (int)target_count);
    tcase_add_loop_test(tcase, at_once, 0, (int)target_count);
    tcase_add_loop_test(tcase, many_pieces, 0, (int)target_count);
    tcase_add_loop_test(tcase, accumulated, 0, (int)target_count);
    tcase_add_loop_test(tcase, stepped, 0, (int)target_count);
    tcase_add_loop_test(tcase, step_by_step, 0, (int)target_count);
    tcase_add_loop_test(tcase, step_bits, 0, 2 * (int)target_count);
    tcase_add_loop_test(tcase, step_not_finite, 0, 2 * (int)target_count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
