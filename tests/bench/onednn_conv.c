/* SPDX-License-Identifier: Apache-2.0 */
/* The peer: one convolution by oneDNN (3x3, stride 1, padding 1, fp32), as
 * tests/bench/stages.c times one of libvgg's. scripts/bench-cpu compiles it against the
 * package's headers and library; it is no part of the build.
 *
 *   onednn-conv forward|data|weights IC OC H W BATCH [REPEATS]
 *
 * Forward has bias and ReLU; weights has the bias's gradient. Every combination of
 * algorithm and layout is tried, reorders are not timed, and the fastest is the answer:
 * one JSON object on stdout. Threads are for the caller to say: OMP_NUM_THREADS,
 * or processors that the process may use, as the library was built. */
#include <dnnl.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_REPEATS = 1000, BUFFERS = 4 };

enum pass { FORWARD, DATA, WEIGHTS, PASSES };
static const char *const passes[PASSES] = {"forward", "data", "weights"};

static const struct {
    const char *name;
    dnnl_alg_kind_t kind;
} algorithms[] = {
    {"direct", dnnl_convolution_direct},
    {"winograd", dnnl_convolution_winograd},
    {"auto", dnnl_convolution_auto},
};

static const struct {
    const char *name;
    dnnl_format_tag_t tag;
} layouts[] = {{"any", dnnl_format_tag_any}, {"nhwc", dnnl_nhwc}};

enum {
    LAYOUTS = sizeof layouts / sizeof *layouts,
    TRIALS = LAYOUTS * sizeof algorithms / sizeof *algorithms
};

struct shape {
    enum pass pass;
    dnnl_dim_t ic, oc, h, w, batch;
    int repeats;
};

/* One combination. */
struct trial {
    const char *algorithm, *layout;
    double seconds; /* INFINITY: not run */
    char implementation[96];
};

static void check(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success) return;
    fprintf(stderr, "onednn-conv: %s: expected dnnl_success, found status %d\n", what,
            (int)status);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static dnnl_memory_desc_t describe(int rank, const dnnl_dims_t dims,
                                   dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t desc;
    check(dnnl_memory_desc_create_with_tag(&desc, rank, dims, dnnl_f32, tag),
          "memory descriptor");
    return desc;
}

static dnnl_primitive_attr_t relu_after(void)
{
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t ops;
    check(dnnl_primitive_attr_create(&attr), "attributes");
    check(dnnl_post_ops_create(&ops), "post-ops");
    check(dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_relu, 0, 0), "ReLU");
    check(dnnl_primitive_attr_set_post_ops(attr, ops), "post-ops");
    dnnl_post_ops_destroy(ops);
    return attr;
}

/* NULL: oneDNN has no such combination. */
static dnnl_primitive_desc_t choose(dnnl_engine_t engine, const struct shape *s,
                                    dnnl_alg_kind_t algorithm, dnnl_format_tag_t tag)
{
    const dnnl_dims_t strides = {1, 1}, dilates = {0, 0}, padding = {1, 1};
    dnnl_memory_desc_t x = describe(4, (dnnl_dims_t){s->batch, s->ic, s->h, s->w}, tag);
    dnnl_memory_desc_t y = describe(4, (dnnl_dims_t){s->batch, s->oc, s->h, s->w}, tag);
    dnnl_memory_desc_t weights =
        describe(4, (dnnl_dims_t){s->oc, s->ic, 3, 3}, dnnl_format_tag_any);
    dnnl_memory_desc_t bias = describe(1, (dnnl_dims_t){s->oc}, dnnl_x);
    dnnl_primitive_attr_t attr = s->pass == FORWARD ? relu_after() : NULL;
    dnnl_primitive_desc_t forward = NULL, found = NULL;
    dnnl_status_t status = dnnl_convolution_forward_primitive_desc_create(
        &forward, engine, dnnl_forward_training, algorithm, x, weights, bias, y,
        strides, dilates, padding, padding, attr);
    if (status != dnnl_success) {
        forward = NULL;
    } else if (s->pass == FORWARD) {
        found = forward;
    } else if (s->pass == DATA) {
        status = dnnl_convolution_backward_data_primitive_desc_create(
            &found, engine, algorithm, x, weights, y, strides, dilates, padding,
            padding, forward, NULL);
    } else {
        status = dnnl_convolution_backward_weights_primitive_desc_create(
            &found, engine, algorithm, x, weights, bias, y, strides, dilates, padding,
            padding, forward, NULL);
    }
    if (forward && forward != found) dnnl_primitive_desc_destroy(forward);
    if (attr) dnnl_primitive_attr_destroy(attr);
    dnnl_memory_desc_destroy(x);
    dnnl_memory_desc_destroy(y);
    dnnl_memory_desc_destroy(weights);
    dnnl_memory_desc_destroy(bias);
    return status == dnnl_success ? found : NULL;
}

/* Which buffers a pass has, and where oneDNN tells their layout. */
static const struct {
    int argument;
    dnnl_query_t query;
    int index;
} buffers[PASSES][BUFFERS] = {
    {{DNNL_ARG_SRC, dnnl_query_src_md, 0},
     {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
     {DNNL_ARG_BIAS, dnnl_query_weights_md, 1},
     {DNNL_ARG_DST, dnnl_query_dst_md, 0}},
    {{DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md, 0},
     {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
     {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0}},
    {{DNNL_ARG_SRC, dnnl_query_src_md, 0},
     {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md, 0},
     {DNNL_ARG_DIFF_BIAS, dnnl_query_diff_weights_md, 1},
     {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0}},
};

/* Uniform in -1..1, never zeros, which some processors multiply faster. */
static void fill(float *values, size_t count)
{
    uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)state * 0x1p-31f;
    }
}

static int create_buffers(dnnl_engine_t engine, enum pass pass,
                          dnnl_primitive_desc_t found, dnnl_exec_arg_t *args)
{
    int count = 0;
    for (; count < BUFFERS && buffers[pass][count].argument != 0; count++) {
        const_dnnl_memory_desc_t desc = dnnl_primitive_desc_query_md(
            found, buffers[pass][count].query, buffers[pass][count].index);
        args[count].arg = buffers[pass][count].argument;
        check(
            dnnl_memory_create(&args[count].memory, desc, engine, DNNL_MEMORY_ALLOCATE),
            "memory");
        void *values;
        check(dnnl_memory_get_data_handle(args[count].memory, &values), "memory");
        fill(values, dnnl_memory_desc_get_size(desc) / sizeof(float));
    }
    return count;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double run(dnnl_engine_t engine, const struct shape *s,
                  dnnl_primitive_desc_t found)
{
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    check(dnnl_primitive_create(&primitive, found), "primitive");
    check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "stream");
    dnnl_exec_arg_t args[BUFFERS];
    const int count = create_buffers(engine, s->pass, found, args);
    double times[MOST_REPEATS];
    for (int i = -1; i < s->repeats; i++) { /* the first warms up */
        const double begin = now();
        check(dnnl_primitive_execute(primitive, stream, count, args), "execution");
        check(dnnl_stream_wait(stream), "execution");
        if (i >= 0) times[i] = now() - begin;
    }
    qsort(times, (size_t)s->repeats, sizeof *times, by_value);
    for (int i = 0; i < count; i++) dnnl_memory_destroy(args[i].memory);
    dnnl_stream_destroy(stream);
    dnnl_primitive_destroy(primitive);
    return 0.5 * (times[(s->repeats - 1) / 2] + times[s->repeats / 2]);
}

/* Try combination number `index` of `trials`, those before it having been tried. */
static void try(dnnl_engine_t engine, const struct shape *s, int index,
                struct trial trials[TRIALS])
{
    struct trial *trial = &trials[index];
    const int a = index / LAYOUTS, l = index % LAYOUTS;
    *trial = (struct trial){algorithms[a].name, layouts[l].name, INFINITY, ""};
    dnnl_primitive_desc_t found = choose(engine, s, algorithms[a].kind, layouts[l].tag);
    if (!found) return;
    const char *text = "";
    dnnl_primitive_desc_query(found, dnnl_query_impl_info_str, 0, &text);
    snprintf(trial->implementation, sizeof trial->implementation, "%s", text);
    bool known = false; /* "auto" is mostly one of the others */
    for (int i = l; i < index; i += LAYOUTS)
        known |= strcmp(trials[i].implementation, trial->implementation) == 0;
    if (!known) trial->seconds = run(engine, s, found);
    dnnl_primitive_desc_destroy(found);
}

static void print(const struct trial *trial, const char *before)
{
    printf("%s{\"algorithm\": \"%s\", \"layout\": \"%s\", ", before, trial->algorithm,
           trial->layout);
    if (isfinite(trial->seconds))
        printf("\"implementation\": \"%s\", \"median_ms\": %.6g}",
               trial->implementation, 1e3 * trial->seconds);
    else
        printf("\"reason\": \"%s\"}", trial->implementation[0]
                                          ? "the same as one before"
                                          : "oneDNN does not have it");
}

static int parse(int argc, char **argv, struct shape *s)
{
    *s = (struct shape){.pass = PASSES, .repeats = 5};
    if (argc < 7 || argc > 8) return 0;
    for (int p = 0; p < PASSES; p++)
        if (strcmp(argv[1], passes[p]) == 0) s->pass = (enum pass)p;
    dnnl_dim_t *const sizes[] = {&s->ic, &s->oc, &s->h, &s->w, &s->batch};
    for (int i = 0; i < 5; i++) *sizes[i] = strtol(argv[i + 2], NULL, 10);
    if (argc == 8) s->repeats = (int)strtol(argv[7], NULL, 10);
    return s->pass != PASSES && s->ic > 0 && s->oc > 0 && s->h > 0 && s->w > 0 &&
           s->batch > 0 && s->repeats > 0 && s->repeats <= MOST_REPEATS;
}

int main(int argc, char **argv)
{
    struct shape s;
    if (!parse(argc, argv, &s)) {
        fprintf(stderr, "usage: onednn-conv forward|data|weights IC OC H W BATCH "
                        "[REPEATS]\n");
        return 2;
    }
    dnnl_engine_t engine;
    check(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine");
    struct trial trials[TRIALS], *best = &trials[0];
    for (int i = 0; i < TRIALS; i++) {
        try(engine, &s, i, trials);
        if (trials[i].seconds < best->seconds) best = &trials[i];
    }
    dnnl_engine_destroy(engine);
    if (!isfinite(best->seconds)) {
        fprintf(stderr, "onednn-conv: oneDNN has no such convolution\n");
        return 1;
    }
    const dnnl_version_t *version = dnnl_version();
    const double flops = 18.0 * (double)(s.ic * s.oc * s.h * s.w * s.batch);
    printf("{\"pass\": \"%s\", \"version\": \"%d.%d.%d\", \"median_ms\": %.6g, "
           "\"gflops\": %.6g, \"best\": ",
           passes[s.pass], version->major, version->minor, version->patch,
           1e3 * best->seconds, 1e-9 * flops / best->seconds);
    print(best, "");
    for (int i = 0; i < TRIALS; i++)
        print(&trials[i], i == 0 ? ", \"tried\": [" : ", ");
    printf("]}\n");
    return 0;
}
