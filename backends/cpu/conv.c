/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution with bias, and ReLU and 2x2 pooling if they are fused: the choice of the
 * algorithm, a function of the stage's shape alone.
 *
 * Prepared are the forward's filters, then those of the input's gradient. */
#include "cpu/conv.h"

/* How a stage is computed. */
struct choice {
    uint32_t forward, data, weights; /* m of Winograd; 0: columns */
};

static struct choice choose(const vgg_stage *s)
{
    struct choice c = {0, 0, 0};
    if (s->kernel == 3 && s->in.c >= 8 && s->mid.c >= 8 && s->mid.h > 2)
        c.forward = c.data = c.weights = 4;
    return c;
}

static size_t packed(const struct vgg__cpu *cpu, const vgg_stage *s, uint32_t m,
                     bool back)
{
    return m ? vgg__winograd_packed(cpu, s, m, back) : vgg__columns_packed(cpu, s, back);
}

static void prepare(const struct vgg__stage_args *args)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(args->machine);
    const struct choice c = choose(args->stage);
    float *to = args->prepared;
    for (int back = 0; back < (args->mode == VGG_MODE_INFER ? 1 : 2); back++) {
        const uint32_t m = back ? c.data : c.forward;
        if (m)
            vgg__winograd_prepare(args, m, back, to);
        else
            vgg__columns_prepare(args, back, to);
        to += packed(cpu, args->stage, m, back);
    }
}

static void forward(const struct vgg__stage_args *args)
{
    const struct choice c = choose(args->stage);
    if (c.forward)
        vgg__winograd_pass(args, c.forward, false, args->prepared);
    else
        vgg__columns_forward(args, args->prepared);
}

static void backward(const struct vgg__stage_args *args)
{
    const struct choice c = choose(args->stage);
    const float *turned = (const float *)args->prepared +
                          packed(vgg__cpu_of(args->machine), args->stage, c.forward,
                                 false);
    struct vgg__stage_args rest = *args; /* for the columns */
    if (c.weights) {
        if (args->dweight || args->dbias) vgg__winograd_weights(args, c.weights);
        rest.dweight = rest.dbias = NULL;
    }
    if (c.data) {
        if (args->dx) vgg__winograd_pass(args, c.data, true, turned);
        rest.dx = NULL;
    }
    if (rest.dweight || rest.dbias || rest.dx) vgg__columns_backward(&rest, turned);
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t backward_scratch(const struct vgg__stage_env *env, const struct choice *c)
{
    size_t bytes = 0;
    if (!c->weights || !c->data) bytes = vgg__columns_backward_scratch(env);
    if (c->weights)
        bytes = max_size(bytes, vgg__winograd_backward_scratch(env, c->weights));
    if (c->data) bytes = max_size(bytes, vgg__winograd_scratch(env, c->data, true));
    return bytes;
}

static const char *name_of(const struct vgg__cpu *cpu, const struct choice *c)
{
    if (c->forward == 4) return "Winograd F(4x4, 3x3)";
    if (c->forward == 2) return "Winograd F(2x2, 3x3)";
    return cpu->gemm.blas ? "columns x weights, OpenBLAS" : "columns x weights";
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(env->machine);
    const vgg_stage *s = env->stage;
    const struct choice c = choose(s);
    const bool back = env->mode != VGG_MODE_INFER;
    need->algorithm = name_of(cpu, &c);
    need->reads_x = env->wants_dparams;
    need->reads_y = s->relu != 0 && s->pool == VGG_NO_POOL;
    need->prepared = sizeof(float) * packed(cpu, s, c.forward, false);
    if (back) need->prepared += sizeof(float) * packed(cpu, s, c.data, true);
    if (back && s->pool != VGG_NO_POOL)
        need->saved = vgg__size_mul(vgg__extent_count(s->out), env->batch);
    need->forward_scratch = c.forward ? vgg__winograd_scratch(env, c.forward, false)
                                      : vgg__columns_forward_scratch(env);
    if (back) need->backward_scratch = backward_scratch(env, &c);
}

static bool supports(const struct vgg__machine *machine, const vgg_stage *stage,
                     const char **why)
{
    *why = "batch normalisation is a stage of its own here";
    return !stage->batch_norm;
}

const struct vgg__stage_impl vgg__cpu_conv = {.supports = supports,
                                              .measure = measure,
                                              .prepare = prepare,
                                              .forward = forward,
                                              .backward = backward};
