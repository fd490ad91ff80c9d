/* SPDX-License-Identifier: Apache-2.0 */
/* Plans through the public interface: sharing parameters, the order of phases, taps and
 * gradients, limits. What the numbers are is for conformance/ and golden/. */
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <vgg/vgg.h>

#include "harness.h"

static vgg_device *device;
static vgg_model *model;
static vgg_tensor *images; /* 4 of them */

static vgg_tensor *tensor(vgg_dtype dtype, vgg_shape shape)
{
    vgg_tensor *made;
    ck_ok(vgg_tensor_create(NULL, dtype, &shape, &made));
    return made;
}

static vgg_tensor *like_output(uint32_t n)
{
    return tensor(VGG_F32, (vgg_shape){2, {n, 3}});
}

#define RUNS 12 /* of a plan in each thread */

static const char *const engines[] = {"ref", "cpu"};

static void open_engine(const char *name)
{
    ck_ok(vgg_device_open(NULL, name, &device));
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 2;
    arch.channels = 2;
    arch.height = arch.width = 8;
    arch.hidden = 8;
    arch.classes = 3;
    model = vgg_build(&arch, 16);
    ck_assert_msg(model != NULL, "%s", vgg_last_error());
    images = tensor(VGG_F32, (vgg_shape){4, {4, 2, 8, 8}});
    float *pixel = vgg_tensor_data(images);
    for (int i = 0; i < 4 * 2 * 64; i++)
        pixel[i] = (float)((i * 37) % 64) / 64.0f - 0.3f;
}

static void close_engine(void)
{
    vgg_tensor_free(images);
    vgg_model_free(model);
    vgg_device_free(device);
}

static vgg_plan *make(uint32_t batch, uint32_t mode)
{
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = batch;
    opts.mode = mode;
    opts.input_gradient = mode == VGG_MODE_GRAD;
    vgg_plan *plan;
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    return plan;
}

static const uint32_t labels[4] = {0, 2, 1, 2};

START_TEST(plans_share_parameters)
{
    open_engine(engines[_i]);
    vgg_plan *train = make(4, VGG_MODE_TRAIN), *infer = make(4, VGG_MODE_INFER);
    vgg_tensor *before = like_output(4), *after = like_output(4);
    ck_ok(vgg_plan_forward(infer, images, before));

    double loss;
    uint32_t correct;
    ck_ok(vgg_plan_forward(train, images, NULL));
    ck_ok(vgg_plan_loss(train, labels, 0.0f, 1.0f, &loss, &correct));
    ck_assert(loss > 0.5 && loss < 3.0 && correct <= 4);
    ck_ok(vgg_plan_backward(train));
    ck_ok(vgg_plan_update(train, NULL, 0.5, 1));
    ck_ok(vgg_plan_forward(infer, images, after));
    ck_assert_mem_ne(vgg_tensor_data(before), vgg_tensor_data(after), 4 * 3 * 4);

    /* Writing a parameter back undoes the step for every plan. */
    vgg_param *weight = vgg_model_find_param(model, "fc8.weight");
    vgg_tensor *zeros = tensor(VGG_F32, *vgg_param_shape(weight));
    vgg_tensor *bias = tensor(VGG_F32, (vgg_shape){1, {3}});
    ck_ok(vgg_param_read(vgg_model_find_param(model, "fc8.bias"), bias));
    ck_ok(vgg_param_write(weight, zeros));
    ck_ok(vgg_plan_forward(infer, images, after));
    for (int i = 0; i < 12; i++)
        ck_assert_float_eq(((float *)vgg_tensor_data(after))[i],
                           ((float *)vgg_tensor_data(bias))[i % 3]);
    vgg_tensor_free(bias);
    vgg_tensor_free(zeros);
    vgg_tensor_free(before);
    vgg_tensor_free(after);
    vgg_plan_free(train);
    vgg_plan_free(infer);
    close_engine();
}
END_TEST

START_TEST(trained_values_outlive_their_plan)
{
    open_engine(engines[_i]);
    vgg_param *bias = vgg_model_find_param(model, "fc8.bias");
    vgg_tensor *value = tensor(VGG_F64, (vgg_shape){1, {3}});
    vgg_plan *train = make(4, VGG_MODE_TRAIN);
    ck_ok(vgg_plan_forward(train, images, NULL));
    ck_ok(vgg_plan_loss(train, labels, 0.0f, 1.0f, NULL, NULL));
    ck_ok(vgg_plan_backward(train));
    ck_ok(vgg_plan_update(train, NULL, 1.0, 1));
    vgg_plan_free(train);
    ck_ok(vgg_param_read(bias, value));
    ck_assert_double_ne(((double *)vgg_tensor_data(value))[0], 0.0);

    /* Another device starts from there. */
    vgg_device *other;
    ck_ok(vgg_device_open(NULL, engines[1 - _i], &other));
    vgg_plan *infer = NULL, *here = make(4, VGG_MODE_INFER);
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = 4;
    ck_ok(vgg_plan_create(model, other, &opts, &infer));
    vgg_tensor *a = like_output(4), *b = like_output(4);
    ck_ok(vgg_plan_forward(infer, images, a));
    ck_ok(vgg_plan_forward(here, images, b));
    for (int i = 0; i < 12; i++)
        ck_assert_float_eq_tol(((float *)vgg_tensor_data(a))[i],
                               ((float *)vgg_tensor_data(b))[i], 1e-5f);
    vgg_tensor_free(a);
    vgg_tensor_free(b);
    vgg_plan_free(infer);
    vgg_plan_free(here);
    vgg_device_free(other);
    vgg_tensor_free(value);
    close_engine();
}
END_TEST

START_TEST(phases_have_an_order)
{
    open_engine(engines[_i]);
    vgg_plan *train = make(4, VGG_MODE_TRAIN), *infer = make(4, VGG_MODE_INFER);
    ck_fails_with(vgg_plan_loss(train, labels, 0, 1, NULL, NULL), VGG_ESTATE,
                  "no forward");
    ck_fails(vgg_plan_backward(train), VGG_ESTATE);
    ck_ok(vgg_plan_forward(train, images, NULL));
    ck_fails_with(vgg_plan_backward(train), VGG_ESTATE, "loss");
    ck_ok(vgg_plan_loss(train, labels, 0, 1, NULL, NULL));
    ck_ok(vgg_plan_backward(train));
    ck_fails(vgg_plan_backward(train), VGG_ESTATE);
    ck_ok(vgg_plan_loss(train, labels, 0, 1, NULL, NULL));
    ck_fails(vgg_plan_backward(train), VGG_ESTATE);

    ck_ok(vgg_plan_forward(infer, images, NULL));
    double loss;
    ck_ok(vgg_plan_loss(infer, labels, 0, 1, &loss, NULL));
    ck_assert(isfinite(loss));
    ck_fails_with(vgg_plan_backward(infer), VGG_ESTATE, "inference plan");
    ck_fails(vgg_plan_update(infer, NULL, 0.1, 1), VGG_ESTATE);
    ck_fails(vgg_plan_zero_gradients(infer), VGG_ESTATE);

    uint32_t bad[4] = {0, 1, 3, 0};
    ck_fails_with(vgg_plan_loss(infer, bad, 0, 1, NULL, NULL), VGG_EINVAL,
                  "label 2 is 3");
    ck_fails(vgg_plan_loss(infer, labels, 1.0f, 1, NULL, NULL), VGG_EINVAL);
    ck_fails_with(vgg_model_add_relu(model, NULL), VGG_ESTATE, "plan");
    vgg_plan_free(train);
    vgg_plan_free(infer);
    close_engine();
}
END_TEST

/* A refused call changes nothing: the results of the run before stay readable, as many
 * as they were. */
START_TEST(refusals_leave_the_last_run)
{
    open_engine(engines[_i]);
    const char *const taps[] = {"relu1_1"};
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = 4;
    opts.taps = taps;
    opts.tap_count = 1;
    vgg_plan *plan;
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    vgg_tensor *logits = like_output(4), *one = NULL;
    ck_ok(vgg_plan_forward(plan, images, logits));
    ck_ok(vgg_tensor_view(images, 0, 1, &one));
    ck_fails(vgg_plan_forward(plan, one, logits), VGG_ESHAPE);
    vgg_tensor *small = tensor(VGG_F32, (vgg_shape){4, {1, 4, 8, 8}});
    vgg_tensor *whole = tensor(VGG_F32, (vgg_shape){4, {4, 4, 8, 8}});
    ck_fails_with(vgg_plan_tap(plan, "relu1_1", small), VGG_ESHAPE, "the run has 4");
    ck_ok(vgg_plan_tap(plan, "relu1_1", whole));
    double loss = 7.0;
    uint32_t correct = 7, bad[4] = {0, 0, 0, 9};
    ck_fails(vgg_plan_loss(plan, bad, 0, 1, &loss, &correct), VGG_EINVAL);
    ck_assert_double_eq(loss, 0.0);
    ck_assert_uint_eq(correct, 0);
    vgg_tensor_free(small);
    vgg_tensor_free(whole);
    vgg_tensor_free(one);
    vgg_tensor_free(logits);
    vgg_plan_free(plan);
    close_engine();
}
END_TEST

START_TEST(gradients_add_up)
{
    open_engine(engines[_i]);
    vgg_plan *train = make(4, VGG_MODE_GRAD);
    vgg_param *weight = vgg_model_find_param(model, "conv1_1.weight");
    vgg_tensor *once = tensor(VGG_F32, *vgg_param_shape(weight));
    vgg_tensor *twice = tensor(VGG_F32, *vgg_param_shape(weight));
    for (int run = 0; run < 2; run++) {
        ck_ok(vgg_plan_forward(train, images, NULL));
        ck_ok(vgg_plan_loss(train, labels, 0, 1, NULL, NULL));
        ck_ok(vgg_plan_backward(train));
        ck_ok(vgg_plan_param_gradient(train, weight, run == 0 ? once : twice));
    }
    float largest = 0.0f;
    for (int i = 0; i < 4 * 2 * 9; i++) {
        const float g = ((float *)vgg_tensor_data(once))[i];
        ck_assert_float_eq_tol(((float *)vgg_tensor_data(twice))[i], 2.0f * g, 1e-6f);
        largest = fmaxf(largest, fabsf(g));
    }
    ck_assert_float_gt(largest, 1e-4f);

    double norm;
    ck_ok(vgg_plan_gradient_norm(train, &norm));
    ck_fails(vgg_plan_scale_gradients(train, 1e39), VGG_EINVAL); /* inf as a float */
    ck_fails(vgg_plan_update(train, NULL, 1e39, 1), VGG_EINVAL);
    ck_ok(vgg_plan_scale_gradients(train, 0.5));
    double half;
    ck_ok(vgg_plan_gradient_norm(train, &half));
    ck_assert_double_eq_tol(half, norm / 2, norm * 1e-6);
    ck_ok(vgg_plan_zero_gradients(train));
    ck_ok(vgg_plan_gradient_norm(train, &norm));
    ck_assert_double_eq(norm, 0.0);

    vgg_tensor *dx = tensor(VGG_F32, (vgg_shape){4, {4, 2, 8, 8}});
    ck_ok(vgg_plan_input_gradient(train, dx));
    vgg_tensor_free(dx);
    vgg_tensor_free(once);
    vgg_tensor_free(twice);
    vgg_plan_free(train);
    close_engine();
}
END_TEST

START_TEST(frozen_parameters_stay)
{
    open_engine(engines[_i]);
    vgg_param *frozen = vgg_model_find_param(model, "conv1_1.weight");
    vgg_param *bias = vgg_model_find_param(model, "conv2_1.bias");
    ck_ok(vgg_param_set_trainable(frozen, 0));
    vgg_tensor *before = tensor(VGG_F32, *vgg_param_shape(frozen));
    vgg_tensor *after = tensor(VGG_F32, *vgg_param_shape(frozen));
    vgg_tensor *moved = tensor(VGG_F32, *vgg_param_shape(bias));
    ck_ok(vgg_param_read(frozen, before));
    vgg_plan *train = make(4, VGG_MODE_TRAIN);
    ck_ok(vgg_plan_forward(train, images, NULL));
    ck_ok(vgg_plan_loss(train, labels, 0, 1, NULL, NULL));
    ck_ok(vgg_plan_backward(train));
    vgg_optimizer opt = VGG_OPTIMIZER_INIT;
    opt.weight_decay = 0.1;
    opt.momentum = 0.9;
    ck_ok(vgg_plan_update(train, &opt, 0.5, 1));
    ck_fails_with(vgg_plan_param_gradient(train, frozen, after), VGG_ESTATE, "frozen");
    ck_ok(vgg_param_read(frozen, after));
    ck_assert_mem_eq(vgg_tensor_data(before), vgg_tensor_data(after),
                     vgg_tensor_bytes(after));
    ck_ok(vgg_param_read(bias, moved));
    ck_assert_float_ne(((float *)vgg_tensor_data(moved))[0], 0.0f);
    vgg_tensor_free(before);
    vgg_tensor_free(after);
    vgg_tensor_free(moved);
    vgg_plan_free(train);
    close_engine();
}
END_TEST

START_TEST(shapes_and_options_are_checked)
{
    open_engine(engines[_i]);
    vgg_plan *plan = make(2, VGG_MODE_INFER);
    ck_fails_with(vgg_plan_forward(plan, images, NULL), VGG_ESHAPE, "takes 1 to 2");
    vgg_tensor *wrong = tensor(VGG_F32, (vgg_shape){4, {2, 1, 8, 8}});
    ck_fails_with(vgg_plan_forward(plan, wrong, NULL), VGG_ESHAPE, "expected nx2x8x8");
    vgg_tensor_free(wrong);
    wrong = tensor(VGG_U8, (vgg_shape){4, {2, 2, 8, 8}});
    ck_fails_with(vgg_plan_forward(plan, wrong, NULL), VGG_EINVAL, "u8");
    vgg_tensor_free(wrong);
    vgg_plan_free(plan);

    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = 0;
    ck_fails(vgg_plan_create(model, device, &opts, &plan), VGG_EINVAL);
    ck_assert_ptr_null(plan);
    opts = (vgg_plan_options)VGG_PLAN_OPTIONS_INIT;
    opts.mode = 3;
    ck_fails(vgg_plan_create(model, device, &opts, &plan), VGG_EINVAL);
    opts.mode = VGG_MODE_INFER;
    opts.input_gradient = 1;
    ck_fails(vgg_plan_create(model, device, &opts, &plan), VGG_EINVAL);
    opts.input_gradient = 0;
    opts.deterministic = 2;
    ck_fails_with(vgg_plan_create(model, device, &opts, &plan), VGG_EINVAL,
                  "deterministic is 2; expected 0 or 1");
    opts.deterministic = 0;
    opts.max_bytes = 16;
    ck_fails_with(vgg_plan_create(model, device, &opts, &plan), VGG_ELIMIT,
                  "max_bytes");
    opts.max_bytes = 0;
    opts.batch = INT32_MAX;
    vgg_status status = vgg_plan_create(model, device, &opts, &plan);
    ck_assert(status == VGG_ENOMEM || status == VGG_ELIMIT);

    uint64_t bytes, shared;
    opts.batch = 4;
    ck_ok(vgg_plan_measure(model, device, &opts, &bytes, &shared));
    ck_assert_uint_eq(shared, 4 * vgg_model_parameters(model));
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    ck_assert_uint_eq(vgg_plan_bytes(plan), bytes);
    ck_assert_ptr_nonnull(strstr(vgg_plan_describe(plan), "fc8"));
    vgg_plan_free(plan);
    close_engine();
}
END_TEST

/* Precisions that an engine does not have are refused, each with where to find it; a
 * deterministic plan is what these engines make anyway. */
START_TEST(precisions_and_determinism)
{
    static const struct {
        uint32_t precision;
        const char *refusal[2]; /* by engine; NULL: it computes so */
    } cases[] = {
        {VGG_FP32, {NULL, NULL}},
        {VGG_FP64,
         {NULL, "conv1_1: engine cpu can't run it: fp64 needs the engine ref"}},
        {VGG_TF32,
         {"conv1_1: engine ref can't run it: tf32 needs the engine cudnn",
          "conv1_1: engine cpu can't run it: tf32 needs the engine cudnn"}},
        {VGG_BF16,
         {"conv1_1: engine ref can't run it: bf16 needs the engine cudnn",
          "conv1_1: engine cpu can't run it: bf16 needs the engine cudnn"}},
    };
    open_engine(engines[_i]);
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    vgg_plan *plan;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        opts.precision = cases[i].precision;
        const vgg_status status = vgg_plan_create(model, device, &opts, &plan);
        ck_assert_int_eq(status, cases[i].refusal[_i] ? VGG_EUNSUPPORTED : VGG_OK);
        if (cases[i].refusal[_i])
            ck_assert_str_eq(vgg_last_error(), cases[i].refusal[_i]);
        vgg_plan_free(plan);
    }
    opts.precision = VGG_BF16 + 1;
    ck_fails_with(vgg_plan_create(model, device, &opts, &plan), VGG_EINVAL,
                  "precision is 4; expected a vgg_precision, 0 to 3");

    opts = (vgg_plan_options)VGG_PLAN_OPTIONS_INIT;
    opts.batch = 4;
    vgg_tensor *plain = like_output(4), *same = like_output(4);
    for (opts.deterministic = 0; opts.deterministic <= 1; opts.deterministic++) {
        ck_ok(vgg_plan_create(model, device, &opts, &plan));
        ck_ok(vgg_plan_forward(plan, images, opts.deterministic ? same : plain));
        const char *line = strstr(vgg_plan_describe(plan), "batch 4, infer, fp32");
        ck_assert_ptr_nonnull(line);
        ck_assert_int_eq(strncmp(line, "batch 4, infer, fp32, deterministic\n", 36) ==
                             0,
                         opts.deterministic);
        vgg_plan_free(plan);
    }
    ck_assert_mem_eq(vgg_tensor_data(plain), vgg_tensor_data(same), 4 * 3 * 4);
    vgg_tensor_free(plain);
    vgg_tensor_free(same);
    close_engine();
}
END_TEST

/* Weights in bf16: only in inference, in fp32, and by an engine that can; an option of
 * a plan, beside which others of the model see weights in full. */
START_TEST(weights_in_bf16)
{
    open_engine(engines[_i]);
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    vgg_plan *plan, *half;
    opts.weights = VGG_FP64;
    ck_fails_with(vgg_plan_create(model, device, &opts, &plan), VGG_EINVAL,
                  "weights is 1; expected VGG_FP32 (0) or VGG_BF16 (3)");
    opts.weights = VGG_BF16 + 1;
    ck_fails_with(vgg_plan_create(model, device, &opts, &plan), VGG_EINVAL,
                  "weights is 4");
    opts.weights = VGG_FP32;
    opts.weights = VGG_BF16;
    for (opts.mode = VGG_MODE_TRAIN; opts.mode <= VGG_MODE_GRAD; opts.mode++)
        ck_fails_with(vgg_plan_create(model, device, &opts, &plan), VGG_EINVAL,
                      "weights in bf16 need mode infer");
    opts.mode = VGG_MODE_INFER;
    opts.batch = 4;
    if (strcmp(engines[_i], "cpu") != 0) {
        ck_fails_with(
            vgg_plan_create(model, device, &opts, &plan), VGG_EUNSUPPORTED,
            "engine ref can't keep weights in bf16: that needs the engine cpu");
        close_engine();
        return;
    }
    opts.precision = VGG_BF16;
    ck_fails_with(vgg_plan_create(model, device, &opts, &plan), VGG_EUNSUPPORTED,
                  "weights in bf16 need precision fp32, found 3");
    opts.precision = VGG_FP32;
    ck_ok(vgg_plan_create(model, device, &opts, &half));
    opts.weights = VGG_FP32;
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    ck_assert_ptr_nonnull(strstr(vgg_plan_describe(half), "fp32, linear weights in"));
    ck_assert_ptr_null(strstr(vgg_plan_describe(plan), "bf16"));
    ck_assert_uint_gt(vgg_plan_bytes(half), vgg_plan_bytes(plan));
    vgg_tensor *full = like_output(4), *rough = like_output(4), *again = like_output(4);
    ck_ok(vgg_plan_forward(plan, images, full));
    ck_ok(vgg_plan_forward(half, images, rough));
    ck_ok(vgg_plan_forward(plan, images, again));
    const float *a = vgg_tensor_data(full), *b = vgg_tensor_data(rough);
    ck_assert_mem_eq(a, vgg_tensor_data(again), 4 * 3 * sizeof *a);
    ck_assert_int_ne(memcmp(a, b, 4 * 3 * sizeof *a), 0);
    for (int i = 0; i < 4 * 3; i++) ck_assert_float_eq_tol(a[i], b[i], 0.02f);
    vgg_tensor_free(full);
    vgg_tensor_free(rough);
    vgg_tensor_free(again);
    vgg_plan_free(half);
    vgg_plan_free(plan);
    close_engine();
}
END_TEST

/* Wide enough that a product needs a packing area, which two plans must not share. */
static void open_wide(const char *name)
{
    ck_ok(vgg_device_open(NULL, name, &device));
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 1;
    arch.channels = 2;
    arch.height = arch.width = 4;
    arch.hidden = 1024;
    arch.classes = 3;
    model = vgg_build(&arch, 16);
    ck_assert_msg(model != NULL, "%s", vgg_last_error());
    images = tensor(VGG_F32, (vgg_shape){4, {16, 2, 4, 4}});
    float *pixel = vgg_tensor_data(images);
    for (int i = 0; i < 16 * 2 * 16; i++)
        pixel[i] = (float)((i * 37) % 64) / 64.0f - 0.3f;
}

/* In a thread of its own, where a failed check could not be reported. */
static void *infer_often(void *logits)
{
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = 16;
    vgg_plan *plan = NULL;
    vgg_status status = vgg_plan_create(model, device, &opts, &plan);
    vgg_tensor **out = logits;
    for (int i = 0; i < RUNS; i++)
        if (status == VGG_OK) status = vgg_plan_forward(plan, images, out[i]);
    vgg_plan_free(plan);
    return status == VGG_OK ? NULL : logits;
}

START_TEST(inference_plans_run_at_once)
{
    open_wide(engines[_i]);
    pthread_t threads[4];
    vgg_tensor *logits[5][RUNS];
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < RUNS; k++) logits[i][k] = like_output(16);
    ck_assert_ptr_null(infer_often(logits[4])); /* alone */
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, infer_often, logits[i]), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
        ck_assert_ptr_null(failed);
        for (int k = 0; k < RUNS; k++)
            ck_assert_mem_eq(vgg_tensor_data(logits[4][0]),
                             vgg_tensor_data(logits[i][k]), 16 * 3 * sizeof(float));
    }
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < RUNS; k++) vgg_tensor_free(logits[i][k]);
    close_engine();
}
END_TEST

/* A mean over three is rounded, and to nearest whatever the host's mode is. */
START_TEST(loss_in_the_hosts_rounding)
{
    open_engine(engines[_i]);
    const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD};
    vgg_plan *plan = make(3, VGG_MODE_INFER);
    vgg_tensor *three;
    double loss[3];
    ck_ok(vgg_tensor_view(images, 0, 3, &three));
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(fesetround(modes[i]), 0);
        const vgg_status forward = vgg_plan_forward(plan, three, NULL),
                         status = vgg_plan_loss(plan, labels, 0, 1, &loss[i], NULL);
        fesetround(FE_TONEAREST);
        ck_ok(forward);
        ck_ok(status);
    }
    ck_assert_mem_eq(&loss[1], &loss[0], sizeof loss[0]);
    ck_assert_mem_eq(&loss[2], &loss[0], sizeof loss[0]);
    vgg_tensor_free(three);
    vgg_plan_free(plan);
    close_engine();
}
END_TEST

START_TEST(devices_are_listed_and_opened)
{
    vgg_device_list *list;
    ck_ok(vgg_device_list_create(NULL, &list));
    const uint32_t count = vgg_device_list_count(list);
    ck_assert_uint_ge(count, 2); /* GPUs of a plugin may come before these two */
    ck_assert_str_eq(vgg_device_list_name(list, count - 2), "cpu");
    ck_assert_str_eq(vgg_device_list_name(list, count - 1), "ref");
    ck_assert_ptr_null(vgg_device_list_name(list, count));
    ck_assert(strlen(vgg_device_list_text(list, count - 2)) > 8);
    vgg_device_list_free(list);
    vgg_device *opened;
    ck_ok(vgg_device_open(NULL, "auto", &opened));
    if (count == 2) ck_assert_str_eq(vgg_device_engine(opened), "cpu");
    vgg_device_free(opened);
    ck_fails_with(vgg_device_open(NULL, "tpu", &opened), VGG_EINVAL,
                  "\"tpu\" is unknown");
    ck_assert_ptr_null(opened);
    ck_fails(vgg_device_open(NULL, "ref", NULL), VGG_EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plan");
    TCase *tc = tcase_create("plans");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, plans_share_parameters, 0, 2);
    tcase_add_loop_test(tc, trained_values_outlive_their_plan, 0, 2);
    tcase_add_loop_test(tc, phases_have_an_order, 0, 2);
    tcase_add_loop_test(tc, refusals_leave_the_last_run, 0, 2);
    tcase_add_loop_test(tc, gradients_add_up, 0, 2);
    tcase_add_loop_test(tc, frozen_parameters_stay, 0, 2);
    tcase_add_loop_test(tc, shapes_and_options_are_checked, 0, 2);
    tcase_add_loop_test(tc, precisions_and_determinism, 0, 2);
    tcase_add_loop_test(tc, weights_in_bf16, 0, 2);
    tcase_add_loop_test(tc, inference_plans_run_at_once, 0, 2);
    tcase_add_loop_test(tc, loss_in_the_hosts_rounding, 0, 2);
    tcase_add_test(tc, devices_are_listed_and_opened);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
