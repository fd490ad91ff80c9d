/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients of taps: calls that can't be meant, and what a plan tells of them. */
#include <stdbool.h>
#include <string.h>

#include "tapped.h"

/* A last layer that does nothing is no place of its own: the network ends before it. */
START_TEST(idle_at_the_end)
{
    static const char *const last[] = {"fc2", "idle"};
    static const struct subject of = {"cpu", VGG_FP32, VGG_MODE_GRAD, 0};
    struct whole w;
    begin(&w, &of);
    vgg_plan_free(w.plan);
    vgg_model_free(w.model);
    ck_ok(vgg_model_create_empty(NULL, &(vgg_shape){3, {2, 9, 8}}, &w.model));
    add_layers(w.model, 0, LAYERS);
    ck_ok(vgg_model_add_dropout(w.model, 0.5f, "idle"));
    ck_ok(vgg_model_init(w.model, VGG_INIT_HE, 5));
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = BATCH;
    opts.mode = VGG_MODE_GRAD;
    opts.tap_gradients = 1;
    opts.taps = last;
    opts.tap_count = 2;
    ck_ok(vgg_plan_create(w.model, device, &opts, &w.plan));
    vgg_tensor *const gradient = numbers(vgg_model_output_shape(w.model), 1);
    ck_ok(vgg_plan_forward(w.plan, w.images, NULL));
    for (int i = 0; i < 2; i++)
        ck_fails_with(vgg_plan_set_tap_gradient(w.plan, last[i], gradient), VGG_EINVAL,
                      "network's output");
    vgg_tensor_free(gradient);
    end(&w);
}
END_TEST

/* A plan says what a tap makes it compute, although nothing is trained. */
START_TEST(work_is_told)
{
    static const struct subject of = {"cpu", VGG_FP32, VGG_MODE_GRAD, 0};
    struct whole w;
    begin(&w, &of);
    vgg_plan_free(w.plan);
    for (uint32_t i = 0; i < vgg_model_param_count(w.model); i++)
        if (!vgg_param_is_buffer(vgg_model_param(w.model, i)))
            ck_ok(vgg_param_set_trainable(vgg_model_param(w.model, i), 0));
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.mode = VGG_MODE_GRAD;
    opts.tap_gradients = opts.tap_count = 1;
    opts.taps = &tap_names[POOL];
    ck_ok(vgg_plan_create(w.model, device, &opts, &w.plan));
    bool behind = false;
    for (uint32_t i = 0; i + 1 < vgg_plan_stage_count(w.plan); i++) {
        vgg_stage_info info;
        ck_ok(vgg_plan_stage(w.plan, i, &info));
        behind = behind || strcmp(info.kind, "tap") == 0;
        ck_assert_msg((info.backward_bytes > 0) == behind, "%s", info.name);
    }
    ck_assert(behind);
    end(&w);
}
END_TEST

START_TEST(wrong_calls)
{
    static const struct subject of = {"cpu", VGG_FP32, VGG_MODE_GRAD, 0};
    struct whole w;
    begin(&w, &of);
    const vgg_shape *const sample =
        vgg_layer_out_shape(vgg_model_find_layer(w.model, "pool"));
    vgg_tensor *const right = numbers(sample, 0);
    vgg_tensor *const doubles = tensor(VGG_F64, sample, BATCH);
    vgg_tensor *const more = tensor(VGG_F32, sample, BATCH + 1);
    vgg_tensor *const out = numbers(vgg_model_output_shape(w.model), 0);
    vgg_plan *const p = w.plan;
    ck_fails_with(vgg_plan_set_tap_gradient(p, "pool", doubles), VGG_EINVAL, "VGG_F32");
    ck_fails_with(vgg_plan_set_tap_gradient(p, "pool", more), VGG_ESHAPE,
                  "pool has 4 samples; the run has 3");
    ck_fails_with(vgg_plan_set_tap_gradient(p, "pool", out), VGG_ESHAPE, "pool is 3x3");
    ck_fails_with(vgg_plan_set_tap_gradient(p, "relu3", right), VGG_EINVAL,
                  "\"relu3\" is not a tap");
    ck_fails_with(vgg_plan_set_tap_gradient(p, "nowhere", right), VGG_EINVAL,
                  "nowhere");
    ck_fails_with(vgg_plan_set_tap_gradient(p, "fc2", out), VGG_EINVAL,
                  "vgg_plan_set_output_gradient()");
    ck_fails_with(vgg_plan_set_tap_gradient(p, NULL, right), VGG_EINVAL, "name");
    ck_fails_with(vgg_plan_set_tap_gradient(NULL, "pool", right), VGG_EINVAL, "plan");
    ck_fails_with(vgg_plan_set_tap_gradient(p, "pool", NULL), VGG_EINVAL, "gradient");
    ck_fails_with(vgg_plan_backward(p), VGG_ESTATE, "needs a forward and a loss");
    ck_fails_with(vgg_plan_tap_gradient(p, "pool", right), VGG_ESTATE,
                  "no backward was run");
    ck_ok(vgg_plan_set_tap_gradient(p, "pool", right));
    ck_ok(vgg_plan_backward(p));
    ck_ok(vgg_plan_tap_gradient(p, "pool", right));
    ck_fails_with(vgg_plan_tap_gradient(p, "pool", more), VGG_ESHAPE, "4 samples");
    ck_fails_with(vgg_plan_tap_gradient(p, "relu3", right), VGG_EINVAL, "not a tap");
    ck_fails_with(vgg_plan_tap_gradient(p, "fc2", out), VGG_EINVAL, "network's output");
    ck_fails_with(vgg_plan_tap_gradient(p, NULL, right), VGG_EINVAL, "name");
    ck_fails_with(vgg_plan_tap_gradient(NULL, "pool", right), VGG_EINVAL, "plan");
    ck_fails_with(vgg_plan_tap_gradient(p, "pool", NULL), VGG_EINVAL, "out");
    ck_fails_with(vgg_plan_set_tap_gradient(p, "pool", right), VGG_ESTATE,
                  "no forward was run since");
    ck_fails_with(vgg_plan_backward(p), VGG_ESTATE, "needs a forward and a loss");

    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    vgg_plan *other;
    opts.tap_gradients = 1;
    ck_fails_with(vgg_plan_create(w.model, device, &opts, &other), VGG_EINVAL,
                  "needs taps, and mode train or grad");
    opts.taps = tap_names;
    opts.tap_count = 2;
    ck_fails_with(vgg_plan_create(w.model, device, &opts, &other), VGG_EINVAL,
                  "needs taps, and mode train or grad");
    opts.mode = VGG_MODE_GRAD;
    opts.tap_gradients = 2;
    ck_fails_with(vgg_plan_create(w.model, device, &opts, &other), VGG_EINVAL,
                  "tap_gradients is 2; expected 0 or 1");
    opts.tap_gradients = 0;
    ck_ok(vgg_plan_create(w.model, device, &opts, &other));
    ck_fails_with(vgg_plan_set_tap_gradient(other, "conv", right), VGG_ESTATE,
                  "made without tap_gradients");
    ck_fails_with(vgg_plan_tap_gradient(other, "conv", right), VGG_ESTATE,
                  "made without tap_gradients");
    vgg_plan_free(other);
    vgg_tensor_free(right);
    vgg_tensor_free(doubles);
    vgg_tensor_free(more);
    vgg_tensor_free(out);
    end(&w);
}
END_TEST

/* A stage of a tap is one of the plan's: it has a name, shapes and memory. */
START_TEST(told)
{
    static const struct subject of = {"cpu", VGG_FP32, VGG_MODE_GRAD, 0};
    struct whole w;
    uint32_t seen = 0;
    begin(&w, &of);
    for (uint32_t i = 0; i < vgg_plan_stage_count(w.plan); i++) {
        vgg_stage_info info;
        ck_ok(vgg_plan_stage(w.plan, i, &info));
        if (strcmp(info.name, "conv2..pool") == 0)
            ck_assert(info.out.dim[0] == 8 && info.out.dim[1] == 4);
        if (strcmp(info.kind, "tap") != 0) continue;
        ck_assert_msg(strncmp(info.name, "tap ", 4) == 0, "%s", info.name);
        const vgg_layer *const layer = vgg_model_find_layer(w.model, info.name + 4);
        const vgg_shape *const shape = vgg_layer_out_shape(layer);
        ck_assert(info.in.rank == shape->rank && info.out.rank == shape->rank);
        for (uint32_t k = 0; k < shape->rank; k++)
            ck_assert(info.in.dim[k] == shape->dim[k] &&
                      info.out.dim[k] == shape->dim[k]);
        seen++;
    }
    ck_assert_uint_eq(seen, TAPS);
    ck_assert_ptr_nonnull(strstr(vgg_plan_describe(w.plan), "tap pool"));
    end(&w);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("tap calls");
    TCase *const tcase = tcase_create("tap calls");
    tcase_add_test(tcase, idle_at_the_end);
    tcase_add_test(tcase, work_is_told);
    tcase_add_test(tcase, wrong_calls);
    tcase_add_test(tcase, told);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
