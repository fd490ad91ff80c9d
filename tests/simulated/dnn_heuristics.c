/* SPDX-License-Identifier: Apache-2.0 */
/* Which graphs the simulated cuDNN can run, and by which engines: what cuDNN 9.19 says
 * of the same graphs (asked without a GPU, with descriptions of these devices), in
 * lists that are shorter and made to be stumbled over: the first entry never becomes a
 * plan, others cut their inputs, vary, or want more work space than there is.
 *
 *   - one convolution alone, or a forward one with bias [and ReLU] of its own type, is
 *     compiled already; all else is compiled at run time;
 *   - what is compiled at run time wants channels last, and in bf16 even channels but
 *     for forward [bias] [ReLU]; it uses tensor cores always;
 *   - one input channel: no weight gradient of another type;
 *   - weight gradients have the inputs' type unless an operation follows;
 *   - nothing before a convolution. */
#include "dnn.h"

struct pattern {
    const struct dnn_graph *graph;
    const struct dnn_op *main; /* the convolution; NULL: none */
    int before, after;         /* operations */
    bool channels_last;
    cudnnDataType_t type; /* of the first input */
    int64_t in, out;      /* channels of the convolution */
};

/* Channels fastest, or so few that there is no difference. */
static bool is_last(const struct dnn_tensor *t)
{
    return t->axes != 4 || t->dims[1] == 1 || t->strides[1] == 1;
}

static struct pattern recognise(const struct dnn_graph *graph)
{
    struct pattern p = {.graph = graph, .channels_last = true};
    for (int i = 0; i < graph->op_count; i++) {
        const struct dnn_op *op = &graph->ops[i];
        if (op->kind != DNN_POINTWISE)
            p.main = op;
        else if (!p.main)
            p.before++;
        else
            p.after++;
    }
    for (int i = 0; i < graph->tensor_count; i++)
        p.channels_last = p.channels_last && is_last(&graph->tensors[i]);
    p.type = graph->tensors[graph->ops[0].in[0]].type;
    if (!p.main) return p;
    const int x = p.main->kind == DNN_CONV_DATA ? p.main->out : p.main->in[0];
    const int y = p.main->kind == DNN_CONV_FORWARD ? p.main->out
                  : p.main->kind == DNN_CONV_DATA  ? p.main->in[0]
                                                   : p.main->in[1];
    p.in = graph->tensors[x].dims[1];
    p.out = graph->tensors[y].dims[1];
    return p;
}

/* One type for all that is in memory and not a bias. */
static bool is_uniform(const struct pattern *p)
{
    const struct dnn_op *op = p->main;
    const struct dnn_tensor *t = p->graph->tensors;
    return t[op->in[0]].type == p->type && t[op->in[1]].type == p->type &&
           (t[op->out].is_virtual || t[op->out].type == p->type);
}

static const struct dnn_op *next_pointwise(const struct pattern *p, int index, int mode)
{
    const struct dnn_op *op = &p->graph->ops[index];
    return index < p->graph->op_count && op->kind == DNN_POINTWISE && op->mode == mode
               ? op
               : NULL;
}

static bool is_precompiled(const struct pattern *p)
{
    if (!is_uniform(p)) return false;
    if (p->after == 0) return true;
    const struct dnn_op *add = next_pointwise(p, 1, CUDNN_POINTWISE_ADD);
    const bool relu = p->after == 1 || next_pointwise(p, 2, CUDNN_POINTWISE_RELU_FWD);
    if (p->main->kind != DNN_CONV_FORWARD || p->after > 2 || !add || !relu ||
        add->in[1] < 0)
        return false;
    const struct dnn_tensor *bias = &p->graph->tensors[add->in[1]];
    return bias->type == p->type && bias->dims[0] == 1 && bias->dims[2] == 1;
}

/* bias and ReLU are what bf16 with odd channels still gets. */
static bool is_plain_epilogue(const struct pattern *p)
{
    bool plain = p->main->kind == DNN_CONV_FORWARD;
    for (int i = 1; i < p->graph->op_count; i++)
        plain = plain && (next_pointwise(p, i, CUDNN_POINTWISE_ADD) ||
                          next_pointwise(p, i, CUDNN_POINTWISE_RELU_FWD));
    return plain;
}

static bool runs_compiled(const struct pattern *p)
{
    if (!p->channels_last || !is_uniform(p) || p->after == 0) return false;
    if (p->type == CUDNN_DATA_BFLOAT16 && (p->in % 2 || p->out % 2) &&
        !is_plain_epilogue(p))
        return false;
    return p->in > 1 || p->main->kind != DNN_CONV_WEIGHTS;
}

/* ---- Lists ----------------------------------------------------------------------- */

static const struct dnn_config refused = {10, true,
                                          .refusal = CUDNN_STATUS_NOT_SUPPORTED};

static int precompiled(const struct pattern *p, const struct cudaDeviceProp *device,
                       cudnnBackendHeurMode_t mode, struct dnn_config *out)
{
    const bool single = p->type == CUDNN_DATA_FLOAT;
    const bool backward = p->main->kind != DNN_CONV_FORWARD;
    const bool weights = p->main->kind == DNN_CONV_WEIGHTS;
    int count = 0;
    if (mode == CUDNN_HEUR_MODE_FALLBACK) {
        if (backward)
            out[count++] = (struct dnn_config){3, .varies = true, .keeps_nan = true};
        out[count++] = (struct dnn_config){1, .workspace = 7600};
        out[count++] = (struct dnn_config){0};
        return count;
    }
    out[count++] = refused;
    if (device->major >= 8) {
        out[count++] = (struct dnn_config){44, true, .workspace = (int64_t)128 << 20};
        if (single) out[count++] = (struct dnn_config){50, true, .cuts = true};
        if (!single) out[count++] = (struct dnn_config){51, true, .reduces = true};
        out[count++] = (struct dnn_config){45, true, .workspace = 31504};
        out[count++] = (struct dnn_config){46, true};
        if (weights) out[count++] = (struct dnn_config){47, true, .varies = true};
    }
    if (single) {
        if (backward) out[count++] = (struct dnn_config){20, .varies = true};
        if (weights) out[count++] = (struct dnn_config){21, .cheats = true};
        if (weights) out[count++] = (struct dnn_config){22, .keeps_nan = true};
        if (!weights) out[count++] = (struct dnn_config){28};
        if (!weights) out[count++] = (struct dnn_config){29, .workspace = 5392};
    }
    return count;
}

static int compiled(const struct cudaDeviceProp *device, cudnnBackendHeurMode_t mode,
                    struct dnn_config *out)
{
    int count = 0;
    if (mode != CUDNN_HEUR_MODE_FALLBACK) {
        out[count++] = refused;
        if (device->major >= 8) out[count++] = (struct dnn_config){7, true};
        if (device->major >= 8)
            out[count++] = (struct dnn_config){2, true, .workspace = 4096};
    }
    out[count++] = (struct dnn_config){1, true};
    for (int i = 0; i < count; i++) out[i].compiles = true;
    return count;
}

static bool has_beta(const struct dnn_graph *graph)
{
    bool found = false;
    for (int i = 0; i < graph->op_count; i++) found = found || graph->ops[i].beta != 0;
    return found;
}

int dnn_configs(const struct dnn_graph *graph, const struct cudaDeviceProp *device,
                cudnnBackendHeurMode_t mode, struct dnn_config configs[DNN_CONFIGS])
{
    const struct pattern p = recognise(graph);
    const unsigned refuse = vgg__simulated.refuse;
    const bool known = p.type == CUDNN_DATA_FLOAT ||
                       (p.type == CUDNN_DATA_BFLOAT16 && device->major >= 8);
    if (!known || !p.main || p.before > 0 || has_beta(graph) ||
        refuse & SIMULATED_NO_GRAPH)
        return 0;
    if (refuse & SIMULATED_NO_HEURISTIC && mode != CUDNN_HEUR_MODE_FALLBACK) return 0;
    int count = 0;
    if (is_precompiled(&p))
        count = precompiled(&p, device, mode, configs);
    else if (runs_compiled(&p) && !(refuse & SIMULATED_NO_RUNTIME))
        count = compiled(device, mode, configs);
    return count;
}
