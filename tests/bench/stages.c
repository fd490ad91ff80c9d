/* SPDX-License-Identifier: Apache-2.0 */
/* Times one pass of one convolution stage (3x3, padding 1, bias, ReLU, maybe a 2x2
 * maximum pool) of an engine, through backend.h alone. What it is compared with is
 * tests/bench/onednn_conv.c; scripts/bench-cpu runs both.
 *
 *   stages PASS IC OC H W BATCH [--pool] [--threads N] [--repeats N] [--engine NAME]
 *
 * PASS is forward, data (weights frozen) or weights (nobody asks for the gradient of
 * the input). Both gradients begin with the pool's and the ReLU's, which are in their
 * time. One JSON object on stdout; GFLOP/s are those of the direct algorithm, a
 * multiply-accumulate counting as two. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "session.h"
#include "timing.h"

enum { MOST_REPEATS = 1000 };
enum { FORWARD, DATA, WEIGHTS, PASSES };
static const char *const passes[PASSES] = {"forward", "data", "weights"};

static struct {
    uint32_t pass, ic, oc, h, w, batch;
    bool pool;
    int repeats;
    struct target target;
} asked = {.pass = PASSES,
           .repeats = 5,
           .target = {"cpu", &vgg__engine_cpu, VGG_FP32, 0, VGG_GEMM_AUTO}};

/* The stage's own time so far, and that of stages which the engine has not fused into
 * it. */
static double stage_seconds(const struct session *s)
{
    double seconds = 0;
    for (uint32_t i = 0; i < s->net.stage_count; i++) {
        vgg_report report;
        s->target->engine->report(s->program, i, &report);
        seconds += asked.pass == FORWARD ? report.forward : report.backward;
    }
    return seconds;
}

/* Seconds of the asked pass: the stage's own time. That leaves out what is the
 * boundary's, bringing the caller's [n][c][h][w] into the engine's layout, which nobody
 * does between the stages of a network. */
static double time_pass(struct session *s, const struct data *data)
{
    const vgg_engine *engine = s->target->engine;
    vgg_run run = session_run_desc(data);
    double before = stage_seconds(s);
    ck_ok(engine->run(s->program, VGG_PHASE_FORWARD, &run));
    if (asked.pass != FORWARD) {
        run.output_gradient = data->dy;
        before = stage_seconds(s);
        ck_ok(engine->run(s->program, VGG_PHASE_BACKWARD, &run));
    }
    return stage_seconds(s) - before;
}

static void report(struct session *s, double *seconds)
{
    char text[256] = "";
    s->target->engine->describe(s->program, 0, text, sizeof text);
    printf("{\"engine\": \"%s\", \"pass\": \"%s\", \"threads\": %u, "
           "\"stage\": \"%s\", \"samples_ms\": [",
           s->target->label, passes[asked.pass], s->target->threads, text);
    for (int i = 0; i < asked.repeats; i++)
        printf("%s%.6g", i > 0 ? ", " : "", 1e3 * seconds[i]);
    const double median = timing_median(seconds, asked.repeats);
    const double flops = 2 * net_macs(&s->net) * asked.batch;
    printf("], \"median_ms\": %.6g, \"gflops\": %.6g}\n", 1e3 * median,
           1e-9 * flops / median);
}

START_TEST(stage)
{
    char text[64];
    struct net net;
    snprintf(text, sizeof text, "%ux%ux%u conv3:%u relu%s", asked.ic, asked.h, asked.w,
             asked.oc, asked.pool ? " max" : "");
    net_parse(&net, text);
    for (uint32_t i = 0; i < net.param_count; i++)
        net.params[i].trainable = asked.pass != DATA;
    struct data data;
    data_create(&data, &net, asked.batch, DATA_REAL, 1);
    struct session s;
    session_open(&s, &asked.target, &net, asked.batch, VGG_MODE_TRAIN, false);
    session_write(&s, &data);
    double seconds[MOST_REPEATS];
    time_pass(&s, &data); /* warms up */
    for (int i = 0; i < asked.repeats; i++) seconds[i] = time_pass(&s, &data);
    report(&s, seconds);
    session_close(&s);
    data_free(&data);
}
END_TEST

static uint32_t number(const char *text)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 10);
    return *text == '\0' || *end != '\0' || value > 1 << 20 ? 0 : (uint32_t)value;
}

static int choose_engine(const char *name)
{
    static const vgg_engine *const engines[] = {&vgg__engine_cpu, &vgg__engine_ref};
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++)
        if (strcmp(engines[i]->name, name) == 0) {
            asked.target.engine = engines[i];
            asked.target.label = engines[i]->name;
            return 1;
        }
    return 0;
}

/* False: not to be understood. */
static int parse(int argc, char **argv)
{
    static const struct option options[] = {{"pool", no_argument, NULL, 'p'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"repeats", required_argument, NULL, 'r'},
                                            {"engine", required_argument, NULL, 'e'},
                                            {NULL, 0, NULL, 0}};
    int option, good = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'p')
            asked.pool = true;
        else if (option == 't')
            good &= (asked.target.threads = number(optarg)) > 0;
        else if (option == 'r')
            good &= (asked.repeats = (int)number(optarg)) > 0;
        else
            good &= option == 'e' && choose_engine(optarg);
    }
    if (argc - optind != 6) return 0;
    for (uint32_t p = 0; p < PASSES; p++)
        if (strcmp(argv[optind], passes[p]) == 0) asked.pass = p;
    uint32_t *const sizes[] = {&asked.ic, &asked.oc, &asked.h, &asked.w, &asked.batch};
    for (int i = 0; i < 5; i++) good &= (*sizes[i] = number(argv[optind + 1 + i])) > 0;
    asked.target.no_dx = asked.pass == WEIGHTS;
    return good && asked.pass != PASSES && asked.repeats <= MOST_REPEATS;
}

int main(int argc, char **argv)
{
    if (parse(argc, argv)) return timing_run(stage);
    fprintf(stderr, "usage: stages forward|data|weights IC OC H W BATCH [--pool] "
                    "[--threads N] [--repeats N] [--engine cpu|ref]\n");
    return 2;
}
