/* SPDX-License-Identifier: Apache-2.0 */
/* From a line of text to stages and parameters; see net.h. */
#include "net.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t net_extent(vgg_extent e)
{
    return (size_t)e.c * e.h * e.w;
}

static vgg_extent last_extent(const struct net *net)
{
    return net->stages[net->stage_count - 1].out;
}

/* A stage that keeps the extents of what comes before; `in` for the first. */
static vgg_stage *add_stage(struct net *net, uint32_t kind, vgg_extent in)
{
    ck_assert_uint_lt(net->stage_count, NET_STAGES);
    vgg_stage *stage = &net->stages[net->stage_count++];
    *stage = (vgg_stage){.kind = kind, .in = in, .mid = in, .out = in, .tap = -1};
    stage->weight = stage->bias = stage->gamma = stage->beta = -1;
    stage->mean = stage->var = -1;
    if (net->stage_count > 1) stage->input_relu = stage[-1].kind == VGG_STAGE_RELU;
    return stage;
}

static int32_t add_param(struct net *net, vgg_shape shape, bool buffer)
{
    ck_assert_uint_lt(net->param_count, NET_PARAMS);
    vgg_param_desc *param = &net->params[net->param_count];
    *param = (vgg_param_desc){.shape = shape,
                              .count = 1,
                              .linear = shape.rank == 2,
                              .buffer = buffer,
                              .trainable = !buffer};
    for (uint32_t i = 0; i < shape.rank; i++) param->count *= shape.dim[i];
    if (shape.rank > 1)
        net->fan[net->param_count] = (uint32_t)(param->count / shape.dim[0]);
    return (int32_t)net->param_count++;
}

static int32_t add_vector(struct net *net, uint32_t count, bool buffer)
{
    return add_param(net, (vgg_shape){1, {count}}, buffer);
}

static void add_conv(struct net *net, vgg_extent in, uint32_t kernel, uint32_t channels)
{
    vgg_stage *stage = add_stage(net, VGG_STAGE_CONV, in);
    stage->kernel = kernel;
    stage->mid.c = stage->out.c = channels;
    stage->weight =
        add_param(net, (vgg_shape){4, {channels, in.c, kernel, kernel}}, false);
    stage->bias = add_vector(net, channels, false);
    stage->name = "conv";
}

static void add_batch_norm(struct net *net, vgg_extent in)
{
    vgg_stage *stage = add_stage(net, VGG_STAGE_BATCH_NORM, in);
    stage->gamma = add_vector(net, in.c, false);
    stage->beta = add_vector(net, in.c, false);
    stage->mean = add_vector(net, in.c, true);
    stage->var = add_vector(net, in.c, true);
    stage->epsilon = 1e-5;
    stage->momentum = 0.1;
    stage->name = "bn";
}

static void add_pool(struct net *net, vgg_extent in, uint32_t kind)
{
    vgg_stage *stage = add_stage(net, VGG_STAGE_POOL, in);
    stage->pool = kind;
    stage->out.h = stage->mid.h = in.h / 2;
    stage->out.w = stage->mid.w = in.w / 2;
    stage->name = "pool";
}

static void add_linear(struct net *net, vgg_extent in, uint32_t outs)
{
    vgg_stage *stage = add_stage(net, VGG_STAGE_LINEAR, in);
    const uint32_t ins = (uint32_t)net_extent(in);
    stage->flattened = in.h * in.w > 1;
    stage->out = stage->mid = (vgg_extent){outs, 1, 1};
    stage->weight = add_param(net, (vgg_shape){2, {outs, ins}}, false);
    stage->bias = add_vector(net, outs, false);
    stage->name = "fc";
}

static void add_word(struct net *net, const char *word, vgg_extent in)
{
    uint32_t a, b;
    if (sscanf(word, "conv%u:%u", &a, &b) == 2) {
        add_conv(net, in, a, b);
    } else if (sscanf(word, "linear:%u", &a) == 1) {
        add_linear(net, in, a);
    } else if (sscanf(word, "adaptive:%ux%u", &a, &b) == 2) {
        vgg_stage *stage = add_stage(net, VGG_STAGE_ADAPTIVE_POOL, in);
        stage->out = stage->mid = (vgg_extent){in.c, a, b};
        stage->name = "adaptive";
    } else if (sscanf(word, "dropout:0.%u", &a) == 1) {
        vgg_stage *stage = add_stage(net, VGG_STAGE_DROPOUT, in);
        stage->dropout = strtof(word + strlen("dropout:"), NULL);
        stage->dropout_layer = net->stage_count;
        stage->name = "dropout";
    } else if (strcmp(word, "max") == 0 || strcmp(word, "avg") == 0) {
        add_pool(net, in, word[0] == 'm' ? VGG_MAX_POOL : VGG_AVERAGE_POOL);
    } else if (strcmp(word, "bn") == 0) {
        add_batch_norm(net, in);
    } else if (strcmp(word, "flatten") == 0) {
        vgg_stage *stage = add_stage(net, VGG_STAGE_FLATTEN, in);
        stage->out = stage->mid = (vgg_extent){(uint32_t)net_extent(in), 1, 1};
        stage->name = "flatten";
    } else if (strcmp(word, "relu") == 0) {
        add_stage(net, VGG_STAGE_RELU, in)->name = "relu";
    } else if (strcmp(word, "tap") == 0) {
        ck_assert_uint_lt(net->tap_count, NET_TAPS);
        vgg_stage *stage = add_stage(net, VGG_STAGE_TAP, in);
        stage->tap = (int32_t)net->tap_count++;
        stage->name = "tap";
    } else if (strcmp(word, "loss") == 0) {
        add_stage(net, VGG_STAGE_LOSS, in)->name = "loss";
    } else {
        ck_abort_msg("not a stage: \"%s\"", word);
    }
}

/* A pooled ReLU is as good as a ReLU to who masks by it. */
static void mark_input_relu(struct net *net)
{
    for (uint32_t i = 1; i < net->stage_count; i++) {
        const vgg_stage *before = &net->stages[i - 1];
        const bool pooled = before->kind == VGG_STAGE_POOL && before->input_relu &&
                            before->pool == VGG_MAX_POOL;
        net->stages[i].input_relu = before->kind == VGG_STAGE_RELU || pooled;
    }
}

void net_parse(struct net *net, const char *text)
{
    char copy[512], *rest = NULL;
    ck_assert_uint_lt(strlen(text), sizeof copy);
    strcpy(copy, text);
    *net = (struct net){0};
    vgg_extent in = {0, 0, 0};
    const char *word = strtok_r(copy, " ", &rest);
    ck_assert_msg(sscanf(word, "%ux%ux%u", &in.c, &in.h, &in.w) == 3, "bad: %s", text);
    for (word = strtok_r(NULL, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        add_word(net, word, in);
        in = last_extent(net);
    }
    mark_input_relu(net);
}

/* Can `next` go into `stage`? The same rules as lib/plan's. */
static bool fuse_stage(uint32_t fusions, vgg_stage *stage, const vgg_stage *next)
{
    const bool is_conv = stage->kind == VGG_STAGE_CONV;
    const bool is_linear = stage->kind == VGG_STAGE_LINEAR;
    const bool bare = !stage->relu && stage->pool == VGG_NO_POOL && stage->dropout == 0;
    if (next->kind == VGG_STAGE_RELU && (fusions & VGG_FUSE_RELU) && bare &&
        (is_conv || is_linear || stage->kind == VGG_STAGE_BATCH_NORM)) {
        stage->relu = 1;
    } else if (next->kind == VGG_STAGE_POOL && (fusions & VGG_FUSE_POOL) && is_conv &&
               stage->relu && stage->pool == VGG_NO_POOL) {
        stage->pool = next->pool;
    } else if (next->kind == VGG_STAGE_BATCH_NORM && (fusions & VGG_FUSE_BATCH_NORM) &&
               is_conv && bare && !stage->batch_norm) {
        stage->batch_norm = 1;
        stage->gamma = next->gamma;
        stage->beta = next->beta;
        stage->mean = next->mean;
        stage->var = next->var;
        stage->epsilon = next->epsilon;
        stage->momentum = next->momentum;
    } else if (next->kind == VGG_STAGE_DROPOUT && (fusions & VGG_FUSE_DROPOUT) &&
               is_linear && stage->relu && stage->dropout == 0) {
        stage->dropout = next->dropout;
        stage->dropout_layer = next->dropout_layer;
    } else {
        return false;
    }
    stage->out = next->out;
    return true;
}

void net_fuse(const struct net *plain, uint32_t fusions, struct net *fused)
{
    *fused = *plain;
    fused->stage_count = 0;
    for (uint32_t i = 0; i < plain->stage_count; i++) {
        const uint32_t count = fused->stage_count;
        if (count > 0 &&
            fuse_stage(fusions, &fused->stages[count - 1], &plain->stages[i]))
            continue;
        fused->stages[fused->stage_count++] = plain->stages[i];
    }
}

bool net_has(const struct net *net, uint32_t stage_kind)
{
    for (uint32_t i = 0; i < net->stage_count; i++)
        if (net->stages[i].kind == stage_kind) return true;
    return false;
}

bool net_has_loss(const struct net *net)
{
    return net->stages[net->stage_count - 1].kind == VGG_STAGE_LOSS;
}

size_t net_input_count(const struct net *net)
{
    return net_extent(net->stages[0].in);
}

size_t net_output_count(const struct net *net)
{
    return net_extent(last_extent(net));
}

double net_macs(const struct net *net)
{
    double macs = 0;
    for (uint32_t i = 0; i < net->stage_count; i++) {
        const vgg_stage *stage = &net->stages[i];
        if (stage->weight < 0) continue;
        const double places =
            stage->kind == VGG_STAGE_CONV ? (double)stage->mid.h * stage->mid.w : 1;
        macs += places * (double)net->params[stage->weight].count;
    }
    return macs;
}
