/* SPDX-License-Identifier: Apache-2.0 */
/* The measured choice of a convolution's algorithm, under VGG_CONV_MEASURED: before a
 * program is laid out, every shape of its convolutions that the device has not met is
 * run by each algorithm, on a few images of small numbers. What was found stays with
 * the device, so all its programs of a shape and batch agree. */
#include "cpu/conv.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/error.h"
#include "cpu/first.h"

#define RUNS        5                    /* that are timed; one more comes before */
#define TRIAL_MACS  ((double)(1u << 30)) /* of all images of a run: about 5 ms */
#define TRIAL_BYTES ((size_t)64 << 20)   /* of all images' input and output */
#define WORTH       0.95 /* of the seconds of the choice by shape: less is noise */

enum { FORWARD, DATA, WEIGHTS, PRODUCTS };

/* ---- A trial ----------------------------------------------------------------- */

/* A stage with operands that are large enough for every algorithm. */
struct trial {
    const vgg_stage *stage;
    uint32_t images, batch; /* of a run, of the program */
    uint32_t mode;
    void *block; /* all of what follows */
    void *x, *y, *dy, *dx, *weight, *dweight, *bias, *dbias;
    void *prepared, *saved, *scratch[2]; /* forward, backward */
};

static bool has_gradients(const struct trial *t)
{
    return t->mode != VGG_MODE_INFER;
}

static uint32_t images_of(const vgg_stage *s, uint32_t batch)
{
    const double macs = 9.0 * s->in.c * (double)vgg__extent_count(s->mid);
    const double bytes =
        4.0 * ((double)vgg__extent_count(s->in) + (double)vgg__extent_count(s->mid));
    double images = TRIAL_MACS / macs;
    if (images > TRIAL_BYTES / bytes) images = TRIAL_BYTES / bytes;
    if (images > batch) images = batch;
    return images < 1 ? 1 : (uint32_t)images;
}

/* The device as if `candidate` had been asked for. VGG_CONV_AUTO stands for the kernel
 * of few input channels. */
static struct vgg__cpu device_by(const struct vgg__cpu *cpu, uint32_t candidate)
{
    return (struct vgg__cpu){.machine = cpu->machine,
                             .gemm = cpu->gemm,
                             .conv = candidate,
                             .workers = cpu->workers};
}

static bool is_candidate(const vgg_stage *s, uint32_t candidate)
{
    return candidate != VGG_CONV_AUTO || s->in.c <= VGG__FIRST_CHANNELS;
}

/* The most that a candidate needs of each kind of memory. */
static struct vgg__stage_need most_needed(const struct vgg__cpu *cpu,
                                          const struct trial *t)
{
    struct vgg__stage_need most = {0};
    for (uint32_t c = VGG_CONV_AUTO; c <= VGG_CONV_WINOGRAD4; c++) {
        const struct vgg__cpu device = device_by(cpu, c);
        const struct vgg__stage_env env = {.machine = &device.machine,
                                           .stage = t->stage,
                                           .batch = t->images,
                                           .mode = t->mode,
                                           .wants_dx = has_gradients(t),
                                           .wants_dparams = has_gradients(t)};
        struct vgg__stage_need need = {0};
        vgg__cpu_conv.measure(&env, &need);
        most.prepared = vgg__size_max(most.prepared, need.prepared);
        most.saved = vgg__size_max(most.saved, need.saved);
        most.forward_scratch =
            vgg__size_max(most.forward_scratch, need.forward_scratch);
        most.backward_scratch =
            vgg__size_max(most.backward_scratch, need.backward_scratch);
    }
    return most;
}

/* Neither zeros, which a processor may be quicker with, nor subnormals. */
static void fill(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(i * 2654435761u >> 7 & 255) / 1024 + 1.0f / 64;
}

/* An allocation whose refusal is nobody's error. */
static void *try_alloc(const vgg_host *host, size_t bytes)
{
    char text[VGG_ERROR_SIZE];
    snprintf(text, sizeof(text), "%s", vgg_last_error());
    void *memory = bytes < SIZE_MAX / 2 ? host->alloc(host->ctx, bytes) : NULL;
    if (!memory) host->fail(VGG_ENOMEM, "%s", text);
    return memory;
}

/* False: there is no memory. */
static bool take(const struct vgg__cpu *cpu, struct trial *t)
{
    const vgg_stage *s = t->stage;
    const struct vgg__stage_need need = most_needed(cpu, t);
    const bool back = has_gradients(t);
    const size_t x = vgg__size_mul(t->images, 4 * vgg__extent_count(s->in));
    const size_t y = vgg__size_mul(t->images, 4 * vgg__extent_count(s->out));
    const size_t w = vgg__size_mul(36 * (size_t)s->in.c, s->mid.c);
    const struct {
        void **to;
        size_t bytes;
        bool wanted, drawn;
    } parts[] = {{&t->x, x, true, true},
                 {&t->y, y, true, true},
                 {&t->dy, y, back, true},
                 {&t->dx, x, back, true},
                 {&t->weight, w, true, true},
                 {&t->dweight, w, back, true},
                 {&t->bias, 4 * (size_t)s->mid.c, true, true},
                 {&t->dbias, 4 * (size_t)s->mid.c, back, true},
                 {&t->prepared, need.prepared, true, false},
                 {&t->saved, need.saved, need.saved > 0, false},
                 {&t->scratch[0], need.forward_scratch, true, false},
                 {&t->scratch[1], need.backward_scratch, back, false}};
    enum { PARTS = sizeof(parts) / sizeof(parts[0]) };
    size_t total = 0;
    for (size_t i = 0; i < PARTS; i++)
        if (parts[i].wanted)
            total = vgg__size_add(total, vgg__size_add(parts[i].bytes, 64) / 64 * 64);
    unsigned char *at = t->block = try_alloc(&cpu->machine.host, total);
    if (!at) return false;
    for (size_t i = 0; i < PARTS; i++) {
        if (!parts[i].wanted) continue;
        *parts[i].to = at;
        if (parts[i].drawn) fill((float *)at, parts[i].bytes / sizeof(float));
        at += (parts[i].bytes + 64) / 64 * 64;
    }
    return true;
}

static struct vgg__stage_args args_of(const struct trial *t,
                                      const struct vgg__cpu *device, uint32_t mode)
{
    return (struct vgg__stage_args){.machine = &device->machine,
                                    .stage = t->stage,
                                    .count = t->images,
                                    .batch = t->images,
                                    .mode = mode,
                                    .x = t->x,
                                    .y = t->y,
                                    .dy = t->dy,
                                    .prepared = t->prepared,
                                    .saved = t->saved,
                                    .scratch = t->scratch[0],
                                    .weight = t->weight,
                                    .bias = t->bias};
}

typedef void stage_fn(const struct vgg__stage_args *args);

/* The least of some runs. */
static double seconds_of(stage_fn *call, const struct vgg__stage_args *args)
{
    double least = DBL_MAX;
    for (int i = 0; i <= RUNS; i++) {
        const double begin = vgg__seconds();
        call(args);
        const double seconds = vgg__seconds() - begin;
        if (i > 0 && seconds < least) least = seconds;
    }
    return least;
}

/* Seconds of a batch by the device's algorithms. Training prepares the filters for each
 * of them, inference once and for all. */
static void time_products(const struct trial *t, const struct vgg__cpu *device,
                          double seconds[PRODUCTS])
{
    const double batches = (double)t->batch / t->images;
    struct vgg__stage_args args = args_of(t, device, VGG_MODE_INFER);
    if (!has_gradients(t)) {
        vgg__cpu_conv.prepare(&args);
        seconds[FORWARD] = batches * seconds_of(vgg__cpu_conv.forward, &args);
        return;
    }
    const double filters = seconds_of(vgg__cpu_conv.prepare, &args);
    args.mode = t->mode;
    const double both = seconds_of(vgg__cpu_conv.prepare, &args);
    seconds[FORWARD] = filters + batches * seconds_of(vgg__cpu_conv.forward, &args);
    args.scratch = t->scratch[1];
    args.dx = t->dx;
    seconds[DATA] = batches * seconds_of(vgg__cpu_conv.backward, &args);
    args.dx = NULL;
    args.dweight = t->dweight;
    args.dbias = t->dbias;
    seconds[WEIGHTS] = batches * seconds_of(vgg__cpu_conv.backward, &args);
    seconds[DATA] += both > filters ? both - filters : 0;
}

static enum vgg__conv_algorithm *part_of(struct vgg__conv_choice *choice, int product)
{
    return product == FORWARD ? &choice->forward
           : product == DATA  ? &choice->data
                              : &choice->weights;
}

static struct vgg__conv_choice fastest(const struct vgg__cpu *cpu,
                                       const struct trial *t)
{
    struct vgg__conv_choice by_shape = vgg__conv_choose(cpu, t->stage);
    struct vgg__conv_choice best = by_shape;
    double least[PRODUCTS] = {DBL_MAX, DBL_MAX, DBL_MAX};
    for (uint32_t c = VGG_CONV_AUTO; c <= VGG_CONV_WINOGRAD4; c++) {
        if (!is_candidate(t->stage, c)) continue;
        const struct vgg__cpu device = device_by(cpu, c);
        struct vgg__conv_choice by = vgg__conv_choose(&device, t->stage);
        double seconds[PRODUCTS];
        time_products(t, &device, seconds);
        for (int p = 0; p < (has_gradients(t) ? PRODUCTS : DATA); p++) {
            const enum vgg__conv_algorithm algorithm = *part_of(&by, p);
            if (cpu->seconds) seconds[p] = cpu->seconds(t->stage, algorithm, p);
            if (algorithm == *part_of(&by_shape, p)) seconds[p] *= WORTH;
            if (seconds[p] >= least[p]) continue;
            least[p] = seconds[p];
            *part_of(&best, p) = algorithm;
        }
    }
    return best;
}

/* ---- The search -------------------------------------------------------------- */

/* With dx and without. */
static void name(const struct vgg__cpu *cpu, struct vgg__conv_found *f)
{
    static const char *const names[] = {[VGG__COLUMNS] = "columns",
                                        [VGG__FIRST] = "direct",
                                        [VGG__WINOGRAD2] = "F(2x2)",
                                        [VGG__WINOGRAD4] = "F(4x4)"};
    const struct vgg__conv_choice *c = &f->choice;
    for (int dx = 0; dx < 2; dx++) {
        const bool one = c->weights == c->forward && (!dx || c->data == c->forward);
        if (!f->back || one)
            snprintf(f->text[dx], sizeof(f->text[dx]), "%s",
                     vgg__conv_name(cpu, c->forward));
        else
            snprintf(f->text[dx], sizeof(f->text[dx]), "%s/%s/%s", names[c->forward],
                     dx ? names[c->data] : "-", names[c->weights]);
    }
}

/* NULL: no memory. A shape that there is no room to measure keeps the choice by its
 * shape, for good: programs that were compiled with it rely on it. */
static struct vgg__conv_found *search_one(const struct vgg__cpu *cpu,
                                          const vgg_program_desc *desc,
                                          const vgg_stage *stage)
{
    const vgg_host *host = &cpu->machine.host;
    struct vgg__conv_found *f = host->alloc(host->ctx, sizeof(*f));
    if (!f) return NULL;
    struct trial t = {.stage = stage,
                      .images = images_of(stage, desc->batch),
                      .batch = desc->batch,
                      .mode = desc->mode};
    *f = (struct vgg__conv_found){.next = cpu->found,
                                  .shape = *stage,
                                  .batch = desc->batch,
                                  .back = has_gradients(&t),
                                  .choice = vgg__conv_choose(cpu, stage)};
    f->shape.name = NULL; /* the program's */
    f->measured = take(cpu, &t);
    if (f->measured) {
        f->choice = fastest(cpu, &t);
        host->release(t.block);
    }
    name(cpu, f);
    return f;
}

/* The oldest first, up to the one `before` them. */
static void tell(const vgg_host *host, const struct vgg__conv_found *f,
                 const struct vgg__conv_found *before)
{
    if (f == before) return;
    tell(host, f->next, before);
    const vgg_stage *s = &f->shape;
    if (f->measured)
        host->log(host->ctx, VGG_LOG_INFO,
                  "cpu: convolution %ux%ux%u to %u, batch %u%s: %s", s->in.c, s->in.h,
                  s->in.w, s->mid.c, f->batch, f->back ? " and gradients" : "",
                  f->text[f->back]);
    else
        host->log(host->ctx, VGG_LOG_WARNING,
                  "cpu: no memory to measure a convolution of %ux%ux%u, its algorithm "
                  "is chosen by its shape",
                  s->in.c, s->in.h, s->in.w);
}

vgg_status vgg__conv_search(struct vgg__cpu *cpu, const vgg_program_desc *desc)
{
    if (cpu->conv != VGG_CONV_MEASURED || desc->precision != VGG_FP32) return VGG_OK;
    if (desc->deterministic)
        return cpu->machine.host.fail(
            VGG_EUNSUPPORTED,
            "a deterministic plan chooses no algorithm by timing, and the context has "
            "conv measured: expected another conv, such as auto");
    vgg_status status = VGG_OK;
    pthread_mutex_lock(&cpu->searching);
    const struct vgg__conv_found *const before = cpu->found;
    for (uint32_t i = 0; i < desc->stage_count && status == VGG_OK; i++) {
        const vgg_stage *s = &desc->stages[i];
        if (s->kind != VGG_STAGE_CONV || s->kernel != 3 ||
            vgg__conv_find(cpu, s, desc->batch, desc->mode != VGG_MODE_INFER))
            continue;
        const struct vgg__conv_found *f = search_one(cpu, desc, s);
        if (f)
            atomic_store_explicit(&cpu->found, f, memory_order_release);
        else
            status = VGG_ENOMEM;
    }
    const struct vgg__conv_found *const last = cpu->found;
    pthread_mutex_unlock(&cpu->searching);
    tell(&cpu->machine.host, last, before); /* the logger may come back */
    return status;
}
