/* SPDX-License-Identifier: Apache-2.0 */
/* `vgg bench`: how long steps take. Images are random, never zeros, which some
 * processors multiply faster; --data-loading takes real ones and counts their loading:
 * it trains as `vgg train` does, so that a device that keeps the data set may.
 *
 * A device may still be at work when a step returns, at most since that step's loss. A
 * step's time is from the step before to it, so that over many what each leaves to the
 * next cancels out. */
#include "json.h"
#include "session.h"

#include <stdlib.h>

/* What is measured. All owned but the session's. */
struct bench {
    struct settings *s;
    struct session it;
    vgg_trainer *trainer; /* training */
    vgg_plan *plan;       /* inference */
    vgg_tensor *images, *logits;
    uint32_t *labels;
    double *times;  /* seconds of each step, sorted in the end */
    uint64_t seen;  /* images of the measured steps */
    uint64_t done;  /* steps, those of the warm-up included */
    uint64_t batch; /* images of each */
    double mark;    /* when the step before was done */
};

/* SplitMix64 (Steele, Lea and Flood 2014): plenty for images that nobody looks at. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A batch of uniform noise in 0..1 with random classes. */
static int make_noise(struct bench *b)
{
    const vgg_shape *in = vgg_model_input_shape(b->it.model);
    const uint32_t classes = vgg_model_output_shape(b->it.model)->dim[0];
    vgg_shape shape = {.rank = in->rank + 1, .dim = {(uint32_t)b->s->batch}};
    for (uint32_t i = 0; i < in->rank; i++) shape.dim[i + 1] = in->dim[i];
    if (vgg_tensor_create(b->it.ctx, VGG_F32, &shape, &b->images) != VGG_OK)
        return fail_vgg("images");
    b->labels = malloc(b->s->batch * sizeof *b->labels);
    if (!b->labels) return fail("out of memory");
    float *pixels = vgg_tensor_data(b->images);
    uint64_t state = b->s->seed;
    for (uint64_t i = 0; i < vgg_tensor_bytes(b->images) / sizeof *pixels; i++)
        pixels[i] = (float)(next_random(&state) >> 40) * 0x1p-24f;
    for (uint64_t i = 0; i < b->s->batch; i++)
        b->labels[i] = (uint32_t)(next_random(&state) % classes);
    return 0;
}

static int open_data(struct bench *b)
{
    vgg_transform transform;
    int status = settings_transform(b->s, &transform);
    if (status == 0) status = session_data(&b->it, b->s, "train", &b->it.train);
    if (status == 0)
        status =
            session_loader(b->s, &transform, b->it.train, true, &b->it.train_loader);
    return status;
}

static int open_engine(struct bench *b)
{
    vgg_trainer_options train = VGG_TRAINER_OPTIONS_INIT;
    vgg_plan_options infer = VGG_PLAN_OPTIONS_INIT;
    vgg_optimizer optimizer;
    const int status = settings_optimizer(b->s, &optimizer);
    if (status != 0) return status;
    train.optimizer = &optimizer;
    train.lr = 1e-6; /* steps must not diverge on noise */
    train.batch = infer.batch = (uint32_t)b->s->batch;
    train.epochs = 1000000000;
    train.precision = infer.precision = session_precision(b->s);
    infer.weights = session_weight_kind(b->s);
    train.deterministic = infer.deterministic = (uint32_t)b->s->deterministic;
    if (b->s->mode == MODE_TRAIN) {
        if (vgg_trainer_create(b->it.model, b->it.device, &train, &b->trainer) !=
            VGG_OK)
            return fail_vgg("training");
        return 0;
    }
    const vgg_shape *out = vgg_model_output_shape(b->it.model);
    vgg_shape shape = {.rank = out->rank + 1, .dim = {infer.batch}};
    for (uint32_t i = 0; i < out->rank; i++) shape.dim[i + 1] = out->dim[i];
    if (vgg_plan_create(b->it.model, b->it.device, &infer, &b->plan) != VGG_OK ||
        vgg_tensor_create(b->it.ctx, VGG_F32, &shape, &b->logits) != VGG_OK)
        return fail_vgg("inference");
    return 0;
}

/* The next full batch of real images; a short one at an epoch's end is passed over. */
static vgg_status next_real(struct bench *b, vgg_batch *batch)
{
    vgg_status status;
    do {
        status = vgg_loader_next(b->it.train_loader, batch);
    } while (status == VGG_OK && batch->count != b->batch);
    return status;
}

static vgg_status run_step(struct bench *b, uint64_t index)
{
    vgg_batch batch = {.images = b->images,
                       .labels = b->labels,
                       .count = (uint32_t)b->batch,
                       .index = index};
    vgg_status status = VGG_OK;
    if (b->it.train_loader) status = next_real(b, &batch);
    if (status != VGG_OK) return status;
    if (b->trainer) return vgg_trainer_step(b->trainer, &batch, NULL);
    return vgg_plan_forward(b->plan, batch.images, b->logits);
}

/* Take down a step's time; true when it was the last. */
static bool end_step(struct bench *b)
{
    const uint64_t steps = b->s->steps, warmup = b->s->warmup;
    const double now = now_seconds();
    if (b->done >= warmup) b->times[b->done - warmup] = now - b->mark;
    b->done++;
    b->mark = now;
    return b->done == warmup + steps;
}

/* A short batch at an epoch's end is passed over. */
static int on_batch(void *cookie, const vgg_progress *progress)
{
    struct bench *b = cookie;
    const bool whole = progress->seen == progress->batch * b->batch;
    if (whole) return end_step(b);
    b->mark = now_seconds();
    return 0;
}

static int run_fit(struct bench *b)
{
    const vgg_callbacks callbacks = {b, on_batch, NULL};
    const vgg_status status =
        vgg_trainer_fit(b->trainer, b->it.train_loader, NULL, &callbacks);
    return status == VGG_ECANCELED ? 0 : fail_vgg("bench");
}

static int measure(struct bench *b)
{
    const uint64_t steps = b->s->steps;
    b->batch =
        b->it.train_loader ? vgg_loader_batch_size(b->it.train_loader) : b->s->batch;
    b->seen = steps * b->batch;
    b->times = malloc(steps * sizeof *b->times);
    if (!b->times)
        return fail("--steps %llu: out of memory", (unsigned long long)steps);
    b->mark = now_seconds();
    if (b->trainer && b->it.train_loader) return run_fit(b);
    do {
        if (run_step(b, b->done) != VGG_OK) return fail_vgg("bench");
    } while (!end_step(b));
    return 0;
}

static int by_time(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The time that a share of the steps does not exceed (nearest rank). */
static double percentile(const struct bench *b, double share)
{
    const uint64_t count = b->s->steps;
    uint64_t rank = (uint64_t)(share * (double)count + 0.999999);
    if (rank < 1) rank = 1;
    return b->times[rank > count ? count - 1 : rank - 1];
}

static double median(const struct bench *b)
{
    const uint64_t count = b->s->steps;
    return 0.5 * (b->times[(count - 1) / 2] + b->times[count / 2]);
}

static void report(const struct bench *b)
{
    static const char *const modes[] = {"train", "infer"};
    double sum = 0.0;
    for (uint64_t i = 0; i < b->s->steps; i++) sum += b->times[i];
    const double rate = sum > 0 ? (double)b->seen / sum : 0.0;
    const char *text = vgg_device_text(b->it.device);
    if (b->s->format == FORMAT_TEXT) {
        printf(
            "%s, batch %llu, %llu steps after %llu to warm up, %u threads, %s images\n",
            modes[b->s->mode], (unsigned long long)b->batch,
            (unsigned long long)b->s->steps, (unsigned long long)b->s->warmup,
            (unsigned)vgg_context_threads(b->it.ctx),
            b->it.train_loader ? "real" : "random");
        printf("%.1f images/s, median step %.2f ms, p95 %.2f ms, peak memory %s\n",
               rate, 1e3 * median(b), 1e3 * percentile(b, 0.95),
               readable_bytes(peak_rss_bytes()));
        printf("%s: %s\n%s%s%s\n", vgg_device_name(b->it.device), text,
               flag_find("precision")->choices[b->s->precision],
               b->s->weights ? ", linear weights in bf16" : "",
               b->s->deterministic ? ", deterministic" : "");
        return;
    }
    struct json j = {.file = stdout};
    json_object(&j, NULL);
    json_text(&j, "mode", modes[b->s->mode]);
    json_count(&j, "batch", b->batch);
    json_count(&j, "steps", b->s->steps);
    json_real(&j, "images_per_s", rate);
    json_real(&j, "median_step_s", median(b));
    json_real(&j, "p95_step_s", percentile(b, 0.95));
    json_count(&j, "peak_rss_bytes", peak_rss_bytes());
    json_text(&j, "engine", vgg_device_engine(b->it.device));
    json_text(&j, "name", vgg_device_name(b->it.device));
    json_text(&j, "device", text);
    json_text(&j, "precision", flag_find("precision")->choices[b->s->precision]);
    json_text(&j, "linear_weights", flag_find("weights")->choices[b->s->weights]);
    json_bool(&j, "deterministic", b->s->deterministic != 0);
    json_count(&j, "threads", vgg_context_threads(b->it.ctx));
    json_bool(&j, "data_loading", b->it.train_loader != NULL);
    json_end(&j);
}

int bench_main(struct settings *s)
{
    struct bench b = {.s = s};
    if (s->steps == 0) s->steps = 20;
    if (s->steps > 100000000) return misuse("--steps: expected at most 100000000");
    if (s->weights != 0 && s->mode == MODE_TRAIN)
        return misuse(
            "--weights bf16 is for --mode infer: training changes them in full");
    int status = session_open(&b.it, s);
    if (status == 0 && s->data_loading) status = open_data(&b);
    if (status == 0) status = session_model(&b.it, s, b.it.train_loader);
    if (status == 0 && vgg_model_output_shape(b.it.model)->rank != 1 &&
        s->mode == MODE_TRAIN)
        status = misuse("--head none has no classes to train: try --mode infer");
    if (status == 0) status = make_noise(&b);
    if (status == 0) status = open_engine(&b);
    if (status == 0) status = measure(&b);
    if (status == 0) {
        qsort(b.times, s->steps, sizeof *b.times, by_time);
        report(&b);
    }
    free(b.times);
    free(b.labels);
    vgg_tensor_free(b.images);
    vgg_tensor_free(b.logits);
    vgg_plan_free(b.plan);
    vgg_trainer_free(b.trainer);
    session_close(&b.it);
    return status;
}
