/* SPDX-License-Identifier: Apache-2.0 */
/* update.cu: the same bits as common/update.c leaves. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "buffers.h"
#include "common/update.h"
#include "harness.h"

static const vgg_update rules[] = {
    {.kind = VGG_SGD, .lr = 0.1},
    {.kind = VGG_SGD, .lr = 0.03, .weight_decay = 5e-4},
    {.kind = VGG_SGD, .lr = 0.1, .momentum = 0.9},
    {.kind = VGG_SGD, .lr = 0.1, .momentum = 0.9, .weight_decay = 1e-3, .nesterov = 1},
    {.kind = VGG_ADAM, .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
    {.kind = VGG_ADAM,
     .lr = 1e-2,
     .beta1 = 0.3,
     .beta2 = 0.99,
     .epsilon = 1e-6,
     .weight_decay = 0.1},
    {.kind = VGG_ADAMW,
     .lr = 1e-3,
     .beta1 = 0.9,
     .beta2 = 0.999,
     .epsilon = 1e-8,
     .weight_decay = 0.01},
};
#define RULES (int)(sizeof rules / sizeof rules[0])

/* Parts of parameters: whole vectors, a rest, an odd beginning, more than a block has
 * threads. What lies between them is nobody's. */
static const struct vgg__chunk parts[] = {
    {0, 64, 0}, {64, 7, 0}, {73, 9, 0}, {128, 4096, 0}, {4288, 1, 0}};
#define PARTS    (sizeof parts / sizeof parts[0])
#define ELEMENTS (size_t)4300

static bool of_a_part(size_t i)
{
    for (size_t p = 0; p < PARTS; p++)
        if (i >= parts[p].offset && i < parts[p].offset + parts[p].count) return true;
    return false;
}

static float *floats(uint32_t sequence, bool positive)
{
    float *const to = output(ELEMENTS * sizeof *to);
    for (size_t i = 0; i < ELEMENTS; i++) {
        to[i] = number(sequence, i) / 3;
        if (positive) to[i] *= to[i];
    }
    return to;
}

struct arrays {
    float *value, *gradient, *state[2];
    uint16_t *shadow;
};

static struct arrays make(void)
{
    struct arrays a = {floats(1, false),
                       floats(2, false),
                       {floats(3, false), floats(4, true)},
                       output(ELEMENTS * 2)};
    a.value[70] = INFINITY; /* a decay of 0 must leave its gradient alone */
    a.gradient[200] = NAN;
    a.gradient[201] = 1e30f;
    return a;
}

/* As the engine hands it over. */
static struct vgg__update_args_gpu args_of(const vgg_update *u, const struct arrays *a)
{
    const bool decoupled = u->kind == VGG_ADAMW, sgd = u->kind == VGG_SGD;
    struct vgg__chunk *const chunks = input(sizeof parts);
    memcpy(chunks, parts, sizeof parts);
    struct vgg__update_args_gpu args = {
        .value = a->value,
        .gradient = a->gradient,
        .state0 = sgd && u->momentum == 0 ? NULL : a->state[0],
        .state1 = sgd ? NULL : a->state[1],
        .shadow = a->shadow,
        .chunks = chunks,
        .kind = u->kind,
        .nesterov = u->nesterov,
        .has_momentum = sgd && u->momentum != 0,
        .first_step = u->t == 1,
        .lr = (float)u->lr,
        .weight_decay = (float)(decoupled ? 0 : u->weight_decay),
        .momentum = (float)u->momentum};
    if (sgd) return args;
    args.keep = (float)(decoupled ? 1 - u->lr * u->weight_decay : 1);
    args.share1 = (float)(1 - u->beta1);
    args.share2 = (float)(1 - u->beta2);
    args.beta2 = (float)u->beta2;
    args.epsilon = (float)u->epsilon;
    args.step_size = (float)(u->lr / (1 - pow(u->beta1, (double)u->t)));
    args.root2 = (float)sqrt(1 - pow(u->beta2, (double)u->t));
    return args;
}

static void check(const vgg_update *u, bool from_step)
{
    const struct arrays a = make();
    const size_t bytes = ELEMENTS * sizeof(float);
    float *const value = copy_of(a.value, bytes), *const gradient =
                                                      copy_of(a.gradient, bytes);
    float *const state[2] = {copy_of(a.state[0], bytes), copy_of(a.state[1], bytes)};
    struct vgg__update_args_gpu args = args_of(u, &a);
    if (from_step) {
        args.from_step = 1;
        args.step = step_of(
            (struct vgg__step){.lr = args.lr, .weight_decay = args.weight_decay});
        args.lr = args.weight_decay = NAN;
    }
    launch(&vgg__kernel_update, vgg__grid_blocks(PARTS), &args);
    for (size_t p = 0; p < PARTS; p++) {
        const size_t at = parts[p].offset;
        const struct vgg__update_args host = {u,
                                              value + at,
                                              gradient + at,
                                              {state[0] + at, state[1] + at},
                                              parts[p].count};
        vgg__update_f32(&host);
    }
    for (size_t i = 0; i < ELEMENTS; i++) {
        expect_same(VGG__F32, a.value, i, value[i]);
        if (args.state0 != NULL) expect_same(VGG__F32, a.state[0], i, state[0][i]);
        if (args.state1 != NULL) expect_same(VGG__F32, a.state[1], i, state[1][i]);
        expect_same(VGG__BF16, a.shadow, i,
                    of_a_part(i) ? round_to(VGG__BF16, (double)value[i]) : NAN);
    }
    free(value);
    free(gradient);
    free(state[0]);
    free(state[1]);
    buffers_free();
}

START_TEST(steps)
{
    vgg_update u = rules[_i];
    for (u.t = 1; u.t < 1000; u.t = u.t * 7 + 1) check(&u, false);
    if (u.kind == VGG_SGD && u.momentum == 0) check(&u, true);
}
END_TEST

/* Neither a value of -0 nor a gradient that is no number changes anything then. */
START_TEST(rate_of_zero)
{
    const struct arrays a = make();
    const size_t bytes = ELEMENTS * sizeof(float);
    for (size_t i = 0; i < ELEMENTS; i++) {
        if (i % 2) a.value[i] = -0.0f;
        a.gradient[i] = i % 3 ? -1 : NAN;
    }
    float *const value = copy_of(a.value, bytes);
    struct vgg__update_args_gpu args = args_of(&rules[0], &a);
    args.from_step = 1;
    args.step = step_of((struct vgg__step){.lr = 0, .weight_decay = 0.1f});
    launch(&vgg__kernel_update, vgg__grid_blocks(PARTS), &args);
    ck_assert_int_eq(memcmp(a.value, value, bytes), 0);
    free(value);
    buffers_free();
}
END_TEST

START_TEST(norm2)
{
    float *const value = floats(1, false);
    struct vgg__chunk *const chunks = input(sizeof parts);
    memcpy(chunks, parts, sizeof parts);
    const struct vgg__norm2_args args = {value, chunks, output(PARTS * sizeof(double))};
    launch(&vgg__kernel_norm2, vgg__grid_blocks(PARTS), &args);
    for (size_t p = 0; p < PARTS; p++) {
        double sum = 0;
        for (size_t i = 0; i < parts[p].count; i++)
            sum += pow((double)value[parts[p].offset + i], 2);
        expect_within(args.partial[p], sum, 1e-12 * sum, p);
    }
    buffers_free();
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("update");
    TCase *const all = tcase_create("update");
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, steps, 0, RULES);
    tcase_add_test(all, rate_of_zero);
    tcase_add_test(all, norm2);
    suite_add_tcase(suite, all);
    return harness_main(&suite, 1);
}
