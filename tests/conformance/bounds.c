/* SPDX-License-Identifier: Apache-2.0 */
/* No stage writes outside of its buffers, nor reads what it did not ask for: each is
 * called directly, with exactly the bytes that it measured, guards around every buffer,
 * and NULL in place of what its backward does not declare to read. */
#include <string.h>

#include "cases.h"
#include "common/program.h"
#include "guard.h"
#include "harness.h"
#include "session.h"

static const struct target targets[] = {
    {"ref in double", &vgg__engine_ref, VGG_FP64, 1, VGG_GEMM_AUTO},
    {"ref in float", &vgg__engine_ref, VGG_FP32, 1, VGG_GEMM_AUTO},
    {"cpu", &vgg__engine_cpu, VGG_FP32, 2, VGG_GEMM_AUTO},
    {"cpu, columns", &vgg__engine_cpu, VGG_FP32, 2, VGG_GEMM_AUTO,
     .conv = VGG_CONV_COLUMNS},
    {"cpu, F(2x2)", &vgg__engine_cpu, VGG_FP32, 2, VGG_GEMM_AUTO,
     .conv = VGG_CONV_WINOGRAD2},
    {"cpu, F(4x4)", &vgg__engine_cpu, VGG_FP32, 2, VGG_GEMM_AUTO,
     .conv = VGG_CONV_WINOGRAD4},
    {"cpu, own product", &vgg__engine_cpu, VGG_FP32, 3, VGG_GEMM_OWN},
};
enum { TARGETS = sizeof targets / sizeof *targets };

/* The buffers of one stage, all guarded. */
struct buffers {
    void *x, *y, *dy, *dx, *prepared, *saved, *forward_scratch, *backward_scratch;
    void *value[6], *gradient[6]; /* weight, bias, gamma, beta, mean, var */
};

/* Elements near 1: a variance must be positive, and nothing may overflow. */
static void *filled(uint32_t precision, size_t count)
{
    void *array = guard_array(count, vgg__element(precision));
    for (size_t i = 0; i < count; i++) {
        const double value = 0.5 + (double)(i * 7 % 11) / 11;
        if (precision == VGG_FP64)
            ((double *)array)[i] = value;
        else
            ((float *)array)[i] = (float)value;
    }
    return array;
}

/* Not zeroed by contract: bytes that no code may rely on. */
static void *scratch(size_t bytes)
{
    return bytes > 0 ? memset(guard_array(bytes, 1), 0x7f, bytes) : NULL;
}

static void allocate(const struct session *s, const struct vgg__stage_env *env,
                     const struct vgg__stage_need *need, struct buffers *b)
{
    const vgg_stage *stage = env->stage;
    const size_t in = env->batch * net_extent(stage->in);
    const size_t out = env->batch * net_extent(stage->out);
    *b = (struct buffers){.x = filled(env->precision, in),
                          .y = filled(env->precision, out),
                          .dy = filled(env->precision, out),
                          .dx = filled(env->precision, in),
                          .prepared = scratch(need->prepared),
                          .saved = scratch(need->saved),
                          .forward_scratch = scratch(need->forward_scratch),
                          .backward_scratch = scratch(need->backward_scratch)};
    const int32_t slots[] = {stage->weight, stage->bias, stage->gamma,
                             stage->beta,   stage->mean, stage->var};
    for (int i = 0; i < 6; i++) {
        if (slots[i] < 0) continue;
        b->value[i] = filled(env->precision, s->net.params[slots[i]].count);
        b->gradient[i] = filled(env->precision, s->net.params[slots[i]].count);
    }
}

/* Looks at all guards. */
static void release(struct buffers *b)
{
    void *const all[] = {b->x,        b->y,
                         b->dy,       b->dx,
                         b->saved,    b->forward_scratch,
                         b->prepared, b->backward_scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) guard_free(all[i]);
    for (int i = 0; i < 6; i++) {
        guard_free(b->value[i]);
        guard_free(b->gradient[i]);
    }
}

static void call(const struct vgg__stage_impl *impl, const struct vgg__stage_need *need,
                 const struct buffers *b, struct vgg__stage_args args)
{
    args.x = b->x;
    args.y = b->y;
    args.prepared = b->prepared;
    args.saved = b->saved;
    args.scratch = b->forward_scratch;
    args.weight = b->value[0];
    args.bias = b->value[1];
    args.gamma = b->value[2];
    args.beta = b->value[3];
    args.mean = b->value[4];
    args.var = b->value[5];
    if (impl->prepare && need->prepared > 0) impl->prepare(&args);
    if (args.stage->kind == VGG_STAGE_LOSS) args.dx = b->dx;
    impl->forward(&args);
    if (!impl->backward || args.mode == VGG_MODE_INFER) return;
    args.x = need->reads_x ? b->x : NULL;
    args.y = need->reads_y ? b->y : NULL;
    args.dy = b->dy;
    args.dx = b->dx;
    args.scratch = b->backward_scratch;
    args.dweight = b->gradient[0];
    args.dbias = b->gradient[1];
    args.dgamma = b->gradient[2];
    args.dbeta = b->gradient[3];
    impl->backward(&args);
}

static void check_stage(const struct session *s, const struct data *data,
                        const vgg_stage *stage, uint32_t mode)
{
    const struct vgg__machine *machine = s->device;
    const uint32_t precision = s->target->precision;
    const struct vgg__stage_impl *impl = machine->stages[precision][stage->kind];
    const bool back = mode != VGG_MODE_INFER;
    const struct vgg__stage_env env = {
        .machine = machine,
        .stage = stage,
        .batch = data->count,
        .mode = mode,
        .precision = precision,
        .wants_dx = back,
        .wants_dparams = back && (stage->weight >= 0 || stage->gamma >= 0)};
    struct vgg__stage_need need = {0};
    impl->measure(&env, &need);
    if (need.identity) return;
    struct buffers b;
    allocate(s, &env, &need, &b);
    double loss_sum = 0;
    uint32_t correct = 0;
    vgg_run run = session_run_desc(data);
    run.loss_sum = &loss_sum;
    run.correct = &correct;
    call(impl, &need, &b,
         (struct vgg__stage_args){.machine = machine,
                                  .stage = stage,
                                  .run = &run,
                                  .count = data->count,
                                  .batch = data->count,
                                  .mode = mode});
    release(&b);
}

START_TEST(bounds)
{
    const struct test_case *test = &test_cases[_i];
    if (test->batch == 0) return;
    struct net net;
    struct data data;
    net_parse(&net, test->net);
    data_create(&data, &net, test->batch, DATA_REAL, 1);
    for (int t = 0; t < TARGETS; t++) {
        struct session s;
        session_open(&s, &targets[t], &net, test->batch, VGG_MODE_TRAIN, false);
        for (uint32_t i = 0; i < s.net.stage_count; i++)
            for (uint32_t mode = VGG_MODE_INFER; mode <= VGG_MODE_GRAD; mode++)
                check_stage(&s, &data, &s.net.stages[i], mode);
        session_close(&s);
    }
    data_free(&data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bounds");
    TCase *tcase = tcase_create("stages");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, bounds, 0, (int)test_case_count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
