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
#include "cpu/first.h"

#define RUNS        3                    /* that are timed; one more comes before */
#define TRIAL_MACS  ((double)(1u << 30)) /* of all images of a run: about 5 ms */
#define TRIAL_BYTES ((size_t)64 << 20)   /* of all images' input and output */

enum { FORWARD, DATA, WEIGHTS, PRODUCTS };

const struct vgg__conv_found *vgg__conv_find(const struct vgg__cpu *cpu,
                                             const vgg_stage *stage, uint32_t batch,
                                             bool back)
{
    const struct vgg__conv_found *f =
        atomic_load_explicit(&cpu->found, memory_order_acquire);
    for (; f; f = f->next) {
        const vgg_stage *s = &f->stage;
        if (f->batch == batch && f->back == back && s->kernel == stage->kernel &&
            s->relu == stage->relu && s->pool == stage->pool &&
            s->mid.c == stage->mid.c && s->in.c == stage->in.c &&
            s->in.h == stage->in.h && s->in.w == stage->in.w)
            break;
    }
    return f;
}

/* ---- A trial ----------------------------------------------------------------- */

/* A stage's operands; those of one algorithm are at least as large as any needs. */
struct trial {
    struct vgg__stage_env env;
    struct vgg__stage_args args;
    void *scratch[2]; /* forward, backward */
    float *dx, *dweight, *dbias;
};

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

/* How the device would be if `candidate` were forced. AUTO stands for the kernel of
 * few input channels. */
static struct vgg__cpu device_by(const struct vgg__cpu *cpu, uint32_t candidate)
{
    struct vgg__cpu other = *cpu;
    other.conv = candidate;
    atomic_init(&other.found, NULL);
    return other;
}

static bool is_candidate(const vgg_stage *s, uint32_t candidate)
{
    return candidate != VGG_CONV_AUTO || s->in.c <= VGG__FIRST_CHANNELS;
}

/* What all candidates need at most. */
static struct vgg__stage_need most_needed(const struct vgg__cpu *cpu,
                                          const struct vgg__stage_env *env)
{
    struct vgg__stage_need most = {0};
    for (uint32_t c = VGG_CONV_AUTO; c <= VGG_CONV_WINOGRAD4; c++) {
        const struct vgg__cpu device = device_by(cpu, c);
        struct vgg__stage_env trial = *env;
        struct vgg__stage_need need = {0};
        trial.machine = &device.machine;
        vgg__cpu_conv.measure(&trial, &need);
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

/* Parts of one block; NULL: there is no room. The caller releases *block. */
static bool take(const struct vgg__cpu *cpu, struct trial *t, void **block)
{
    const vgg_stage *s = t->env.stage;
    const struct vgg__stage_need need = most_needed(cpu, &t->env);
    const bool back = t->env.mode != VGG_MODE_INFER;
    const size_t n = t->env.batch, w = 9 * (size_t)s->in.c * s->mid.c;
    const size_t x = vgg__size_mul(n, vgg__extent_count(s->in));
    const size_t y = vgg__size_mul(n, vgg__extent_count(s->out));
    const struct {
        void **to;
        size_t bytes;
        bool wanted, drawn;
    } parts[] = {{(void **)&t->args.x, vgg__size_mul(4, x), true, true},
                 {&t->args.y, vgg__size_mul(4, y), true, true},
                 {&t->args.dy, vgg__size_mul(4, y), back, true},
                 {(void **)&t->dx, vgg__size_mul(4, x), back, false},
                 {(void **)&t->args.weight, vgg__size_mul(4, w), true, true},
                 {(void **)&t->dweight, vgg__size_mul(4, w), back, true},
                 {(void **)&t->args.bias, 4 * (size_t)s->mid.c, true, true},
                 {(void **)&t->dbias, 4 * (size_t)s->mid.c, back, true},
                 {&t->args.prepared, need.prepared, true, false},
                 {&t->args.saved, need.saved, need.saved > 0, false},
                 {&t->scratch[0], need.forward_scratch, true, false},
                 {&t->scratch[1], need.backward_scratch, back, false}};
    const size_t count = sizeof(parts) / sizeof(parts[0]);
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        if (parts[i].wanted)
            total = vgg__size_add(total, vgg__size_add(parts[i].bytes, 64) / 64 * 64);
    const struct vgg__machine *m = &cpu->machine;
    unsigned char *at = total < SIZE_MAX / 2 ? m->host.alloc(m->host.ctx, total) : NULL;
    *block = at;
    if (!at) return false;
    for (size_t i = 0; i < count; i++) {
        if (!parts[i].wanted) continue;
        *parts[i].to = at;
        if (parts[i].drawn) fill((float *)at, parts[i].bytes / sizeof(float));
        at += (parts[i].bytes + 64) / 64 * 64;
    }
    return true;
}

/* Seconds of a product by one algorithm, the least of some runs. */
static double time_of(const struct trial *t, const struct vgg__cpu *device, int product)
{
    struct vgg__stage_args args = t->args;
    args.machine = &device->machine;
    args.scratch = t->scratch[product != FORWARD];
    args.dx = product == DATA ? t->dx : NULL;
    args.dweight = product == WEIGHTS ? t->dweight : NULL;
    args.dbias = product == WEIGHTS ? t->dbias : NULL;
    double least = DBL_MAX;
    for (int i = 0; i <= RUNS; i++) {
        const double begin = vgg__seconds();
        if (product == FORWARD)
            vgg__cpu_conv.forward(&args);
        else
            vgg__cpu_conv.backward(&args);
        const double seconds = vgg__seconds() - begin;
        if (i > 0 && seconds < least) least = seconds;
    }
    return least;
}

static struct vgg__conv_choice fastest(const struct vgg__cpu *cpu, struct trial *t)
{
    const bool back = t->env.mode != VGG_MODE_INFER;
    struct vgg__conv_choice best = vgg__conv_choose(cpu, t->env.stage);
    double least[PRODUCTS] = {DBL_MAX, DBL_MAX, DBL_MAX};
    enum vgg__conv_algorithm *const kept[] = {&best.forward, &best.data, &best.weights};
    for (uint32_t c = VGG_CONV_AUTO; c <= VGG_CONV_WINOGRAD4; c++) {
        if (!is_candidate(t->env.stage, c)) continue;
        const struct vgg__cpu device = device_by(cpu, c);
        const struct vgg__conv_choice choice = vgg__conv_choose(&device, t->env.stage);
        const enum vgg__conv_algorithm by[] = {choice.forward, choice.data,
                                               choice.weights};
        t->args.machine = &device.machine;
        t->args.scratch = t->scratch[0];
        vgg__cpu_conv.prepare(&t->args);
        for (int p = FORWARD; p < (back ? PRODUCTS : DATA); p++) {
            const double seconds = time_of(t, &device, p);
            if (seconds >= least[p]) continue;
            least[p] = seconds;
            *kept[p] = by[p];
        }
    }
    return best;
}

/* ---- The search -------------------------------------------------------------- */

static void name(const struct vgg__cpu *cpu, struct vgg__conv_found *f)
{
    const struct vgg__conv_choice *c = &f->choice;
    if (!f->back || (c->data == c->forward && c->weights == c->forward))
        snprintf(f->text, sizeof(f->text), "%s", vgg__conv_name(cpu, c->forward));
    else
        snprintf(f->text, sizeof(f->text), "%s; dx %s; dw %s",
                 vgg__conv_name(cpu, c->forward), vgg__conv_name(cpu, c->data),
                 vgg__conv_name(cpu, c->weights));
}

/* A shape that there is no room to measure keeps the choice by its shape. */
static vgg_status search_one(struct vgg__cpu *cpu, const vgg_program_desc *desc,
                             const vgg_stage *stage)
{
    const vgg_host *host = &cpu->machine.host;
    const bool back = desc->mode != VGG_MODE_INFER;
    struct vgg__conv_found *f = host->alloc(host->ctx, sizeof(*f));
    if (!f) return VGG_ENOMEM;
    *f = (struct vgg__conv_found){.next = cpu->found,
                                  .stage = *stage,
                                  .batch = desc->batch,
                                  .back = back,
                                  .choice = vgg__conv_choose(cpu, stage)};
    struct trial t = {0};
    void *block;
    const uint32_t images = images_of(stage, desc->batch);
    t.env = (struct vgg__stage_env){.stage = stage,
                                    .batch = images,
                                    .mode = desc->mode,
                                    .precision = desc->precision,
                                    .wants_dx = back,
                                    .wants_dparams = back};
    t.args = (struct vgg__stage_args){
        .stage = stage, .count = images, .batch = images, .mode = desc->mode};
    if (take(cpu, &t, &block)) {
        f->choice = fastest(cpu, &t);
        host->release(block);
    } else {
        host->log(host->ctx, VGG_LOG_WARNING,
                  "cpu: no memory to measure a convolution of %ux%ux%u, its algorithm "
                  "is chosen by its shape",
                  stage->in.c, stage->in.h, stage->in.w);
    }
    name(cpu, f);
    host->log(host->ctx, VGG_LOG_DEBUG, "cpu: convolution %ux%ux%u to %u: %s",
              stage->in.c, stage->in.h, stage->in.w, stage->mid.c, f->text);
    atomic_store_explicit(&cpu->found, f, memory_order_release);
    return VGG_OK;
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
    for (uint32_t i = 0; i < desc->stage_count && status == VGG_OK; i++) {
        const vgg_stage *s = &desc->stages[i];
        if (s->kind != VGG_STAGE_CONV || s->kernel != 3 ||
            vgg__conv_find(cpu, s, desc->batch, desc->mode != VGG_MODE_INFER))
            continue;
        status = search_one(cpu, desc, s);
    }
    pthread_mutex_unlock(&cpu->searching);
    return status;
}

void vgg__conv_forget(struct vgg__cpu *cpu)
{
    const struct vgg__conv_found *f = cpu->found;
    while (f) {
        const struct vgg__conv_found *next = f->next;
        cpu->machine.host.release((void *)f);
        f = next;
    }
    cpu->found = NULL;
}
