/* SPDX-License-Identifier: Apache-2.0 */
/* How exact convolutions are on what they meet in the main job, VGG-11/4 on
 * Fashion-MNIST at 224x224: each on the CPU engine and on the reference in double, both
 * with the activations and gradients that the engine has computed so far. He's initial
 * weights, biases of 0; gradients come from the loss, through a smaller head.
 *
 * Gradients are taken of convolutions without ReLU and pooling, behind which the same
 * values win in both: a rounding that decides otherwise moves a whole gradient. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "core/random.h"
#include "data/resize.h"
#include "guard.h"
#include "harness.h"
#include "targets.h"

#define PACKAGE "/usr/share/datasets/fashion-mnist"

enum { IMAGES = 4, CONVS = 8, SIDE = 28 };

/* 1e-5: what is promised. */
static const struct target subjects[] = {
    {"cpu", &vgg__engine_cpu, VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24},
    {"cpu, columns", &vgg__engine_cpu, VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_COLUMNS},
    {"cpu, F(2x2)", &vgg__engine_cpu, VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_WINOGRAD2},
    {"cpu, F(4x4)", &vgg__engine_cpu, VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_WINOGRAD4},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

/* Its text in two halves, see net.h. */
static const struct {
    const char *in, *conv, *middle, *rest;
} convs[CONVS] = {{"1x224x224", "conv3:16", "16x224x224", "relu max"},
                  {"16x112x112", "conv3:32", "32x112x112", "relu max"},
                  {"32x56x56", "conv3:64", "64x56x56", "relu"},
                  {"64x56x56", "conv3:64", "64x56x56", "relu max"},
                  {"64x28x28", "conv3:128", "128x28x28", "relu"},
                  {"128x28x28", "conv3:128", "128x28x28", "relu max"},
                  {"128x14x14", "conv3:128", "128x14x14", "relu"},
                  {"128x14x14", "conv3:128", "128x14x14", "relu max"}};

static const char head[] = "128x7x7 linear:256 relu linear:256 relu linear:10 loss";

static uint32_t labels[IMAGES];

/* ---- Images ---------------------------------------------------------------- */

/* In place of a real one: stripes that end at a border. */
static void make_image(uint32_t index, uint8_t *image)
{
    for (uint32_t i = 0; i < SIDE * SIDE; i++) {
        const double y = i / SIDE, x = i % SIDE;
        const bool inside = fabs(y - 14) < 10 + index && fabs(x - 13) < 7 + y / 6;
        image[i] = inside ? (uint8_t)(160 + 90 * sin(0.3 * y + 0.9 * x * index)) : 0;
    }
}

static void read_images(uint8_t *images)
{
    vgg_dataset *dataset = NULL;
    if (vgg_dataset_open(NULL, "fashion-mnist", PACKAGE, "test", &dataset) != VGG_OK)
        puts("made images: " PACKAGE " is not there (package dataset-fashion-mnist)");
    for (uint32_t i = 0; i < IMAGES; i++) {
        labels[i] = i;
        if (dataset)
            ck_ok(vgg_dataset_read(dataset, i, images + i * SIDE * SIDE, &labels[i]));
        else
            make_image(i, images + i * SIDE * SIDE);
    }
    vgg_dataset_free(dataset);
}

/* What the loader gives: resized, from 0 to 1. */
static float *make_input(void)
{
    uint8_t images[IMAGES * SIDE * SIDE];
    const struct vgg__size from = {SIDE, SIDE}, to = {224, 224};
    const size_t pixels = (size_t)to.height * to.width;
    struct vgg__resize *resize;
    uint8_t *large = malloc(pixels);
    float *input = malloc(IMAGES * pixels * sizeof *input);
    read_images(images);
    ck_ok(vgg__resize_create(NULL, VGG_RESIZE_OPENCV, from, to, &resize));
    for (size_t n = 0; n < IMAGES; n++) {
        vgg__resize_plane(resize, images + n * SIDE * SIDE, large);
        for (size_t i = 0; i < pixels; i++)
            input[n * pixels + i] = (float)large[i] / 255;
    }
    vgg__resize_free(resize);
    free(large);
    return input;
}

/* ---- Stages ---------------------------------------------------------------- */

static float *to_float(const double *from, size_t count)
{
    float *to = malloc(count * sizeof *to);
    for (size_t i = 0; i < count; i++) to[i] = (float)from[i];
    return to;
}

/* A network and what it runs on. */
struct trial {
    struct net net;
    struct data data;
    size_t in, out; /* elements of all samples */
};

/* He's uniform weights, of `seed` alone, and biases of 0. */
static void draw_params(struct trial *t, uint64_t seed)
{
    for (uint32_t p = 0; p < t->net.param_count; p++)
        for (size_t i = 0; i < t->net.params[p].count; i++) {
            uint32_t words[4];
            vgg__random(seed, p, 0, i, words);
            t->data.params[p][i] = 0;
            if (t->net.fan[p] > 0)
                t->data.params[p][i] =
                    (float)((int32_t)words[0] * 0x1p-31 * sqrt(6.0 / t->net.fan[p]));
        }
}

static void begin(struct trial *t, const char *text, uint64_t seed, const float *input)
{
    net_parse(&t->net, text);
    data_create(&t->data, &t->net, IMAGES, DATA_REAL, 1);
    draw_params(t, seed);
    t->in = IMAGES * net_input_count(&t->net);
    t->out = IMAGES * net_output_count(&t->net);
    memcpy(t->data.input, input, t->in * sizeof(float));
    memcpy(t->data.labels, labels, sizeof labels);
}

/* The output, or the gradient of the input for `dy`. */
static float *run_for(const struct target *target, struct trial *t, const float *dy,
                      bool back)
{
    struct outcome got;
    if (dy) memcpy(t->data.dy, dy, t->out * sizeof(float));
    run_net(target, &t->net, &t->data, back ? VGG_MODE_TRAIN : VGG_MODE_INFER, &got);
    float *out = to_float(back ? got.dx : got.output, back ? t->in : t->out);
    outcome_free(&got);
    data_free(&t->data);
    return out;
}

/* Convolution, ReLU and pooling, if `whole`; else what comes first of these. */
static void begin_conv(struct trial *t, int index, bool whole, const float *input)
{
    char text[64];
    snprintf(text, sizeof text, "%s %s %s", convs[index].in, convs[index].conv,
             whole ? convs[index].rest : "");
    begin(t, text, 10 + (uint64_t)index, input);
}

static void begin_rest(struct trial *t, int index, const float *input)
{
    char text[64];
    snprintf(text, sizeof text, "%s %s", convs[index].middle, convs[index].rest);
    begin(t, text, 1, input);
}

/* ---- Errors ---------------------------------------------------------------- */

static double error_of(const double *got, const double *want, size_t count)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return sqrt(error / norm);
}

/* What a convolution and all of its stage give, and should. */
struct judged {
    struct outcome conv;
    double *output; /* of the stage */
};

static void judge(const struct trial *t, const struct target *target,
                  const struct judged *got, const struct judged *want, size_t outputs)
{
    const struct {
        const char *what;
        const double *got, *want;
        size_t count;
    } tensors[] = {
        {"output", got->conv.output, want->conv.output, t->out},
        {"stage", got->output, want->output, outputs},
        {"dx", got->conv.dx, want->conv.dx, t->in},
        {"dweight", got->conv.dparams[0], want->conv.dparams[0],
         t->net.params[0].count},
        {"dbias", got->conv.dparams[1], want->conv.dparams[1], t->net.params[1].count},
    };
    printf("  %-14s", target->label);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        printf(" %s %.1e", tensors[i].what,
               error_of(tensors[i].got, tensors[i].want, tensors[i].count));
    printf("\n");
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        const double error =
            error_of(tensors[i].got, tensors[i].want, tensors[i].count);
        ck_assert_msg(error <= target->tolerance,
                      "%s: %s: relative error %.3g, allowed %.3g", target->label,
                      tensors[i].what, error, target->tolerance);
    }
}

/* The gradient at the convolution, from that behind its stage. */
static float *gradient_at(int index, const float *x, const float *dy)
{
    struct trial conv, rest;
    begin_conv(&conv, index, false, x);
    float *middle = run_for(&subjects[0], &conv, NULL, false);
    begin_rest(&rest, index, middle);
    float *gradient = run_for(&target_ref64, &rest, dy, true);
    free(middle);
    return gradient;
}

/* The stage's output, of what the reference has computed without rounding to float. */
static double *finish_exactly(int index, const double *middle, size_t count)
{
    struct trial rest;
    struct outcome out;
    float *rounded = to_float(middle, count);
    begin_rest(&rest, index, rounded);
    run_net(&target_ref64, &rest.net, &rest.data, VGG_MODE_INFER, &out);
    double *output = out.output;
    out.output = NULL;
    outcome_free(&out);
    data_free(&rest.data);
    free(rounded);
    return output;
}

/* All subjects on a convolution; the gradient of its input for what comes before. */
static float *judge_conv(int index, const float *x, const float *dy)
{
    float *gradient = gradient_at(index, x, dy), *dx = NULL;
    struct trial t;
    struct judged want;
    begin_conv(&t, index, false, x);
    memcpy(t.data.dy, gradient, t.out * sizeof(float));
    run_net(&target_ref64, &t.net, &t.data, VGG_MODE_TRAIN, &want.conv);
    want.output = finish_exactly(index, want.conv.output, t.out);
    printf("%s %s %s\n", convs[index].in, convs[index].conv, convs[index].rest);
    for (int i = 0; i < SUBJECTS; i++) {
        struct judged got;
        struct outcome whole;
        struct trial stage;
        run_net(&subjects[i], &t.net, &t.data, VGG_MODE_TRAIN, &got.conv);
        begin_conv(&stage, index, true, x);
        run_net(&subjects[i], &stage.net, &stage.data, VGG_MODE_INFER, &whole);
        got.output = whole.output;
        judge(&t, &subjects[i], &got, &want, stage.out);
        if (i == 0) dx = to_float(got.conv.dx, t.in);
        outcome_free(&got.conv);
        outcome_free(&whole);
        data_free(&stage.data);
    }
    outcome_free(&want.conv);
    guard_free(want.output);
    data_free(&t.data);
    free(gradient);
    return dx;
}

START_TEST(main_job)
{
    struct trial t;
    float *x[CONVS + 1] = {make_input()};
    for (int i = 0; i < CONVS; i++) {
        begin_conv(&t, i, true, x[i]);
        x[i + 1] = run_for(&subjects[0], &t, NULL, false);
    }
    begin(&t, head, 2, x[CONVS]);
    float *dy = run_for(&subjects[0], &t, NULL, true);
    for (int i = CONVS; i-- > 0;) {
        float *dx = judge_conv(i, x[i], dy);
        free(dy);
        dy = dx;
    }
    free(dy);
    for (int i = 0; i <= CONVS; i++) free(x[i]);
}
END_TEST

static Suite *accuracy_suite(void)
{
    Suite *suite = suite_create("accuracy");
    TCase *tcase = tcase_create("accuracy");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, main_job);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    Suite *suites[] = {accuracy_suite()};
    return harness_main(suites, 1);
}
