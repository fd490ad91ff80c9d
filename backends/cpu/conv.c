/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution with bias, and ReLU and 2x2 pooling if they are fused, by the algorithms
 * that conv_choose.c names.
 *
 * Prepared are the forward's filters, then those of the input's gradient. */
#include "cpu/conv.h"

/* ---- Algorithms ------------------------------------------------------------ */

/* m of F(m x m, 3 x 3). */
static uint32_t tile_of(enum vgg__conv_algorithm algorithm)
{
    return algorithm == VGG__WINOGRAD2 ? 2 : 4;
}

static struct vgg__conv_choice choice_of(const struct vgg__stage_args *args)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(args->machine);
    const struct vgg__conv_found *found =
        vgg__conv_find(cpu, args->stage, args->batch, args->mode != VGG_MODE_INFER);
    return found ? found->choice : vgg__conv_choose(cpu, args->stage);
}

/* Floats of the filters of the forward, or of the input's gradient. */
static size_t packed(const struct vgg__cpu *cpu, const vgg_stage *s,
                     enum vgg__conv_algorithm algorithm, bool back)
{
    switch (algorithm) {
    case VGG__COLUMNS:
        return vgg__columns_packed(cpu, s, back);
    case VGG__FIRST:
        return vgg__cpu_floats(vgg__first_packed(cpu, s));
    default:
        return vgg__winograd_packed(cpu, s, tile_of(algorithm), back);
    }
}

static void prepare_one(const struct vgg__stage_args *args,
                        enum vgg__conv_algorithm algorithm, bool back, float *to)
{
    switch (algorithm) {
    case VGG__COLUMNS:
        vgg__columns_prepare(args, back, to);
        break;
    case VGG__FIRST:
        vgg__first_prepare(args, to);
        break;
    default:
        vgg__winograd_prepare(args, tile_of(algorithm), back, to);
        break;
    }
}

/* ---- The stage ------------------------------------------------------------- */

static void prepare(const struct vgg__stage_args *args)
{
    const struct vgg__conv_choice c = choice_of(args);
    float *to = args->prepared;
    prepare_one(args, c.forward, false, to);
    if (args->mode == VGG_MODE_INFER) return;
    to += packed(vgg__cpu_of(args->machine), args->stage, c.forward, false);
    prepare_one(args, c.data, true, to);
}

static void forward(const struct vgg__stage_args *args)
{
    const struct vgg__conv_choice c = choice_of(args);
    switch (c.forward) {
    case VGG__COLUMNS:
        vgg__columns_forward(args, args->prepared);
        break;
    case VGG__FIRST:
        vgg__first_forward(args, args->prepared);
        break;
    default:
        vgg__winograd_pass(args, tile_of(c.forward), false, args->prepared);
        break;
    }
}

static void backward(const struct vgg__stage_args *args)
{
    const struct vgg__conv_choice c = choice_of(args);
    const float *turned =
        (const float *)args->prepared +
        packed(vgg__cpu_of(args->machine), args->stage, c.forward, false);
    struct vgg__stage_args rest = *args; /* what is left to the columns */
    if (c.weights != VGG__COLUMNS) {
        if ((args->dweight || args->dbias) && c.weights == VGG__FIRST)
            vgg__first_weights(args);
        else if (args->dweight || args->dbias)
            vgg__winograd_weights(args, tile_of(c.weights));
        rest.dweight = rest.dbias = NULL;
    }
    if (c.data != VGG__COLUMNS) {
        if (args->dx) vgg__winograd_pass(args, tile_of(c.data), true, turned);
        rest.dx = NULL;
    }
    if (rest.dweight || rest.dbias || rest.dx) vgg__columns_backward(&rest, turned);
}

/* ---- What it needs --------------------------------------------------------- */

static size_t forward_scratch(const struct vgg__stage_env *env,
                              enum vgg__conv_algorithm algorithm)
{
    switch (algorithm) {
    case VGG__COLUMNS:
        return vgg__columns_forward_scratch(env);
    case VGG__FIRST:
        return vgg__first_scratch(env, false);
    default:
        return vgg__winograd_scratch(env, tile_of(algorithm), false);
    }
}

static size_t backward_scratch(const struct vgg__stage_env *env,
                               const struct vgg__conv_choice *c)
{
    size_t bytes = 0;
    const bool data = env->wants_dx, weights = env->wants_dparams;
    if ((c->weights == VGG__COLUMNS && weights) || (c->data == VGG__COLUMNS && data))
        bytes = vgg__columns_backward_scratch(env);
    if (c->weights == VGG__FIRST && weights)
        bytes = vgg__size_max(bytes, vgg__first_scratch(env, true));
    else if (c->weights != VGG__COLUMNS && weights)
        bytes = vgg__size_max(bytes,
                              vgg__winograd_backward_scratch(env, tile_of(c->weights)));
    if (c->data != VGG__COLUMNS && data)
        bytes =
            vgg__size_max(bytes, vgg__winograd_scratch(env, tile_of(c->data), true));
    return bytes;
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(env->machine);
    const vgg_stage *s = env->stage;
    const bool back = env->mode != VGG_MODE_INFER;
    const struct vgg__conv_found *found = vgg__conv_find(cpu, s, env->batch, back);
    const struct vgg__conv_choice c = found ? found->choice : vgg__conv_choose(cpu, s);
    need->algorithm =
        found ? found->text[env->wants_dx] : vgg__conv_name(cpu, c.forward);
    need->reads_x = env->wants_dparams;
    need->reads_y = s->relu != 0 && s->pool == VGG_NO_POOL;
    need->prepared = sizeof(float) * packed(cpu, s, c.forward, false);
    if (back) need->prepared += sizeof(float) * packed(cpu, s, c.data, true);
    if (back && s->pool != VGG_NO_POOL)
        need->saved = vgg__size_mul(vgg__extent_count(s->out), env->batch);
    need->forward_scratch = forward_scratch(env, c.forward);
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
