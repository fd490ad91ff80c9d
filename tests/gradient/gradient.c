/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients of the reference engine against central differences, in double: every
 * parameter and every input of every kind of stage and of small networks.
 *
 * An input is float, so its step is 2^-20 on values that are multiples of it;
 * parameters take 1e-6. Data is drawn so that no ReLU and no maximum changes sides
 * within a step. */
#include <math.h>
#include <stdio.h>

#include "guard.h"
#include "harness.h"
#include "session.h"

#define STEP       1e-6
#define INPUT_STEP 0x1p-20
#define KINK       1e-3 /* least distance to one: a thousand steps */

/* The difference of two objectives near 10, each right to 2^-53, over two steps, is
 * right to about 1e-9; the rest is the third derivative. */
#define TOLERANCE 1e-6

static const struct {
    const char *net;
    uint32_t batch;
} cases[] = {
    {"2x4x3 conv3:3", 2},
    {"3x1x1 conv3:2", 1},
    {"1x1x5 conv3:2", 2},
    {"2x5x2 conv3:2", 1},
    {"4x3x3 conv1:3", 2},
    {"3x2x3 bn", 3},
    {"5x1x1 bn", 6},
    {"2x4x3 relu", 2},
    {"2x5x4 max", 2},
    {"2x5x4 avg", 2},
    {"2x5x4 adaptive:3x2", 2},
    {"2x1x1 adaptive:3x3", 1},
    {"2x7x7 adaptive:7x7", 1},
    {"2x3x2 flatten", 2},
    {"5x1x1 linear:4", 3},
    {"2x3x2 linear:4", 2},
    {"7x1x1 dropout:0.5", 4},
    {"6x1x1 loss", 4},
    {"2x4x4 conv3:3 bn relu", 2},
    {"2x6x6 conv3:3 relu max", 2},
    {"2x6x6 conv3:3 bn relu conv3:2 relu avg", 2},
    {"1x8x8 conv3:2 relu max conv3:3 relu max flatten linear:6 relu dropout:0.5 "
     "linear:4 "
     "loss",
     2},
    {"2x8x8 conv3:3 bn relu max conv1:3 bn relu adaptive:2x2 linear:5 loss", 3},
};
static const int case_count = sizeof cases / sizeof *cases;

struct check {
    struct session session;
    struct data data;
    double *output; /* room for one */
};

/* What is differentiated: the mean loss, or the sum of output times data.dy. */
static double objective(struct check *check)
{
    struct session *s = &check->session;
    const vgg_engine *engine = s->target->engine;
    session_forward(s, &check->data);
    if (net_has_loss(&s->net)) {
        double sum = 0;
        uint32_t correct = 0;
        vgg_run run = session_run_desc(&check->data);
        run.loss_sum = &sum;
        run.correct = &correct;
        ck_ok(engine->run(s->program, VGG_PHASE_LOSS, &run));
        return sum / check->data.count * check->data.scale;
    }
    ck_ok(engine->read(s->program, VGG_VIEW_OUTPUT, 0, check->output, VGG_F64));
    double sum = 0;
    for (size_t i = 0; i < check->data.count * net_output_count(&s->net); i++)
        sum += check->output[i] * check->data.dy[i];
    return sum;
}

static double *double_array(const float *from, size_t count)
{
    double *array = guard_array(count, sizeof *array);
    for (size_t i = 0; i < count; i++) array[i] = from[i];
    return array;
}

/* Both as vectors: an element is judged by itself or, where it is small, by the typical
 * one, and not below 0.05 (a gradient can be zero as a whole). */
static void compare_gradients(const char *what, const double *got, const double *want,
                              size_t count)
{
    double norm = 0;
    for (size_t i = 0; i < count; i++) norm += want[i] * want[i];
    const double typical = fmax(sqrt(norm / (double)count), 0.05);
    for (size_t i = 0; i < count; i++)
        if (!(fabs(got[i] - want[i]) <= TOLERANCE * fmax(fabs(want[i]), typical)))
            ck_abort_msg("%s[%zu] of %zu: backward says %.12g, differences %.12g", what,
                         i, count, got[i], want[i]);
}

static void check_input(struct check *check, const double *got)
{
    const size_t count = check->data.count * net_input_count(&check->session.net);
    double *want = guard_array(count, sizeof *want);
    for (size_t i = 0; i < count; i++) {
        const float value = check->data.input[i];
        check->data.input[i] = value + (float)INPUT_STEP;
        const double above = objective(check);
        check->data.input[i] = value - (float)INPUT_STEP;
        const double below = objective(check);
        check->data.input[i] = value;
        want[i] = (above - below) / (2 * INPUT_STEP);
    }
    compare_gradients("input", got, want, count);
    guard_free(want);
}

static void write_param(struct check *check, uint32_t param, const double *values)
{
    struct session *s = &check->session;
    ck_ok(s->target->engine->store_write(s->store, param, VGG_SLOT_VALUE, values,
                                         VGG_F64));
}

static void check_param(struct check *check, uint32_t param, const double *got)
{
    const size_t count = check->session.net.params[param].count;
    double *values = double_array(check->data.params[param], count);
    double *want = guard_array(count, sizeof *want);
    for (size_t i = 0; i < count; i++) {
        const double value = values[i];
        values[i] = value + STEP;
        write_param(check, param, values);
        const double above = objective(check);
        values[i] = value - STEP;
        write_param(check, param, values);
        const double below = objective(check);
        values[i] = value;
        want[i] = (above - below) / (2 * STEP);
    }
    write_param(check, param, values);
    char what[32];
    snprintf(what, sizeof what, "parameter %u", param);
    compare_gradients(what, got, want, count);
    guard_free(values);
    guard_free(want);
}

static void draw_smooth(const struct net *net, uint32_t batch, uint32_t mode,
                        struct data *data)
{
    for (uint64_t seed = 1; seed < 200; seed++) {
        data_create(data, net, batch, DATA_REAL, seed);
        data->smoothing = 0.1f;
        data->scale = 0.5f;
        if (net_kink_distance(net, data, mode) > KINK) return;
        data_free(data);
    }
    ck_abort_msg("no seed keeps away from kinks");
}

static void check_case(const char *text, uint32_t batch, uint32_t mode)
{
    struct net net;
    net_parse(&net, text);
    struct check check;
    draw_smooth(&net, batch, mode, &check.data);
    check.output = guard_array(batch * net_output_count(&net), sizeof *check.output);
    struct outcome got;
    run_net(&target_ref64, &net, &check.data, mode, &got);
    ck_assert_int_eq(got.loss_status, VGG_OK);

    session_open(&check.session, &target_ref64, &net, batch, mode, false);
    session_write(&check.session, &check.data);
    check_input(&check, got.dx);
    for (uint32_t i = 0; i < net.param_count; i++)
        if (net.params[i].trainable) check_param(&check, i, got.dparams[i]);
    session_close(&check.session);
    outcome_free(&got);
    guard_free(check.output);
    data_free(&check.data);
}

START_TEST(training)
{
    check_case(cases[_i].net, cases[_i].batch, VGG_MODE_TRAIN);
}
END_TEST

START_TEST(running_statistics)
{
    check_case(cases[_i].net, cases[_i].batch, VGG_MODE_GRAD);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gradient");
    TCase *tcase = tcase_create("central differences");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, training, 0, case_count);
    tcase_add_loop_test(tcase, running_statistics, 0, case_count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
