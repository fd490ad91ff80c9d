/* SPDX-License-Identifier: Apache-2.0 */
/* The optimisers against PyTorch 2 (torch.optim on the CPU): four values and five
 * updates with the gradients below, in float and in double; first the rules alone, then
 * every engine's store. */
#include "common/update.h"

#include <math.h>

#include "compare.h"
#include "harness.h"
#include "targets.h"

enum { COUNT = 4, UPDATES = 5 };

/* Numbers that float holds exactly. */
static double start_value(int i)
{
    return (i - 1.5) / 2;
}

static double gradient_at(int t, int i)
{
    return ((t * 7 + i * 5) % 11 - 5) / 8.0;
}

static const struct {
    vgg_update rule;
    uint32_t states;
    double f64[COUNT];
    float f32[COUNT];
} cases[] = {
    {{.kind = VGG_SGD, .lr = 0.1},
     0,
     {-0.78749999999999998, -0.1875, 0.27499999999999997, 0.73750000000000004},
     {-0.787499964f, -0.1875f, 0.275000006f, 0.737500012f}},
    {{.kind = VGG_SGD, .lr = 0.1, .weight_decay = 0.01},
     0,
     {-0.78359512992877423, -0.18642729766369978, 0.27378998501373719,
      0.73359531727881166},
     {-0.783595204f, -0.186427295f, 0.273789972f, 0.733595371f}},
    {{.kind = VGG_SGD, .lr = 0.1, .momentum = 0.9, .weight_decay = 0.01},
     1,
     {-0.91173940409647425, -0.043933648679599736, 0.23906147189463725,
      0.8457547273115118},
     {-0.911739469f, -0.0439336523f, 0.239061475f, 0.845754743f}},
    {{.kind = VGG_SGD, .nesterov = 1, .lr = 0.1, .momentum = 0.9, .weight_decay = 0.01},
     1,
     {-0.92872199644112174, -0.0015299185102159195, 0.26403277147571091,
      0.81909622440661667},
     {-0.928721905f, -0.00152993517f, 0.264032781f, 0.819096208f}},
    {{.kind = VGG_ADAM, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
     2,
     {-0.7716603956095256, -0.22921660528425625, 0.24206180707504704,
      0.7658258316892399},
     {-0.771660388f, -0.229216605f, 0.242061809f, 0.765825808f}},
    {{.kind = VGG_ADAM,
      .lr = 0.01,
      .weight_decay = 0.1,
      .beta1 = 0.4,
      .beta2 = 0.98,
      .epsilon = 1e-6},
     2,
     {-0.75863982125010776, -0.23078946814469253, 0.24390342976075882,
      0.74595635412123829},
     {-0.758639812f, -0.230789468f, 0.243903443f, 0.745956361f}},
    {{.kind = VGG_ADAMW,
      .lr = 0.01,
      .weight_decay = 0.1,
      .beta1 = 0.9,
      .beta2 = 0.999,
      .epsilon = 1e-8},
     2,
     {-0.76786348535287441, -0.22802077965800865, 0.2408468849053374,
      0.76202446833079895},
     {-0.767863512f, -0.228020787f, 0.240846887f, 0.762024462f}},
};
static const int case_count = sizeof cases / sizeof *cases;

/* The last digits of a double may differ by the order of two roundings. */
START_TEST(in_double)
{
    double value[COUNT], gradient[COUNT], state[2][COUNT] = {{0}};
    vgg_update rule = cases[_i].rule;
    ck_assert_uint_eq(vgg__update_states(&rule), cases[_i].states);
    for (int i = 0; i < COUNT; i++) value[i] = start_value(i);
    for (int t = 1; t <= UPDATES; t++) {
        for (int i = 0; i < COUNT; i++) gradient[i] = gradient_at(t, i);
        rule.t = (uint64_t)t;
        vgg__update_f64(&(struct vgg__update_args){
            &rule, value, gradient, {state[0], state[1]}, COUNT});
    }
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_eq_tol(value[i], cases[_i].f64[i], 1e-15);
}
END_TEST

/* Within two units in the last place of numbers below 1. */
START_TEST(in_float)
{
    float value[COUNT], gradient[COUNT], state[2][COUNT] = {{0}};
    vgg_update rule = cases[_i].rule;
    for (int i = 0; i < COUNT; i++) value[i] = (float)start_value(i);
    for (int t = 1; t <= UPDATES; t++) {
        for (int i = 0; i < COUNT; i++) gradient[i] = (float)gradient_at(t, i);
        rule.t = (uint64_t)t;
        vgg__update_f32(&(struct vgg__update_args){
            &rule, value, gradient, {state[0], state[1]}, COUNT});
    }
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_eq_tol(value[i], cases[_i].f32[i], 0x1p-23);
}
END_TEST

/* Adam's first moment where the old one and the gradient are far apart: an average that
 * is taken from the end that is farther away has no digit right. Within two units in
 * the last place, for three roundings. */
START_TEST(in_between)
{
    static const struct {
        double beta1, first, gradient;
    } ends[] = {
        {0, 0x1p60, 3},          {0x1p-10, 0x1p24, 1}, {0.25, 1e6, -0.7},
        {0.75, -0.7, 1e6},       {0.9, 0.3, 1e-3},     {1 - 0x1p-10, 1, 0x1p24},
        {1 - 0x1p-20, 0.3, 1e8},
    };
    for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
        const vgg_update rule = {.kind = VGG_ADAM,
                                 .lr = 0.01,
                                 .beta1 = ends[k].beta1,
                                 .beta2 = 0.999,
                                 .epsilon = 1e-8,
                                 .t = 2};
        float value = 1, g = (float)ends[k].gradient, state[2] = {(float)ends[k].first};
        double value64 = 1, g64 = g, state64[2] = {state[0]};
        const long double share = 1 - (long double)rule.beta1;
        const long double want = (1 - share) * state[0] + share * g;
        vgg__update_f32(
            &(struct vgg__update_args){&rule, &value, &g, {&state[0], &state[1]}, 1});
        vgg__update_f64(&(struct vgg__update_args){
            &rule, &value64, &g64, {&state64[0], &state64[1]}, 1});
        const double size = fabs((double)want);
        ck_assert_double_eq_tol(state[0], (double)want, size * 0x1p-22);
        ck_assert_double_eq_tol(state64[0], (double)want, size * 0x1p-51);
    }
}
END_TEST

/* Pieces of any size give what the whole gives. */
START_TEST(in_pieces)
{
    enum { MANY = 37 };
    float whole[MANY], parts[MANY], gradient[MANY];
    float state[2][MANY] = {{0}}, other[2][MANY] = {{0}};
    vgg_update rule = cases[_i].rule;
    rule.t = 3;
    for (int i = 0; i < MANY; i++) {
        whole[i] = parts[i] = (float)start_value(i);
        gradient[i] = (float)gradient_at(1, i);
    }
    vgg__update_f32(
        &(struct vgg__update_args){&rule, whole, gradient, {state[0], state[1]}, MANY});
    for (size_t at = 0, size = 1; at < MANY; at += size, size = size * 2 + 1)
        vgg__update_f32(
            &(struct vgg__update_args){&rule,
                                       parts + at,
                                       gradient + at,
                                       {other[0] + at, other[1] + at},
                                       at + size < MANY ? size : MANY - at});
    ck_assert_mem_eq(whole, parts, sizeof whole);
    ck_assert_mem_eq(state, other, sizeof state);
}
END_TEST

/* Without decay the weight's own value does not enter its gradient. */
START_TEST(infinite_weight)
{
    float value = INFINITY, gradient = 1, state[2] = {0, 0};
    vgg_update rule = cases[0].rule;
    rule.momentum = _i * 0.5;
    vgg__update_f32(&(struct vgg__update_args){
        &rule, &value, &gradient, {&state[0], &state[1]}, 1});
    ck_assert(isinf(value) && value > 0);
    ck_assert(!isnan(state[0]));
}
END_TEST

/* A store of one parameter; `count` elements. */
static void open_store(struct session *s, const struct target *target,
                       const vgg_param_desc *param)
{
    *s = (struct session){.target = target};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    session_open_device(s, &opts);
    const vgg_engine *engine = target->engine;
    ck_ok(engine->store_create(s->device, param, 1, target->precision, &s->store));
    ck_ok(engine->store_gradients(s->store, param));
}

static void close_store(struct session *s)
{
    s->target->engine->store_free(s->store);
    s->target->engine->close(s->device);
    vgg_context_free(s->ctx);
    session_closed();
}

/* Within two units in the last place of numbers below 1, as above. */
START_TEST(in_stores)
{
    const vgg_param_desc param = {
        .shape = {.rank = 1, .dim = {COUNT}}, .count = COUNT, .trainable = 1};
    for (uint32_t k = 0; k < target_count; k++) {
        const vgg_engine *engine = targets[k].engine;
        struct session s;
        double value[COUNT], gradient[COUNT];
        vgg_update rule = cases[_i].rule;
        open_store(&s, &targets[k], &param);
        for (int i = 0; i < COUNT; i++) value[i] = start_value(i);
        ck_ok(engine->store_write(s.store, 0, VGG_SLOT_VALUE, value, VGG_F64));
        for (int t = 1; t <= UPDATES; t++) {
            for (int i = 0; i < COUNT; i++) gradient[i] = gradient_at(t, i);
            rule.t = (uint64_t)t;
            ck_ok(
                engine->store_write(s.store, 0, VGG_SLOT_GRADIENT, gradient, VGG_F64));
            ck_ok(engine->store_update(s.store, &rule));
        }
        ck_ok(engine->store_read(s.store, 0, VGG_SLOT_VALUE, value, VGG_F64));
        for (int i = 0; i < COUNT; i++)
            ck_assert_msg(fabs(value[i] - cases[_i].f64[i]) <
                              (targets[k].precision == VGG_FP64 ? 1e-15 : 4 * 0x1p-23),
                          "%s: value %d is %.9g", targets[k].label, i, value[i]);
        close_store(&s);
    }
}
END_TEST

/* The last, partly filled chunk too. */
START_TEST(in_large_stores)
{
    enum { MANY = 70001 };
    const vgg_param_desc param = {
        .shape = {.rank = 1, .dim = {MANY}}, .count = MANY, .trainable = 1};
    static double value[MANY], gradient[MANY], got[MANY];
    for (int i = 0; i < MANY; i++) {
        value[i] = (i % 1001 - 500) / 512.0;
        gradient[i] = (i % 63 - 31) / 32.0;
    }
    const vgg_update rule = {.kind = VGG_SGD, .lr = 0.5, .t = 1};
    for (uint32_t k = 0; k < target_count; k++) {
        const vgg_engine *engine = targets[k].engine;
        struct session s;
        open_store(&s, &targets[k], &param);
        ck_ok(engine->store_write(s.store, 0, VGG_SLOT_VALUE, value, VGG_F64));
        ck_ok(engine->store_write(s.store, 0, VGG_SLOT_GRADIENT, gradient, VGG_F64));
        ck_ok(engine->store_update(s.store, &rule));
        ck_ok(engine->store_read(s.store, 0, VGG_SLOT_VALUE, got, VGG_F64));
        for (int i = 0; i < MANY; i++)
            if (got[i] != value[i] - 0.5 * gradient[i])
                ck_abort_msg("%s: value %d is %.9g", targets[k].label, i, got[i]);
        close_store(&s);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("update");
    TCase *tcase = tcase_create("rules");
    tcase_add_loop_test(tcase, in_double, 0, case_count);
    tcase_add_loop_test(tcase, in_float, 0, case_count);
    tcase_add_test(tcase, in_between);
    tcase_add_loop_test(tcase, in_pieces, 0, case_count);
    tcase_add_loop_test(tcase, infinite_weight, 0, 2);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("engines");
    tcase_add_loop_test(tcase, in_stores, 0, case_count);
    tcase_add_test(tcase, in_large_stores);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
