/* SPDX-License-Identifier: Apache-2.0 */
/* Weights of linear layers kept in bf16: what the reference computes in double from
 * weights that were rounded by arithmetic, so that a loss of bits elsewhere shows. */
#include <math.h>
#include <string.h>

#include "compare.h"
#include "core/memory.h"
#include "guard.h"
#include "harness.h"
#include "targets.h"

/* Edges of vectors, groups, blocks and tasks; maps whose columns are moved; a conv,
 * whose weights stay in full. */
static const char *const nets[] = {
    "1x1x1 linear:1",
    "37x1x1 linear:29",
    "3x5x4 linear:17 relu",
    "1100x1x1 linear:131 relu linear:10",
    "3x8x8 conv3:8 relu max linear:70 relu dropout:0.5 linear:10 loss",
};
enum { NETS = sizeof nets / sizeof *nets };

static const uint32_t counts[] = {1, 2, 3, 4, 5, 16, 37};
enum { COUNTS = sizeof counts / sizeof *counts };

static bool can(const struct target *target)
{
    return (target->engine->abilities & VGG_CAN_BF16_WEIGHTS) &&
           target->precision == VGG_FP32;
}

/* To 8 significant bits, ties to even. */
static float rounded(float x)
{
    int exponent;
    const double share = frexp(x, &exponent); /* 0.5 .. 1 */
    return (float)ldexp(rint(share * 256), exponent - 8);
}

/* The data with weights of linear layers rounded. */
static void round_weights(const struct net *net, struct data *data)
{
    for (uint32_t i = 0; i < net->stage_count; i++) {
        const int32_t slot = net->stages[i].weight;
        if (net->stages[i].kind != VGG_STAGE_LINEAR) continue;
        for (size_t k = 0; k < net->params[slot].count; k++)
            data->params[slot][k] = rounded(data->params[slot][k]);
    }
}

static vgg_program_desc desc_of(const struct session *s, uint32_t batch,
                                uint32_t weights)
{
    return (vgg_program_desc){.stages = s->net.stages,
                              .stage_count = s->net.stage_count,
                              .batch = batch,
                              .mode = VGG_MODE_INFER,
                              .precision = s->target->precision,
                              .weights = weights,
                              .params = s->net.params,
                              .param_count = s->net.param_count};
}

/* A session whose program keeps weights in bf16, and says what memory that takes. */
static void open_half(struct session *s, const struct target *target,
                      const struct net *net, uint32_t batch)
{
    const vgg_engine *engine = target->engine;
    *s = (struct session){.target = target};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &guard_allocator;
    opts.threads = target->threads;
    opts.gemm = target->gemm;
    net_fuse(net, engine->fusions, &s->net);
    session_open_device(s, &opts);
    ck_ok(engine->store_create(s->device, s->net.params, s->net.param_count,
                               target->precision, &s->store));
    const vgg_program_desc desc = desc_of(s, batch, VGG_BF16);
    const uint64_t before = vgg_context_bytes(s->ctx);
    uint64_t bytes = 0;
    ck_ok(engine->measure(s->device, &desc, &bytes));
    ck_ok(engine->compile(s->device, s->store, &desc, &s->program));
    if (!target->apart)
        ck_assert_uint_eq(vgg_context_bytes(s->ctx) - before, bytes + 4 * VGG_ALIGN);
}

static double *output_of(struct session *s, const struct data *data)
{
    double *out = guard_array(data->count * net_output_count(&s->net), sizeof *out);
    session_forward(s, data);
    ck_ok(s->target->engine->read(s->program, VGG_VIEW_OUTPUT, 0, out, VGG_F64));
    return out;
}

/* A program's batch may be larger than a run; a changed parameter changes the copy. */
START_TEST(values)
{
    const struct target *target = &targets[_i / NETS];
    struct net net;
    if (!can(target)) return;
    net_parse(&net, nets[_i % NETS]);
    for (size_t c = 0; c < COUNTS; c++) {
        struct session s;
        struct data data;
        open_half(&s, target, &net, counts[c] + c % 2);
        for (uint64_t seed = 1; seed < 3; seed++) {
            struct outcome want;
            data_create(&data, &net, counts[c], DATA_REAL, seed);
            session_write(&s, &data);
            double *got = output_of(&s, &data);
            round_weights(&net, &data);
            run_net(&target_ref64, &net, &data, VGG_MODE_INFER, &want);
            compare_label("%s, %u samples, seed %u", target->label, counts[c],
                          (unsigned)seed);
            compare_close("output", got, want.output,
                          counts[c] * net_output_count(&net), 1e-6);
            guard_free(got);
            outcome_free(&want);
            data_free(&data);
        }
        session_close(&s);
    }
}
END_TEST

/* Nothing above would notice weights that were not rounded, were rounding too little to
 * be seen. */
START_TEST(rounding_shows)
{
    const struct target *target = &targets[_i];
    struct net net;
    struct session s;
    struct data data;
    struct outcome full;
    if (!can(target)) return;
    net_parse(&net, nets[3]);
    data_create(&data, &net, 5, DATA_REAL, 1);
    open_half(&s, target, &net, 5);
    session_write(&s, &data);
    double *got = output_of(&s, &data);
    run_net(&target_ref64, &net, &data, VGG_MODE_INFER, &full);
    double error = 0, norm = 0;
    for (size_t i = 0; i < 5 * net_output_count(&net); i++) {
        error += (got[i] - full.output[i]) * (got[i] - full.output[i]);
        norm += full.output[i] * full.output[i];
    }
    ck_assert_double_gt(sqrt(error / norm), 1e-4);
    ck_assert_double_lt(sqrt(error / norm), 1e-2);
    guard_free(got);
    outcome_free(&full);
    session_close(&s);
    data_free(&data);
}
END_TEST

START_TEST(bits)
{
    struct target target = targets[_i];
    struct net net;
    if (!can(&target)) return;
    net_parse(&net, nets[3]);
    for (size_t c = 0; c < COUNTS; c++) {
        struct data data;
        double *first = NULL;
        data_create(&data, &net, counts[c], DATA_REAL, 4);
        for (uint32_t round = 0; round < TARGET_ROUNDS; round++) {
            struct session s;
            target_vary(&target, round);
            open_half(&s, &target, &net, counts[c]);
            session_write(&s, &data);
            double *got = output_of(&s, &data);
            session_close(&s);
            if (round == 0) {
                first = got;
                continue;
            }
            compare_label("%s, %u samples, round %u", target.label, counts[c], round);
            compare_exact("output", got, first, counts[c] * net_output_count(&net));
            guard_free(got);
        }
        guard_free(first);
        data_free(&data);
    }
}
END_TEST

/* Two bytes a weight, and it is said how. */
START_TEST(memory_and_words)
{
    const struct target *target = &targets[_i];
    const vgg_engine *engine = target->engine;
    struct net net;
    struct session s;
    char line[256];
    if (!can(target)) return;
    net_parse(&net, "1024x1x1 linear:512");
    for (uint32_t batch = 1; batch <= 40; batch += 39) {
        uint64_t full, half;
        open_half(&s, target, &net, batch);
        const vgg_program_desc plain = desc_of(&s, batch, VGG_FP32);
        const vgg_program_desc desc = desc_of(&s, batch, VGG_BF16);
        ck_ok(engine->measure(s.device, &plain, &full));
        ck_ok(engine->measure(s.device, &desc, &half));
        if (batch == 1) ck_assert_uint_ge(half, full + 2 * 1024 * 512);
        ck_assert_uint_ge(half, 2 * 1024 * 512);
        engine->describe(s.program, 0, line, sizeof line);
        ck_assert_ptr_nonnull(strstr(line, batch == 1 ? "dot products, bf16 weights"
                                                      : "bf16 weights x columns"));
        session_close(&s);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weights");
    TCase *tcase = tcase_create("bf16");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, values, 0, NETS * (int)target_count);
    tcase_add_loop_test(tcase, rounding_shows, 0, (int)target_count);
    tcase_add_loop_test(tcase, bits, 0, (int)target_count);
    tcase_add_loop_test(tcase, memory_and_words, 0, (int)target_count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
