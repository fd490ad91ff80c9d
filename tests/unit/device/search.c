/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions whose algorithm is measured: that the least time wins, with times that
 * are made up; that what was found is what runs; and what a plan tells, and does when
 * there is no memory to measure in. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vgg/vgg.h>

#include "cpu/conv.h"
#include "device/device.h"
#include "harness.h"

enum { BATCH = 3, CLASSES = 5, CONVS = 3 };

/* As the log has them, by vgg__conv_algorithm. */
static const char *const names[] = {"columns", "direct", "F(2x2)", "F(4x4)"};
static const char *const long_names[] = {
    "columns x weights", "direct", "Winograd F(2x2, 3x3)", "Winograd F(4x4, 3x3)"};

/* What the context has said and given. */
static struct {
    int found, refused; /* lines about a convolution that was measured, that was not */
    char lines[4 * CONVS][200]; /* of the first */
    int allocations, refuse;    /* the one that is refused; 0: none */
} told;

static void note(void *cookie, vgg_log_level level, const char *line)
{
    if (strncmp(line, "cpu: convolution ", 17) == 0 && told.found < 4 * CONVS)
        snprintf(told.lines[told.found++], sizeof *told.lines, "%s", line);
    if (level == VGG_LOG_WARNING && strstr(line, "no memory to measure"))
        told.refused++;
}

static void *allocate(void *cookie, size_t size, size_t align)
{
    if (++told.allocations == told.refuse) return NULL;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void release(void *cookie, void *memory)
{
    free(memory);
}

static const vgg_allocator allocator = {NULL, allocate, release};
static const vgg_logger logger = {NULL, note};

struct work {
    vgg_context *ctx;
    vgg_device *device;
    vgg_model *model;
    vgg_tensor *images, *logits;
};

static void begin(struct work *w, vgg_conv conv)
{
    memset(&told, 0, sizeof told);
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    opts.logger = &logger;
    opts.threads = 2;
    opts.gemm = VGG_GEMM_OWN;
    opts.conv = conv;
    ck_ok(vgg_context_create(&opts, &w->ctx));
    ck_ok(vgg_device_open(w->ctx, "cpu", &w->device));
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 2;
    arch.blocks[0] = (vgg_block){1, 32, 0};
    arch.blocks[1] = (vgg_block){2, 32, 0};
    arch.channels = 1;
    arch.height = arch.width = 12;
    arch.hidden = 16;
    arch.classes = CLASSES;
    arch.dropout = 0;
    ck_ok(vgg_model_create(w->ctx, &arch, 1, NULL, &w->model));
    const vgg_shape in = {4, {BATCH, 1, 12, 12}}, out = {2, {BATCH, CLASSES}};
    ck_ok(vgg_tensor_create(w->ctx, VGG_F32, &in, &w->images));
    ck_ok(vgg_tensor_create(w->ctx, VGG_F32, &out, &w->logits));
    float *x = vgg_tensor_data(w->images);
    for (int i = 0; i < BATCH * 144; i++) x[i] = (float)(i * 37 % 64) / 64;
}

static void end(struct work *w)
{
    vgg_tensor_free(w->logits);
    vgg_tensor_free(w->images);
    vgg_model_free(w->model);
    vgg_device_free(w->device);
    vgg_context_free(w->ctx);
}

static vgg_status plan(struct work *w, uint32_t mode, uint32_t deterministic,
                       vgg_plan **out)
{
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = BATCH;
    opts.mode = mode;
    opts.input_gradient = mode == VGG_MODE_TRAIN; /* else no dx is told of the first */
    opts.deterministic = deterministic;
    return vgg_plan_create(w->model, w->device, &opts, out);
}

/* ---- Times that are made up -------------------------------------------------- */

/* Which algorithm is to win, by product; the second convolution's turned by one. */
static enum vgg__conv_algorithm wanted[3];
static double others = 1.1; /* seconds of those that are not to win */

static double seconds(const vgg_stage *stage, uint32_t algorithm, int product)
{
    const int turned = stage->in.c == 32 && stage->pool == VGG_NO_POOL;
    return algorithm == (uint32_t)wanted[(product + turned) % 3] ? 1 : others;
}

static void plant(const struct work *w)
{
    struct vgg__cpu *cpu = w->device->state;
    cpu->seconds = seconds;
}

/* Whether a line of the log ends as expected for a convolution. */
static bool is_told(const char *shape, const enum vgg__conv_algorithm by[3])
{
    char mixed[64];
    const char *want = mixed;
    snprintf(mixed, sizeof mixed, "%s/%s/%s", names[by[0]], names[by[1]], names[by[2]]);
    if (by[0] == by[1] && by[0] == by[2]) want = long_names[by[0]];
    for (int i = 0; i < told.found; i++) {
        const char *text = strrchr(told.lines[i], ':') + 2;
        if (strstr(told.lines[i], shape) && strcmp(text, want) == 0) return true;
    }
    return false;
}

/* What a step gives: logits, then all gradients. */
struct results {
    size_t count;
    float *values;
};

static struct results step(struct work *w)
{
    static const uint32_t labels[BATCH] = {1, 4, 2};
    struct results r = {BATCH * CLASSES, NULL};
    vgg_plan *p;
    ck_ok(plan(w, VGG_MODE_TRAIN, 0, &p));
    ck_ok(vgg_plan_forward(p, w->images, w->logits));
    r.values = malloc((r.count + vgg_model_parameters(w->model)) * sizeof(float));
    memcpy(r.values, vgg_tensor_data(w->logits), r.count * sizeof(float));
    ck_ok(vgg_plan_loss(p, labels, 0, 1, NULL, NULL));
    ck_ok(vgg_plan_backward(p));
    for (uint32_t i = 0; i < vgg_model_param_count(w->model); i++) {
        vgg_param *param = vgg_model_param(w->model, i);
        vgg_tensor *gradient;
        ck_ok(vgg_tensor_create(w->ctx, VGG_F32, vgg_param_shape(param), &gradient));
        ck_ok(vgg_plan_param_gradient(p, param, gradient));
        uint64_t count;
        ck_ok(vgg_shape_count(vgg_param_shape(param), &count));
        memcpy(r.values + r.count, vgg_tensor_data(gradient), count * sizeof(float));
        r.count += count;
        vgg_tensor_free(gradient);
    }
    vgg_plan_free(p);
    return r;
}

static struct results step_by(vgg_conv conv)
{
    struct work w;
    begin(&w, conv);
    if (conv == VGG_CONV_MEASURED) plant(&w);
    const struct results r = step(&w);
    end(&w);
    return r;
}

START_TEST(the_least_time_wins)
{
    static const vgg_conv forced[] = {VGG_CONV_COLUMNS, VGG_CONV_AUTO,
                                      VGG_CONV_WINOGRAD2, VGG_CONV_WINOGRAD4};
    static const enum vgg__conv_algorithm all[] = {VGG__COLUMNS, VGG__WINOGRAD2,
                                                   VGG__WINOGRAD4};
    const struct results exact = step_by(VGG_CONV_COLUMNS);
    for (int i = 0; i < 27; i++) {
        const int three[3] = {i / 9, i / 3 % 3, i % 3};
        for (int p = 0; p < 3; p++) wanted[p] = all[three[p]];
        const enum vgg__conv_algorithm turned[] = {wanted[1], wanted[2], wanted[0]};
        const struct results got = step_by(VGG_CONV_MEASURED);
        ck_assert_int_eq(told.found, CONVS);
        ck_assert(is_told("1x12x12", wanted));
        ck_assert(is_told("32x6x6 to 32, ", turned) &&
                  is_told("32x6x6 to 32, ", wanted));
        ck_assert_uint_eq(got.count, exact.count);
        for (size_t k = 0; k < got.count; k++)
            ck_assert_float_eq_tol(got.values[k], exact.values[k], 2e-5f);
        if (wanted[0] == wanted[1] && wanted[0] == wanted[2]) {
            const struct results same = step_by(forced[wanted[0]]);
            ck_assert_mem_eq(got.values, same.values, got.count * sizeof(float));
            free(same.values);
        }
        free(got.values);
    }
    free(exact.values);
}
END_TEST

/* The kernel of few channels stands for itself, and a small gain is none. */
START_TEST(first_and_even)
{
    struct work w;
    vgg_plan *p;
    static const enum vgg__conv_algorithm mixed[] = {VGG__FIRST, VGG__WINOGRAD4,
                                                     VGG__COLUMNS};
    memcpy(wanted, mixed, sizeof wanted);
    begin(&w, VGG_CONV_MEASURED);
    plant(&w);
    ck_ok(plan(&w, VGG_MODE_TRAIN, 0, &p));
    ck_assert(is_told("1x12x12", mixed));
    vgg_plan_free(p);
    end(&w);

    begin(&w, VGG_CONV_MEASURED);
    plant(&w);
    const vgg_stage stage = {.kernel = 3, .in = {32, 6, 6}, .mid = {32, 6, 6}};
    const struct vgg__conv_choice by_shape = vgg__conv_choose(w.device->state, &stage);
    const enum vgg__conv_algorithm all[] = {by_shape.forward, by_shape.data,
                                            by_shape.weights};
    for (int i = 0; i < 3; i++)
        wanted[i] = all[0] == VGG__COLUMNS ? VGG__WINOGRAD4 : VGG__COLUMNS;
    others = 1.04;
    ck_ok(plan(&w, VGG_MODE_TRAIN, 0, &p));
    ck_assert(is_told("32x6x6 to 32, ", all));
    vgg_plan_free(p);
    end(&w);
}
END_TEST

/* ---- The clock's ------------------------------------------------------------- */

START_TEST(what_was_found_is_told)
{
    struct work w;
    vgg_plan *first, *second, *other;
    begin(&w, VGG_CONV_MEASURED);
    ck_ok(plan(&w, VGG_MODE_TRAIN, 0, &first));
    ck_assert_int_eq(told.found, CONVS);
    for (int i = 0; i < CONVS; i++)
        ck_assert_ptr_nonnull(
            strstr(vgg_plan_describe(first), strrchr(told.lines[i], ':') + 2));
    ck_ok(plan(&w, VGG_MODE_TRAIN, 0, &second));
    ck_assert_int_eq(told.found, CONVS); /* nothing is measured twice */
    ck_assert_str_eq(vgg_plan_describe(first), vgg_plan_describe(second));
    uint64_t bytes, shared;
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = BATCH;
    ck_ok(vgg_plan_measure(w.model, w.device, &opts, &bytes, &shared));
    ck_assert_int_eq(told.found, 2 * CONVS); /* inference has no gradients */
    ck_ok(plan(&w, VGG_MODE_INFER, 0, &other));
    ck_assert_int_eq(told.found, 2 * CONVS);
    ck_assert_uint_eq(vgg_plan_bytes(other), bytes);
    vgg_plan_free(other);
    vgg_plan_free(second);
    vgg_plan_free(first);
    end(&w);
}
END_TEST

START_TEST(timing_is_no_deterministic_choice)
{
    struct work w;
    vgg_plan *p;
    begin(&w, VGG_CONV_MEASURED);
    ck_fails_with(plan(&w, VGG_MODE_INFER, 1, &p), VGG_EUNSUPPORTED, "conv measured");
    ck_assert_ptr_null(p);
    ck_assert_int_eq(told.found, 0);
    end(&w);
    begin(&w, VGG_CONV_AUTO);
    ck_ok(plan(&w, VGG_MODE_INFER, 1, &p));
    vgg_plan_free(p);
    end(&w);
}
END_TEST

/* One allocation after the other fails: the plan is refused, or made without having
 * been able to measure. */
START_TEST(without_memory)
{
    int made = 0, refused = 0;
    for (int refuse = 1; refuse < 200; refuse++) {
        struct work w;
        vgg_plan *p;
        begin(&w, VGG_CONV_MEASURED);
        const uint64_t before = vgg_context_bytes(w.ctx);
        ck_fails(vgg_context_create(NULL, NULL), VGG_EINVAL);
        const char *text = strdup(vgg_last_error());
        told.refuse = told.allocations + refuse;
        const vgg_status status = plan(&w, VGG_MODE_TRAIN, 0, &p);
        const bool reached = told.allocations >= told.refuse;
        told.refuse = 0;
        if (status == VGG_OK) {
            ck_assert_int_eq(told.refused, reached);
            made += reached;
            ck_assert_str_eq(vgg_last_error(), text); /* a success leaves it */
            ck_ok(vgg_plan_forward(p, w.images, NULL));
            vgg_plan_free(p);
        } else {
            ck_assert_int_eq(status, VGG_ENOMEM);
            ck_assert_uint_le(vgg_context_bytes(w.ctx), before + 2048); /* found ones */
            refused++;
        }
        free((void *)text);
        end(&w);
        if (!reached) break;
    }
    ck_assert_int_eq(made, CONVS);
    ck_assert_int_gt(refused, 3);
}
END_TEST

static Suite *search_suite(void)
{
    Suite *suite = suite_create("search");
    TCase *tcase = tcase_create("search");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, the_least_time_wins);
    tcase_add_test(tcase, first_and_even);
    tcase_add_test(tcase, what_was_found_is_told);
    tcase_add_test(tcase, timing_is_no_deterministic_choice);
    tcase_add_test(tcase, without_memory);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    Suite *suites[] = {search_suite()};
    return harness_main(suites, 1);
}
