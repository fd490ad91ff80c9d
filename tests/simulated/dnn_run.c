/* SPDX-License-Identifier: Apache-2.0 */
/* What a graph's operations compute, in double: each from its own attributes, with
 * operands and results rounded as the configuration and the tensors say. */
#include "dnn.h"

#include <math.h>

/* ---- Elements -------------------------------------------------------------------- */

double sim_round(double value, int bits)
{
    int exponent;
    if (!isfinite(value) || value == 0) return value;
    const double fraction = frexp(value, &exponent);
    return ldexp(rint(ldexp(fraction, bits)), exponent - bits);
}

float sim_bf16_get(const void *at)
{
    uint16_t half;
    memcpy(&half, at, sizeof half);
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void sim_bf16_put(void *at, double value)
{
    const float single = (float)value; /* sums are in float before they are stored */
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    if (isnan(single))
        bits |= 0x7fff0000;
    else
        bits += 0x7fff + (bits >> 16 & 1);
    const uint16_t half = (uint16_t)(bits >> 16);
    memcpy(at, &half, sizeof half);
}

static double get(cudnnDataType_t type, const void *at)
{
    float single;
    if (type == CUDNN_DATA_BFLOAT16) return sim_bf16_get(at);
    memcpy(&single, at, sizeof single);
    return single;
}

static void put(cudnnDataType_t type, void *at, double value)
{
    const float single = (float)value;
    if (type == CUDNN_DATA_BFLOAT16)
        sim_bf16_put(at, value);
    else
        memcpy(at, &single, sizeof single);
}

double dnn_rounded(cudnnDataType_t type, double value)
{
    unsigned char element[4] = {0};
    put(type, element, value);
    return get(type, element);
}

/* Byte offset of every element in the order of the axes, one after the other. */
struct walk {
    const struct dnn_tensor *tensor;
    int64_t index[DNN_AXES], offset;
};

static void advance(struct walk *walk)
{
    const struct dnn_tensor *t = walk->tensor;
    for (int i = t->axes; i-- > 0;) {
        walk->offset += t->strides[i];
        if (++walk->index[i] < t->dims[i]) return;
        walk->offset -= t->strides[i] * t->dims[i];
        walk->index[i] = 0;
    }
}

void dnn_read(const struct dnn_tensor *tensor, const void *memory, double *out)
{
    const int64_t count = dnn_elements(tensor);
    const int64_t size = (int64_t)dnn_element_size(tensor->type);
    struct walk walk = {.tensor = tensor};
    for (int64_t i = 0; i < count; i++, advance(&walk))
        out[i] = get(tensor->type, (const uint8_t *)memory + walk.offset * size);
}

void dnn_write(const struct dnn_tensor *tensor, void *memory, const double *values)
{
    const int64_t count = dnn_elements(tensor);
    const int64_t size = (int64_t)dnn_element_size(tensor->type);
    struct walk walk = {.tensor = tensor};
    for (int64_t i = 0; i < count; i++, advance(&walk))
        put(tensor->type, (uint8_t *)memory + walk.offset * size, values[i]);
}

/* Where the element of `small` is that belongs to each of `large`: axes of one element
 * repeat theirs. */
static struct walk along(const struct dnn_tensor *small, const struct dnn_tensor *large,
                         struct dnn_tensor *dense)
{
    int64_t stride = 1;
    *dense = *large;
    for (int i = small->axes; i-- > 0;) {
        dense->strides[i] = small->dims[i] == 1 ? 0 : stride;
        stride *= small->dims[i];
    }
    return (struct walk){.tensor = dense};
}

/* ---- Pointwise ------------------------------------------------------------------- */

/* NaNs stay in both ReLUs, as compiled code of cuDNN 9.19 shows (FSETP.GEU,
 * FSETP.GTU). */
static double combine(const struct dnn_op *op, double x, double b)
{
    switch (op->mode) {
    case CUDNN_POINTWISE_ADD:
        return x + b;
    case CUDNN_POINTWISE_RELU_FWD:
        return x < 0 ? 0 : x;
    case CUDNN_POINTWISE_RELU_BWD: /* x is what the ReLU had or gave, b the gradient */
        return x <= 0 ? 0 : b;
    default:
        return x;
    }
}

static void pointwise(const struct dnn_graph *graph, const struct dnn_op *op,
                      struct dnn_value *values)
{
    const struct dnn_tensor *out = &graph->tensors[op->out];
    struct dnn_tensor dense[2];
    struct walk walks[2] = {{0}};
    for (int k = 0; k < 2; k++)
        if (op->in[k] >= 0)
            walks[k] = along(&graph->tensors[op->in[k]], out, &dense[k]);
    const int64_t count = dnn_elements(out);
    for (int64_t i = 0; i < count; i++) {
        const double x = values[op->in[0]].at[walks[0].offset];
        const double b = op->in[1] >= 0 ? values[op->in[1]].at[walks[1].offset] : 0;
        values[op->out].at[i] = combine(op, x, b);
        for (int k = 0; k < 2; k++)
            if (op->in[k] >= 0) advance(&walks[k]);
    }
}

/* ---- Products -------------------------------------------------------------------- */

static double *rounded_operand(const struct dnn_graph *graph, int tensor,
                               const struct dnn_config *config, const double *values)
{
    const struct dnn_tensor *t = &graph->tensors[tensor];
    const int64_t count = dnn_elements(t);
    double *copy = sim_new((size_t)count * sizeof *copy);
    const int bits = config->cuts                                          ? 8
                     : config->cheats                                      ? 11
                     : config->tensor_cores && t->type == CUDNN_DATA_FLOAT ? 11
                                                                           : 0;
    for (int64_t i = 0; i < count; i++)
        copy[i] = bits > 0 ? sim_round(values[i], bits) : values[i];
    return copy;
}

static void product(const struct dnn_graph *graph, const struct dnn_op *op,
                    const struct dnn_config *config, struct dnn_value *values)
{
    double *a = rounded_operand(graph, op->in[0], config, values[op->in[0]].at);
    double *b = rounded_operand(graph, op->in[1], config, values[op->in[1]].at);
    double *out = values[op->out].at;
    dnn_convolve(graph, op, a, b, out);
    free(a);
    free(b);
    for (int64_t i = 0; i < dnn_elements(&graph->tensors[op->out]); i++) {
        out[i] *= op->alpha;
        if (config->reduces) out[i] = sim_round(out[i], 6);
        if (config->varies) out[i] *= 1 + ((double)sim_random(5) - 2) * 0x1p-23;
    }
}

/* ---- Graphs ---------------------------------------------------------------------- */

void dnn_compute(const struct dnn_graph *graph, const struct dnn_config *config,
                 struct dnn_value *values)
{
    for (int i = 0; i < graph->op_count; i++) {
        const struct dnn_op *op = &graph->ops[i];
        const struct dnn_tensor *t = &graph->tensors[op->out];
        double *out = sim_new((size_t)dnn_elements(t) * sizeof *out);
        values[op->out].at = out;
        if (op->kind == DNN_POINTWISE)
            pointwise(graph, op, values);
        else
            product(graph, op, config, values);
        for (int64_t e = 0; e < dnn_elements(t); e++)
            out[e] = dnn_rounded(t->type, out[e]);
    }
}
