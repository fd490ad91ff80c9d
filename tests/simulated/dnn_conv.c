/* SPDX-License-Identifier: Apache-2.0 */
/* The three convolutions as plain loops in double. Operands come as [n][c][h][w] and
 * [oc][ic][kh][kw]; inside, channels are innermost, so that loops over them are
 * straight. */
#include "dnn.h"

struct conv {
    int64_t n, ic, ih, iw, oc, oh, ow, kh, kw;
    const struct dnn_op *op;
};

/* [a][b][c] to [a][c][b] */
static double *transposed(const double *from, int64_t a, int64_t b, int64_t c)
{
    double *to = sim_new((size_t)(a * b * c) * sizeof *to);
    for (int64_t i = 0; i < a; i++)
        for (int64_t j = 0; j < b; j++)
            for (int64_t k = 0; k < c; k++)
                to[(i * c + k) * b + j] = from[(i * b + j) * c + k];
    return to;
}

/* The inner loops: what one pixel of y, one tap and one pixel of x have to do with each
 * other. x [ic], y [oc], w [ic][oc] or, for the data, [oc][ic]. */
static void forward_tap(const struct conv *c, const double *x, const double *w,
                        double *y)
{
    for (int64_t i = 0; i < c->ic; i++)
        for (int64_t o = 0; o < c->oc; o++) y[o] += x[i] * w[i * c->oc + o];
}

static void data_tap(const struct conv *c, double *x, const double *w, const double *y)
{
    for (int64_t o = 0; o < c->oc; o++)
        for (int64_t i = 0; i < c->ic; i++) x[i] += y[o] * w[o * c->ic + i];
}

static void weights_tap(const struct conv *c, const double *x, double *w,
                        const double *y)
{
    for (int64_t i = 0; i < c->ic; i++)
        for (int64_t o = 0; o < c->oc; o++) w[i * c->oc + o] += x[i] * y[o];
}

static void pixel(const struct conv *c, int64_t row, int64_t column, double *x,
                  double *w, double *y)
{
    const struct dnn_op *op = c->op;
    for (int64_t kh = 0; kh < c->kh; kh++)
        for (int64_t kw = 0; kw < c->kw; kw++) {
            const int64_t h = row * op->stride[0] - op->pad[0] + kh * op->dilation[0];
            const int64_t v =
                column * op->stride[1] - op->pad[1] + kw * op->dilation[1];
            if (h < 0 || v < 0 || h >= c->ih || v >= c->iw) continue;
            double *from = x + (h * c->iw + v) * c->ic;
            double *tap = w + (kh * c->kw + kw) * c->ic * c->oc;
            if (op->kind == DNN_CONV_FORWARD)
                forward_tap(c, from, tap, y);
            else if (op->kind == DNN_CONV_DATA)
                data_tap(c, from, tap, y);
            else
                weights_tap(c, from, tap, y);
        }
}

static void run(const struct conv *c, double *x, double *w, double *y)
{
    for (int64_t n = 0; n < c->n; n++)
        for (int64_t h = 0; h < c->oh; h++)
            for (int64_t v = 0; v < c->ow; v++)
                pixel(c, h, v, x + n * c->ih * c->iw * c->ic, w,
                      y + ((n * c->oh + h) * c->ow + v) * c->oc);
}

static struct conv shape_of(const struct dnn_graph *graph, const struct dnn_op *op)
{
    const struct dnn_tensor *t = graph->tensors;
    const bool forward = op->kind == DNN_CONV_FORWARD, data = op->kind == DNN_CONV_DATA;
    const int64_t *x = t[data ? op->out : op->in[0]].dims;
    const int64_t *w = t[forward || data ? op->in[1] : op->out].dims;
    const int64_t *y = t[forward ? op->out : data ? op->in[0] : op->in[1]].dims;
    return (struct conv){x[0], x[1], x[2], x[3], w[0], y[2], y[3], w[2], w[3], op};
}

/* [oc][ic][taps] to [taps][ic][oc], or [taps][oc][ic] */
static double *order_weights(const struct conv *c, const double *w, bool data)
{
    const int64_t taps = c->kh * c->kw;
    double *flat = transposed(w, 1, c->oc * c->ic, taps); /* [taps][oc][ic] */
    if (data) return flat;
    double *turned = transposed(flat, taps, c->oc, c->ic);
    free(flat);
    return turned;
}

void dnn_convolve(const struct dnn_graph *graph, const struct dnn_op *op,
                  const double *a, const double *b, double *out)
{
    const struct conv c = shape_of(graph, op);
    const bool forward = op->kind == DNN_CONV_FORWARD, data = op->kind == DNN_CONV_DATA;
    const int64_t taps = c.kh * c.kw;
    /* `out` is zero, whatever its order. */
    double *x = data ? sim_new((size_t)(c.n * c.ih * c.iw * c.ic) * sizeof *x)
                     : transposed(a, c.n, c.ic, c.ih * c.iw);
    double *y = forward ? sim_new((size_t)(c.n * c.oh * c.ow * c.oc) * sizeof *y)
                        : transposed(data ? a : b, c.n, c.oc, c.oh * c.ow);
    double *w = forward || data ? order_weights(&c, b, data)
                                : sim_new((size_t)(taps * c.ic * c.oc) * sizeof *w);
    run(&c, x, w, y);
    double *done;
    if (forward) {
        done = transposed(y, c.n, c.oh * c.ow, c.oc);
    } else if (data) {
        done = transposed(x, c.n, c.ih * c.iw, c.ic);
    } else {
        double *turned = transposed(w, taps, c.ic, c.oc); /* [taps][oc][ic] */
        done = transposed(turned, 1, taps, c.oc * c.ic);
        free(turned);
    }
    const int64_t count = dnn_elements(&graph->tensors[op->out]);
    memcpy(out, done, (size_t)count * sizeof *out);
    free(done);
    free(x);
    free(w);
    free(y);
}
