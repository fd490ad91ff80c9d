/* SPDX-License-Identifier: Apache-2.0 */
/* Timing of the cases; see bench.h. A figure is the best of several runs, after one to
 * warm up. GFLOP/s count a multiply-accumulate as two operations of the direct
 * algorithm, whatever the engine does; GB/s count input, output and parameters once
 * (and their gradients, backward). */
#include "bench.h"

#include <stdio.h>
#include <string.h>

#include "cases.h"
#include "harness.h"
#include "session.h"
#include "timing.h"

enum { RUNS = 5 };

static const struct target targets[] = {
    {"cpu", &vgg__engine_cpu, VGG_FP32, 0, VGG_GEMM_AUTO},
    {"cpu-own", &vgg__engine_cpu, VGG_FP32, 0, VGG_GEMM_OWN},
    {"ref", &vgg__engine_ref, VGG_FP32, 0, VGG_GEMM_AUTO},
};

/* Seconds of a forward and of a backward. */
static void time_session(struct session *s, const struct data *data, double seconds[2])
{
    const vgg_engine *engine = s->target->engine;
    vgg_run run = session_run_desc(data);
    seconds[0] = seconds[1] = 1e30;
    for (int i = 0; i <= RUNS; i++) {
        const double begin = timing_now();
        ck_ok(engine->run(s->program, VGG_PHASE_FORWARD, &run));
        const double middle = timing_now();
        run.output_gradient = data->dy;
        ck_ok(engine->run(s->program, VGG_PHASE_BACKWARD, &run));
        const double end = timing_now();
        if (i == 0) continue;
        if (middle - begin < seconds[0]) seconds[0] = middle - begin;
        if (end - middle < seconds[1]) seconds[1] = end - middle;
    }
}

static double moved_bytes(const struct net *net, uint32_t count)
{
    double elements =
        (double)count * (double)(net_input_count(net) + net_output_count(net));
    for (uint32_t i = 0; i < net->param_count; i++)
        elements += (double)net->params[i].count;
    return elements * sizeof(float);
}

static void bench_case(const struct target *target, const struct test_case *test)
{
    struct net net;
    net_parse(&net, test->net);
    struct data data;
    data_create(&data, &net, test->bench_batch, DATA_REAL, 1);
    struct session s;
    session_open(&s, target, &net, test->bench_batch, VGG_MODE_TRAIN, false);
    session_write(&s, &data);
    double seconds[2];
    time_session(&s, &data, seconds);
    session_close(&s);
    data_free(&data);

    const double flops = 2 * net_macs(&net) * test->bench_batch;
    const double bytes = moved_bytes(&net, test->bench_batch);
    printf("%-34s %9.4f %8.1f %7.1f %9.4f %8.1f %7.1f\n", test->net,
           1e3 * seconds[0] / test->bench_batch, 1e-9 * flops / seconds[0],
           1e-9 * bytes / seconds[0], 1e3 * seconds[1] / test->bench_batch,
           2e-9 * flops / seconds[1], 2e-9 * bytes / seconds[1]);
    fflush(stdout);
}

static const struct target *chosen; /* what the one test below times */

/* A test to Check, so that what fails says so as in any other. */
START_TEST(timing)
{
    printf("%-34s %9s %8s %7s %9s %8s %7s\n", chosen->label, "fwd ms", "GFLOP/s",
           "GB/s", "bwd ms", "GFLOP/s", "GB/s");
    for (uint32_t i = 0; i < test_case_count; i++)
        if (test_cases[i].bench_batch > 0) bench_case(chosen, &test_cases[i]);
}
END_TEST

int bench_main(const char *engine)
{
    for (size_t t = 0; t < sizeof targets / sizeof *targets; t++)
        if (strcmp(targets[t].label, engine) == 0) chosen = &targets[t];
    if (!chosen) {
        fprintf(stderr, "no engine \"%s\"\n", engine);
        return 1;
    }
    return timing_run(timing);
}
