/* SPDX-License-Identifier: Apache-2.0 */
/* `vgg bench`: how long steps take. Images are random, never zeros, which some
 * processors multiply faster; --data-loading takes real ones and counts their loading:
 * it trains as `vgg train` does, so that a device that keeps the data set may.
 *
 * A device may still be at work when a step returns, at most since that step's loss. A
 * step's time is from the step before to it, so that over many what each leaves to the
 * next cancels out. */
#include "bench.h"

#include <stdlib.h>

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
    vgg_shape shape = {.rank = in->rank + 1, .dim = {(uint32_t)b->batch}};
    for (uint32_t i = 0; i < in->rank; i++) shape.dim[i + 1] = in->dim[i];
    if (vgg_tensor_create(b->it.ctx, VGG_F32, &shape, &b->images) != VGG_OK)
        return fail_vgg("images");
    b->labels = malloc(b->batch * sizeof *b->labels);
    if (!b->labels) return fail("out of memory");
    float *pixels = vgg_tensor_data(b->images);
    uint64_t state = b->s->seed;
    for (uint64_t i = 0; i < vgg_tensor_bytes(b->images) / sizeof *pixels; i++)
        pixels[i] = (float)(next_random(&state) >> 40) * 0x1p-24f;
    for (uint64_t i = 0; i < b->batch; i++)
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
    train.batch = infer.batch = (uint32_t)b->batch;
    train.epochs = 1000000000;
    train.precision = infer.precision = session_precision(b->s);
    infer.weights = session_weight_kind(b->s);
    train.deterministic = infer.deterministic = (uint32_t)b->s->deterministic;
    if (b->s->mode == MODE_TRAIN) {
        if (vgg_trainer_create(b->it.model, b->it.device, &train, &b->trainer) !=
            VGG_OK)
            return fail_vgg("training");
        b->watched = vgg_trainer_plan(b->trainer);
        return 0;
    }
    const vgg_shape *out = vgg_model_output_shape(b->it.model);
    vgg_shape shape = {.rank = out->rank + 1, .dim = {infer.batch}};
    for (uint32_t i = 0; i < out->rank; i++) shape.dim[i + 1] = out->dim[i];
    if (vgg_plan_create(b->it.model, b->it.device, &infer, &b->plan) != VGG_OK ||
        vgg_tensor_create(b->it.ctx, VGG_F32, &shape, &b->logits) != VGG_OK)
        return fail_vgg("inference");
    b->watched = b->plan;
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

static void begin_step(struct bench *b)
{
    profile_begin(&b->profile);
    b->mark = now_seconds();
}

/* Take down a step's time; true when it was the last. */
static bool end_step(struct bench *b)
{
    const uint64_t steps = b->s->steps, warmup = b->s->warmup;
    const double seconds = now_seconds() - b->mark;
    if (b->done >= warmup) {
        b->times[b->done - warmup] = seconds;
        profile_end(&b->profile, seconds);
    }
    b->done++;
    begin_step(b);
    return b->done == warmup + steps;
}

/* A short batch at an epoch's end is passed over. */
static int on_batch(void *cookie, const vgg_progress *progress)
{
    struct bench *b = cookie;
    const bool whole = progress->seen == progress->batch * b->batch;
    if (whole) return end_step(b);
    begin_step(b);
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
    b->seen = steps * b->batch;
    b->times = malloc(steps * sizeof *b->times);
    if (!b->times)
        return fail("--steps %llu: out of memory", (unsigned long long)steps);
    const int status = profile_open(&b->profile, b->watched, steps);
    if (status != 0) return status;
    begin_step(b);
    if (b->trainer && b->it.train_loader) return run_fit(b);
    do {
        if (run_step(b, b->done) != VGG_OK) return fail_vgg("bench");
    } while (!end_step(b));
    return 0;
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
    b.batch = b.it.train_loader ? vgg_loader_batch_size(b.it.train_loader) : s->batch;
    if (status == 0 && !b.it.train_loader) status = make_noise(&b);
    if (status == 0) status = open_engine(&b);
    if (status == 0) status = measure(&b);
    if (status == 0) {
        sort_times(b.times, s->steps);
        profile_sort(&b.profile);
        bench_report(&b);
    }
    profile_close(&b.profile);
    free(b.times);
    free(b.labels);
    vgg_tensor_free(b.images);
    vgg_tensor_free(b.logits);
    vgg_plan_free(b.plan);
    vgg_trainer_free(b.trainer);
    session_close(&b.it);
    return status;
}
