/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients of taps. What they give must be the sum of what networks give that end
 * where the taps are, which know nothing of taps. */
#include "tapped.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { MOST = 4096 };

static uint64_t add_from(double *sum, const vgg_tensor *from)
{
    const uint64_t count = vgg_tensor_bytes(from) / sizeof(double);
    const double *const at = vgg_tensor_data_const(from);
    for (uint64_t i = 0; i < count; i++) sum[i] += at[i];
    return count;
}

/* All gradients in one list, those of the input first; a shorter network's parameters
 * are the first of a longer one's. Added to `sum`; returns how many. */
static uint64_t add_gradients(vgg_plan *plan, vgg_model *model, double *sum)
{
    vgg_tensor *of = tensor(VGG_F64, vgg_model_input_shape(model), BATCH);
    ck_ok(vgg_plan_input_gradient(plan, of));
    uint64_t count = add_from(sum, of);
    vgg_tensor_free(of);
    for (uint32_t i = 0; i < vgg_model_param_count(model); i++) {
        const vgg_param *const param = vgg_model_param(model, i);
        if (vgg_param_is_buffer(param)) continue;
        ck_ok(vgg_tensor_create(NULL, VGG_F64, vgg_param_shape(param), &of));
        ck_ok(vgg_plan_param_gradient(plan, param, of));
        count += add_from(sum + count, of);
        vgg_tensor_free(of);
    }
    ck_assert_uint_le(count, MOST);
    return count;
}

static const struct subject subjects[] = {
#ifdef GPU /* tests/simulated: that is one in a plugin */
    {GPU, VGG_FP32, VGG_MODE_TRAIN, 2e-6},
    {GPU, VGG_FP32, VGG_MODE_GRAD, 2e-6},
#else
    {"ref", VGG_FP64, VGG_MODE_TRAIN, 1e-13}, {"ref", VGG_FP64, VGG_MODE_GRAD, 1e-13},
    {"ref", VGG_FP32, VGG_MODE_TRAIN, 2e-6},  {"cpu", VGG_FP32, VGG_MODE_TRAIN, 2e-6},
    {"cpu", VGG_FP32, VGG_MODE_GRAD, 2e-6},
#endif
};

/* Gradients of a network of so many layers whose output's gradient is numbers(salt),
 * added to `sum`. Its output, too. */
static vgg_tensor *add_alone(const struct subject *of, uint32_t layers, uint32_t salt,
                             double *sum)
{
    vgg_model *const model = make_model(layers);
    vgg_tensor *const images = numbers(vgg_model_input_shape(model), 0);
    vgg_tensor *const gradient = numbers(vgg_model_output_shape(model), salt);
    vgg_tensor *const out = tensor(VGG_F64, vgg_model_output_shape(model), BATCH);
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    vgg_plan *plan;
    opts.batch = BATCH;
    opts.mode = of->mode;
    opts.precision = of->precision;
    opts.input_gradient = 1;
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    ck_ok(vgg_plan_forward(plan, images, out));
    ck_ok(vgg_plan_set_output_gradient(plan, gradient));
    ck_ok(vgg_plan_backward(plan));
    add_gradients(plan, model, sum);
    vgg_plan_free(plan);
    vgg_model_free(model);
    vgg_tensor_free(images);
    vgg_tensor_free(gradient);
    return out;
}

static double distance(const double *a, const double *b, uint64_t count)
{
    double difference = 0, size = 0;
    for (uint64_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    ck_assert(size > 0);
    return sqrt(difference / size);
}

static void set_tap(struct whole *w, uint32_t tap)
{
    const vgg_layer *const layer = vgg_model_find_layer(w->model, taps[tap].name);
    vgg_tensor *const gradient = numbers(vgg_layer_out_shape(layer), tap + 1);
    ck_ok(vgg_plan_set_tap_gradient(w->plan, taps[tap].name, gradient));
    memset(vgg_tensor_data(gradient), 0xff, (size_t)vgg_tensor_bytes(gradient));
    vgg_tensor_free(gradient); /* copied */
}

/* The taps of a set of bits, and the output's gradient with bit TAPS. */
static void check_set(const struct subject *of, uint32_t set)
{
    double found[MOST] = {0}, wanted[MOST] = {0};
    struct whole w;
    begin(&w, of);
    if (set >> TAPS & 1) {
        vgg_tensor *const gradient = numbers(vgg_model_output_shape(w.model), 99);
        ck_ok(vgg_plan_set_output_gradient(w.plan, gradient));
        vgg_tensor_free(gradient);
        vgg_tensor_free(add_alone(of, LAYERS, 99, wanted));
    }
    for (uint32_t i = 0; i < TAPS; i++) {
        if (!(set >> i & 1)) continue;
        set_tap(&w, i);
        vgg_tensor *const alone = add_alone(of, taps[i].layers, i + 1, wanted);
        vgg_tensor *const here = tensor(
            VGG_F64, vgg_layer_out_shape(vgg_model_find_layer(w.model, taps[i].name)),
            BATCH);
        ck_ok(vgg_plan_tap(w.plan, taps[i].name, here));
        const double apart = distance(vgg_tensor_data(here), vgg_tensor_data(alone),
                                      vgg_tensor_bytes(alone) / sizeof(double));
        ck_assert_msg(apart <= of->tolerance, "%s: values differ by %g", taps[i].name,
                      apart);
        vgg_tensor_free(alone);
        vgg_tensor_free(here);
    }
    ck_ok(vgg_plan_backward(w.plan));
    const uint64_t count = add_gradients(w.plan, w.model, found);
    const double apart = distance(found, wanted, count);
    ck_assert_msg(apart <= of->tolerance, "%s, mode %u, taps %02x: off by %g",
                  of->engine, of->mode, set, apart);
    end(&w);
}

START_TEST(sums_of_shorter_networks)
{
    for (uint32_t i = 0; i <= TAPS; i++) check_set(&subjects[_i], 1u << i);
    check_set(&subjects[_i], 0x8c);
    check_set(&subjects[_i], 0x1ff);
}
END_TEST

/* Beside the loss, whichever is told first; and each forward begins without, also where
 * one was told that no backward has used. */
START_TEST(beside_a_loss)
{
    static const uint32_t labels[BATCH] = {2, 0, 1};
    double found[4][MOST] = {{0}}, loss_alone[MOST] = {0}, tap_alone[MOST] = {0};
    const struct subject *const of = &subjects[_i];
    struct whole w;
    uint64_t count = 0;
    begin(&w, of);
    for (int turn = 0; turn < 4; turn++) {
        ck_ok(vgg_plan_zero_gradients(w.plan));
        if (turn == 3) {
            ck_ok(vgg_plan_forward(w.plan, w.images, NULL));
            set_tap(&w, POOL);
        }
        if (turn > 0) ck_ok(vgg_plan_forward(w.plan, w.images, NULL));
        if (turn == 1) set_tap(&w, POOL);
        ck_ok(vgg_plan_loss(w.plan, labels, 0.0f, 1.0f, NULL, NULL));
        if (turn == 2) set_tap(&w, POOL);
        ck_ok(vgg_plan_backward(w.plan));
        count = add_gradients(w.plan, w.model, found[turn]);
    }
    vgg_tensor_free(add_alone(of, taps[POOL].layers, POOL + 1, tap_alone));
    memcpy(loss_alone, found[0], sizeof loss_alone);
    for (uint64_t i = 0; i < count; i++) loss_alone[i] += tap_alone[i];
    ck_assert_mem_eq(found[1], found[2], sizeof found[1]);
    ck_assert_mem_eq(found[0], found[3], sizeof found[0]);
    /* In training batch norm moves its running statistics, which it does not use. */
    ck_assert(distance(found[1], loss_alone, count) <= of->tolerance);
    end(&w);
}
END_TEST

/* The layers behind a tap as a network of their own, on what the tap has shown, rounded
 * to f32; there is no dropout among them, which depends on a layer's place. */
static void check_behind(const struct subject *of, struct whole *w, uint32_t tap)
{
    const vgg_layer *const layer = vgg_model_find_layer(w->model, taps[tap].name);
    const vgg_shape *const shape = vgg_layer_out_shape(layer);
    vgg_tensor *const values = tensor(VGG_F32, shape, BATCH);
    vgg_tensor *const found = tensor(VGG_F64, shape, BATCH);
    vgg_tensor *const wanted = tensor(VGG_F64, shape, BATCH);
    vgg_tensor *const own = numbers(shape, tap + 1);
    vgg_tensor *const gradient = numbers(vgg_model_output_shape(w->model), 99);
    vgg_model *behind;
    vgg_plan *plan;
    ck_ok(vgg_model_create_empty(NULL, shape, &behind));
    add_layers(behind, taps[tap].layers, LAYERS);
    for (uint32_t i = 0; i < vgg_model_param_count(behind); i++) {
        vgg_param *const to = vgg_model_param(behind, i);
        vgg_param *const from = vgg_model_find_param(w->model, vgg_param_name(to));
        vgg_tensor *value;
        ck_ok(vgg_tensor_create(NULL, VGG_F32, vgg_param_shape(to), &value));
        ck_ok(vgg_param_read(from, value));
        ck_ok(vgg_param_write(to, value));
        vgg_tensor_free(value);
    }
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = BATCH;
    opts.mode = of->mode;
    opts.precision = of->precision;
    opts.input_gradient = 1;
    ck_ok(vgg_plan_create(behind, device, &opts, &plan));
    ck_ok(vgg_plan_tap(w->plan, taps[tap].name, values));
    ck_ok(vgg_plan_forward(plan, values, NULL));
    ck_ok(vgg_plan_set_output_gradient(plan, gradient));
    ck_ok(vgg_plan_backward(plan));
    ck_ok(vgg_plan_input_gradient(plan, wanted));
    ck_ok(vgg_plan_tap_gradient(w->plan, taps[tap].name, found));
    double *const to = vgg_tensor_data(wanted);
    const float *const mine = vgg_tensor_data(own);
    const uint64_t count = vgg_tensor_bytes(wanted) / sizeof(double);
    for (uint64_t i = 0; tap == POOL && i < count; i++) to[i] += (double)mine[i];
    const double apart = distance(vgg_tensor_data(found), to, count);
    ck_assert_msg(apart <= 3e-6, "%s: off by %g", taps[tap].name, apart);
    vgg_plan_free(plan);
    vgg_model_free(behind);
    vgg_tensor_free(values);
    vgg_tensor_free(found);
    vgg_tensor_free(wanted);
    vgg_tensor_free(own);
    vgg_tensor_free(gradient);
}

/* From the pooling on, where the caller adds one of its own. */
START_TEST(gradients_that_come_back)
{
    const struct subject *const of = &subjects[_i];
    struct whole w;
    begin(&w, of);
    vgg_tensor *const gradient = numbers(vgg_model_output_shape(w.model), 99);
    ck_ok(vgg_plan_set_output_gradient(w.plan, gradient));
    set_tap(&w, POOL);
    ck_ok(vgg_plan_backward(w.plan));
    for (uint32_t i = POOL; i < TAPS; i++) check_behind(of, &w, i);
    vgg_tensor_free(gradient);
    end(&w);
}
END_TEST

/* What is handed in where nothing comes back is looked at as it was, to the bit, behind
 * every layer, whatever the stage before it does to its own. */
START_TEST(unchanged)
{
    const struct subject *const of = &subjects[_i];
    struct whole w;
    begin(&w, of);
    vgg_plan_free(w.plan);
    for (uint32_t i = 0; i + 1 < LAYERS; i++) {
        const vgg_layer *const layer = vgg_model_layer(w.model, i);
        const char *const name = vgg_layer_name(layer);
        vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
        opts.batch = BATCH;
        opts.mode = of->mode;
        opts.precision = of->precision;
        opts.tap_gradients = opts.tap_count = opts.input_gradient = 1;
        opts.taps = &name;
        ck_ok(vgg_plan_create(w.model, device, &opts, &w.plan));
        vgg_tensor *const given = numbers(vgg_layer_out_shape(layer), 3);
        vgg_tensor *const found = tensor(VGG_F32, vgg_layer_out_shape(layer), BATCH);
        ck_ok(vgg_plan_forward(w.plan, w.images, NULL));
        ck_ok(vgg_plan_set_tap_gradient(w.plan, name, found)); /* another replaces it */
        ck_ok(vgg_plan_set_tap_gradient(w.plan, name, given));
        ck_ok(vgg_plan_backward(w.plan));
        ck_ok(vgg_plan_tap_gradient(w.plan, name, found));
        const float *const a = vgg_tensor_data(given), *const b =
                                                           vgg_tensor_data(found);
        for (uint64_t k = 0; k < vgg_tensor_bytes(given) / sizeof *a; k++)
            ck_assert_msg(a[k] == b[k], "%s: element %u is %g, not %g", name,
                          (unsigned)k, (double)b[k], (double)a[k]);
        vgg_tensor_free(given);
        vgg_tensor_free(found);
        if (i + 2 < LAYERS) vgg_plan_free(w.plan);
    }
    end(&w);
}
END_TEST

/* Nothing before the tap needs a gradient, and the tap has one. */
START_TEST(nothing_else_is_wanted)
{
    const struct subject *const of = &subjects[_i];
    struct whole w;
    double *at[2];
    vgg_tensor *of_tap[2];
    ck_ok(vgg_device_open(NULL, of->engine, &device));
    for (int frozen = 0; frozen < 2; frozen++) {
        vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
        w.model = make_model(LAYERS);
        for (uint32_t i = 0; frozen && i < vgg_model_param_count(w.model); i++)
            if (!vgg_param_is_buffer(vgg_model_param(w.model, i)))
                ck_ok(vgg_param_set_trainable(vgg_model_param(w.model, i), 0));
        w.images = numbers(vgg_model_input_shape(w.model), 0);
        opts.batch = BATCH;
        opts.mode = of->mode;
        opts.precision = of->precision;
        opts.tap_gradients = opts.tap_count = 1;
        opts.taps = &tap_names[POOL];
        ck_ok(vgg_plan_create(w.model, device, &opts, &w.plan));
        vgg_tensor *const gradient = numbers(vgg_model_output_shape(w.model), 99);
        of_tap[frozen] = tensor(
            VGG_F64, vgg_layer_out_shape(vgg_model_find_layer(w.model, "pool")), BATCH);
        ck_ok(vgg_plan_forward(w.plan, w.images, NULL));
        ck_ok(vgg_plan_set_output_gradient(w.plan, gradient));
        ck_ok(vgg_plan_backward(w.plan));
        ck_ok(vgg_plan_tap_gradient(w.plan, "pool", of_tap[frozen]));
        at[frozen] = vgg_tensor_data(of_tap[frozen]);
        vgg_tensor_free(gradient);
        vgg_tensor_free(w.images);
        vgg_plan_free(w.plan);
        vgg_model_free(w.model);
    }
    const uint64_t count = vgg_tensor_bytes(of_tap[0]) / sizeof(double);
    ck_assert(distance(at[1], at[0], count) <= of->tolerance);
    for (int i = 0; i < 2; i++) vgg_tensor_free(of_tap[i]);
    vgg_device_free(device);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("taps");
    TCase *const tcase = tcase_create("taps");
    const int count = (int)(sizeof subjects / sizeof *subjects);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, sums_of_shorter_networks, 0, count);
    tcase_add_loop_test(tcase, beside_a_loss, 0, count);
    tcase_add_loop_test(tcase, gradients_that_come_back, 0, count);
    tcase_add_loop_test(tcase, nothing_else_is_wanted, 0, count);
    tcase_add_loop_test(tcase, unchanged, 0, count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
