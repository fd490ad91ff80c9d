/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions whose algorithm is measured: what a plan tells, that the numbers are
 * those of any other choice, and what happens when there is no memory to measure in. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vgg/vgg.h>

#include "harness.h"

enum { BATCH = 3, CLASSES = 5, CONVS = 3 };

static const char *const names[] = {"direct", "columns x weights",
                                    "Winograd F(2x2, 3x3)", "Winograd F(4x4, 3x3)"};

/* What the context has said and given. */
static struct {
    int found, refused; /* lines about a convolution that was measured, that was not */
    char last[200];
    int allocations, refuse; /* the one that is refused; 0: none */
} told;

static void note(void *cookie, vgg_log_level level, const char *line)
{
    if (strncmp(line, "cpu: convolution ", 17) == 0) told.found++;
    if (level == VGG_LOG_WARNING && strstr(line, "no memory to measure"))
        told.refused++;
    snprintf(told.last, sizeof told.last, "%s", line);
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
    opts.deterministic = deterministic;
    return vgg_plan_create(w->model, w->device, &opts, out);
}

START_TEST(what_was_found_is_told)
{
    struct work w;
    vgg_plan *first, *second, *other;
    begin(&w, VGG_CONV_MEASURED);
    ck_ok(plan(&w, VGG_MODE_TRAIN, 0, &first));
    ck_assert_int_eq(told.found, CONVS);
    int known = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        known += strstr(told.last, names[i]) != NULL;
    ck_assert_msg(known > 0, "no algorithm in: %s", told.last);
    const char *algorithm = strstr(told.last, " to 32: ") + 8;
    ck_assert_ptr_nonnull(strstr(vgg_plan_describe(first), algorithm));
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

/* Logits and the gradients' norm of a step. */
static void step(struct work *w, float *logits, double *norm)
{
    static const uint32_t labels[BATCH] = {1, 4, 2};
    vgg_plan *p;
    ck_ok(plan(w, VGG_MODE_TRAIN, 0, &p));
    ck_ok(vgg_plan_forward(p, w->images, w->logits));
    memcpy(logits, vgg_tensor_data(w->logits), BATCH * CLASSES * sizeof *logits);
    ck_ok(vgg_plan_loss(p, labels, 0, 1, NULL, NULL));
    ck_ok(vgg_plan_backward(p));
    ck_ok(vgg_plan_gradient_norm(p, norm));
    vgg_plan_free(p);
}

START_TEST(numbers_are_the_same)
{
    struct work w;
    float want[BATCH * CLASSES], got[BATCH * CLASSES];
    double norm[2];
    begin(&w, VGG_CONV_COLUMNS);
    step(&w, want, &norm[0]);
    end(&w);
    begin(&w, VGG_CONV_MEASURED);
    step(&w, got, &norm[1]);
    end(&w);
    for (int i = 0; i < BATCH * CLASSES; i++)
        ck_assert_float_eq_tol(got[i], want[i], 1e-5f);
    ck_assert_double_eq_tol(norm[1], norm[0], 1e-5 * norm[0]);
    ck_assert_double_gt(norm[0], 0);
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
        told.refuse = told.allocations + refuse;
        const vgg_status status = plan(&w, VGG_MODE_TRAIN, 0, &p);
        const bool reached = told.allocations >= told.refuse;
        told.refuse = 0;
        if (status == VGG_OK) {
            ck_assert_int_eq(told.refused, reached);
            made += reached;
            ck_ok(vgg_plan_forward(p, w.images, NULL));
            vgg_plan_free(p);
        } else {
            ck_assert_int_eq(status, VGG_ENOMEM);
            ck_assert_uint_le(vgg_context_bytes(w.ctx), before + 2048); /* found ones */
            refused++;
        }
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
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, what_was_found_is_told);
    tcase_add_test(tcase, numbers_are_the_same);
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
