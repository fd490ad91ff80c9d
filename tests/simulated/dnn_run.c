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
    switch (type) {
    case CUDNN_DATA_BFLOAT16:
        return sim_bf16_get(at);
    case CUDNN_DATA_INT8:
        return *(const int8_t *)at;
    case CUDNN_DATA_UINT8:
        return *(const uint8_t *)at;
    case CUDNN_DATA_BOOLEAN:
        return *(const uint8_t *)at != 0;
    default:
        memcpy(&single, at, sizeof single);
        return single;
    }
}

static void put(cudnnDataType_t type, void *at, double value)
{
    const float single = (float)value;
    switch (type) {
    case CUDNN_DATA_BFLOAT16:
        sim_bf16_put(at, value);
        break;
    case CUDNN_DATA_INT8:
        *(int8_t *)at = (int8_t)value;
        break;
    case CUDNN_DATA_UINT8:
    case CUDNN_DATA_BOOLEAN:
        *(uint8_t *)at = (uint8_t)value;
        break;
    default:
        memcpy(at, &single, sizeof single);
    }
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

static double combine(const struct dnn_op *op, double x, double b)
{
    switch (op->mode) {
    case CUDNN_POINTWISE_ADD:
        return op->alpha * x + op->alpha2 * b;
    case CUDNN_POINTWISE_SUB:
        return op->alpha * x - op->alpha2 * b;
    case CUDNN_POINTWISE_MUL:
        return op->alpha * x * op->alpha2 * b;
    case CUDNN_POINTWISE_MAX:
        return x > b ? x : b;
    case CUDNN_POINTWISE_MIN:
        return x < b ? x : b;
    case CUDNN_POINTWISE_IDENTITY:
        return op->alpha * x;
    case CUDNN_POINTWISE_CMP_GT:
        return x > b;
    /* NaNs stay in both, as compiled code of cuDNN 9.19 shows (FSETP.GEU, FSETP.GTU),
     * with or without the attribute for it. */
    case CUDNN_POINTWISE_RELU_FWD:
        return isnan(x) ? x : fmin(fmax(x, op->lower), op->upper);
    case CUDNN_POINTWISE_RELU_BWD: /* x is the gradient, b what the ReLU had or gave */
        return b <= op->lower ? 0 : x;
    default:
        sim_violate("cudnnBackendExecute: pointwise mode %d is not simulated",
                    op->mode);
        return NAN;
    }
}

static void pointwise(const struct dnn_graph *graph, const struct dnn_op *op,
                      struct dnn_value *values)
{
    const int to = op->backward ? op->out[1] : op->out[0];
    const int from[2] = {op->backward ? op->in[3] : op->in[0],
                         op->backward ? op->in[0] : op->in[1]};
    const struct dnn_tensor *out = &graph->tensors[to];
    struct dnn_tensor dense[2];
    struct walk walks[2] = {{0}};
    for (int k = 0; k < 2; k++)
        if (from[k] >= 0) walks[k] = along(&graph->tensors[from[k]], out, &dense[k]);
    const int64_t count = dnn_elements(out);
    for (int64_t i = 0; i < count; i++) {
        const double x = values[from[0]].at[walks[0].offset];
        const double b = from[1] >= 0 ? values[from[1]].at[walks[1].offset] : 0;
        values[to].at[i] = combine(op, x, b);
        for (int k = 0; k < 2; k++)
            if (from[k] >= 0) advance(&walks[k]);
    }
}

/* ---- Reductions ------------------------------------------------------------------ */

/* Sum `power` of x into a smaller tensor. */
static void reduce(const struct dnn_graph *graph, int from, int to, int power,
                   struct dnn_value *values)
{
    const struct dnn_tensor *x = &graph->tensors[from];
    struct dnn_tensor dense;
    struct walk walk = along(&graph->tensors[to], x, &dense);
    for (int64_t i = 0; i < dnn_elements(x); i++, advance(&walk)) {
        const double v = values[from].at[i];
        values[to].at[walk.offset] += power == 2 ? v * v : v;
    }
}

static void reduction(const struct dnn_graph *graph, const struct dnn_op *op,
                      struct dnn_value *values)
{
    if (op->mode != CUDNN_REDUCE_TENSOR_ADD)
        sim_violate("cudnnBackendExecute: reduction %d is not simulated", op->mode);
    reduce(graph, op->in[0], op->out[0], 1, values);
}

static void statistics(const struct dnn_graph *graph, const struct dnn_op *op,
                       struct dnn_value *values)
{
    reduce(graph, op->in[0], op->out[0], 1, values);
    reduce(graph, op->in[0], op->out[1], 2, values);
}

/* ---- Pooling --------------------------------------------------------------------- */

/* One window: which elements of x it has, by place in the window; -1: padding. */
static int64_t window_element(const struct dnn_op *op, const struct dnn_tensor *x,
                              const int64_t at[4], int64_t place)
{
    const int64_t h = at[2] * op->stride[0] - op->pad[0] + place / op->window[1];
    const int64_t w = at[3] * op->stride[1] - op->pad[1] + place % op->window[1];
    if (h < 0 || w < 0 || h >= x->dims[2] || w >= x->dims[3]) return -1;
    return ((at[0] * x->dims[1] + at[1]) * x->dims[2] + h) * x->dims[3] + w;
}

/* The first of the largest; a NaN is the largest only where NaNs are kept. */
static int64_t largest(const struct dnn_op *op, const struct dnn_tensor *x,
                       const int64_t at[4], const double *values)
{
    int64_t best = -1;
    for (int64_t p = 0; p < op->window[0] * op->window[1]; p++) {
        const int64_t e = window_element(op, x, at, p);
        if (e < 0 || (isnan(values[e]) && !op->keeps_nan)) continue;
        const int64_t b = best < 0 ? -1 : window_element(op, x, at, best);
        if (b < 0 || values[e] > values[b] || (isnan(values[e]) && !isnan(values[b])))
            best = p;
    }
    return best;
}

static double average(const struct dnn_op *op, const struct dnn_tensor *x,
                      const int64_t at[4], const double *values)
{
    const int64_t places = op->window[0] * op->window[1];
    int64_t inside = 0;
    double sum = 0;
    for (int64_t p = 0; p < places; p++) {
        const int64_t e = window_element(op, x, at, p);
        if (e >= 0) sum += values[e];
        inside += e >= 0;
    }
    return sum / (double)(op->mode == CUDNN_RESAMPLE_AVGPOOL_EXCLUDE_PADDING ? inside
                                                                             : places);
}

static void pool(const struct dnn_graph *graph, const struct dnn_op *op,
                 struct dnn_value *values)
{
    const struct dnn_tensor *x = &graph->tensors[op->in[0]];
    const struct dnn_tensor *y = &graph->tensors[op->out[0]];
    struct walk walk = {.tensor = y};
    for (int64_t i = 0; i < dnn_elements(y); i++, advance(&walk)) {
        const double *from = values[op->in[0]].at;
        if (op->mode != CUDNN_RESAMPLE_MAXPOOL) {
            values[op->out[0]].at[i] = average(op, x, walk.index, from);
            continue;
        }
        const int64_t best = largest(op, x, walk.index, from);
        values[op->out[0]].at[i] =
            best < 0 ? -INFINITY : from[window_element(op, x, walk.index, best)];
        if (op->out[1] >= 0) values[op->out[1]].at[i] = best < 0 ? 0 : (double)best;
    }
}

static void unpool(const struct dnn_graph *graph, const struct dnn_op *op,
                   struct dnn_value *values)
{
    const struct dnn_tensor *dx = &graph->tensors[op->out[0]];
    const struct dnn_tensor *dy = &graph->tensors[op->in[0]];
    double *to = values[op->out[0]].at;
    struct walk walk = {.tensor = dy};
    for (int64_t i = 0; i < dnn_elements(dy); i++, advance(&walk)) {
        const double gradient = values[op->in[0]].at[i];
        const int64_t places = op->window[0] * op->window[1];
        const bool maximum = op->mode == CUDNN_RESAMPLE_MAXPOOL;
        int64_t winner = -1;
        if (maximum)
            winner = op->in[1] >= 0 ? (int64_t)values[op->in[1]].at[i]
                                    : largest(op, dx, walk.index, values[op->in[2]].at);
        for (int64_t p = 0; p < places; p++) {
            const int64_t e = window_element(op, dx, walk.index, p);
            if (e < 0 || (maximum && p != winner)) continue;
            to[e] += maximum ? gradient : gradient / (double)places;
        }
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

static void multiply(const struct dnn_graph *graph, const struct dnn_op *op,
                     const double *a, const double *b, double *out)
{
    const int64_t *ad = graph->tensors[op->in[0]].dims;
    const int64_t n = graph->tensors[op->in[1]].dims[2];
    for (int64_t batch = 0; batch < ad[0]; batch++)
        for (int64_t i = 0; i < ad[1]; i++)
            for (int64_t k = 0; k < ad[2]; k++) {
                const double x = a[(batch * ad[1] + i) * ad[2] + k];
                const double *row = b + (batch * ad[2] + k) * n;
                double *sums = out + (batch * ad[1] + i) * n;
                for (int64_t j = 0; j < n; j++) sums[j] += x * row[j];
            }
}

static void product(const struct dnn_graph *graph, const struct dnn_op *op,
                    const struct dnn_config *config, struct dnn_value *values)
{
    double *a = rounded_operand(graph, op->in[0], config, values[op->in[0]].at);
    double *b = rounded_operand(graph, op->in[1], config, values[op->in[1]].at);
    double *out = values[op->out[0]].at;
    if (op->kind == DNN_MATMUL)
        multiply(graph, op, a, b, out);
    else
        dnn_convolve(graph, op, a, b, out);
    free(a);
    free(b);
    for (int64_t i = 0; i < dnn_elements(&graph->tensors[op->out[0]]); i++) {
        out[i] *= op->alpha;
        if (config->reduces) out[i] = sim_round(out[i], 6);
        if (config->varies) out[i] *= 1 + ((double)sim_random(5) - 2) * 0x1p-23;
    }
}

/* ---- Graphs ---------------------------------------------------------------------- */

void dnn_compute(const struct dnn_graph *graph, const struct dnn_config *config,
                 struct dnn_value *values)
{
    static void (*const kinds[])(const struct dnn_graph *, const struct dnn_op *,
                                 struct dnn_value *) = {[DNN_POINTWISE] = pointwise,
                                                        [DNN_REDUCTION] = reduction,
                                                        [DNN_POOL] = pool,
                                                        [DNN_UNPOOL] = unpool,
                                                        [DNN_STATISTICS] = statistics};
    for (int i = 0; i < graph->op_count; i++) {
        const struct dnn_op *op = &graph->ops[i];
        for (int k = 0; k < 2; k++)
            if (op->out[k] >= 0)
                values[op->out[k]].at = sim_new(
                    (size_t)dnn_elements(&graph->tensors[op->out[k]]) * sizeof(double));
        if (op->kind <= DNN_MATMUL)
            product(graph, op, config, values);
        else
            kinds[op->kind](graph, op, values);
        for (int k = 0; k < 2; k++) {
            if (op->out[k] < 0) continue;
            const struct dnn_tensor *t = &graph->tensors[op->out[k]];
            for (int64_t e = 0; e < dnn_elements(t); e++)
                values[op->out[k]].at[e] =
                    dnn_rounded(t->type, values[op->out[k]].at[e]);
        }
    }
}
