/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying out a product of the simulated cuBLASLt, in double, in two steps as
 * dnn_plan.c's: d = alpha * op(a) op(b) + beta * c. */
#include "lt.h"

struct run {
    struct sim_op op;
    struct lt_call call;
};

struct between {
    uint64_t token;
    double sums[]; /* as d, without gaps */
};

static double element(const struct lt_layout *layout, const void *matrix, int64_t row,
                      int64_t col)
{
    const size_t at = (size_t)(col * layout->ld + row);
    if (layout->type == CUDA_R_16BF) return sim_bf16_get((const uint16_t *)matrix + at);
    float value;
    memcpy(&value, (const float *)matrix + at, sizeof value);
    return value;
}

/* Significant bits that the operands keep; 0: all. */
static int kept_bits(const struct lt_call *call)
{
    return call->desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? 11 : 0;
}

/* op(matrix), dense and by rows. */
static double *operand(const struct lt_call *call, int which)
{
    const struct lt_layout *layout = &call->layouts[which];
    const int32_t across = call->desc.across[which];
    const int64_t rows = lt_rows(layout, across), cols = lt_cols(layout, across);
    const int bits = kept_bits(call);
    double *out = sim_new((size_t)(rows * cols) * sizeof *out);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            const double v = across ? element(layout, call->matrices[which], c, r)
                                    : element(layout, call->matrices[which], r, c);
            out[r * cols + c] = bits > 0 ? sim_round(v, bits) : v;
        }
    return out;
}

/* Parts of a sum are rounded, so that another algorithm gives other bits: as float is,
 * but a few products of bf16 would still be exact in that. */
static void multiply(const struct lt_call *call, double *sums)
{
    const struct lt_layout *d = &call->layouts[3];
    const int64_t k = lt_cols(&call->layouts[0], call->desc.across[0]);
    const int64_t part = (k + 1) / lt_parts(&call->algo);
    const int bits = call->layouts[0].type == CUDA_R_16BF ? 20 : 24;
    double *a = operand(call, 0), *b = operand(call, 1); /* [rows][k], [k][cols] */
    for (int64_t r = 0; r < d->rows; r++)
        for (int64_t i = 0; i < k; i++) {
            const double x = a[r * k + i];
            for (int64_t c = 0; c < d->cols; c++)
                sums[r * d->cols + c] += x * b[i * d->cols + c];
            for (int64_t c = 0; i + 1 == part && c < d->cols; c++)
                sums[r * d->cols + c] = sim_round(sums[r * d->cols + c], bits);
        }
    free(a);
    free(b);
}

static void begin_run(const struct run *run, struct between **between)
{
    const struct lt_call *call = &run->call;
    const struct lt_layout *d = &call->layouts[3];
    *between = sim_new(sizeof **between + (size_t)(d->rows * d->cols) * sizeof(double));
    double *sums = (*between)->sums;
    multiply(call, sums);
    const bool coarse = call->algo.scheme == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE ||
                        call->algo.scheme == CUBLASLT_REDUCTION_SCHEME_INPLACE;
    for (int64_t r = 0; r < d->rows; r++)
        for (int64_t c = 0; c < d->cols; c++) {
            double *sum = &sums[r * d->cols + c];
            *sum *= call->alpha;
            if (coarse && d->type == CUDA_R_16BF) *sum = sim_round(*sum, 6);
            if (call->beta != 0)
                *sum +=
                    call->beta * element(&call->layouts[2], call->matrices[2], r, c);
        }
    (*between)->token = sim_random(UINT64_MAX);
    for (uint64_t i = 0; i < call->algo.workspace; i++)
        call->workspace[i] = (uint8_t)((*between)->token >> 8 * (i & 7));
}

static void end_run(const struct run *run, const struct between *between)
{
    const struct lt_call *call = &run->call;
    const struct lt_layout *d = &call->layouts[3];
    for (uint64_t i = 0; i < call->algo.workspace; i++)
        if (call->workspace[i] != (uint8_t)(between->token >> 8 * (i & 7))) {
            sim_violate(
                "cublasLtMatmul: its work space was written by other work at the "
                "same time");
            return;
        }
    for (int64_t r = 0; r < d->rows; r++)
        for (int64_t c = 0; c < d->cols; c++) {
            const size_t at = (size_t)(c * d->ld + r);
            const double sum = between->sums[r * d->cols + c];
            if (d->type == CUDA_R_16BF)
                sim_bf16_put((uint16_t *)call->matrices[3] + at, sum);
            else
                ((float *)call->matrices[3])[at] = (float)sum;
        }
}

/* Memory may have been released since it was queued. */
static bool still_there(const struct lt_call *call)
{
    char why[160];
    for (int i = 0; i < 4; i++)
        if (!sim_device_range(call->matrices[i], lt_extent(&call->layouts[i]), why,
                              sizeof why)) {
            sim_violate("cublasLtMatmul, when carried out: %c: %s", "abcd"[i], why);
            return false;
        }
    return true;
}

static void run_product(struct sim_op *op, uint32_t step, void **state)
{
    const struct run *run = (const struct run *)op;
    if (!still_there(&run->call)) return;
    if (step == 0) {
        begin_run(run, (struct between **)state);
        return;
    }
    end_run(run, *state);
    free(*state);
    *state = NULL;
}

cublasStatus_t lt_queue(const struct lt_call *call, cudaStream_t stream)
{
    struct run *run = sim_op_new(sizeof *run, "cublasLtMatmul", run_product);
    run->op.steps = 2;
    run->op.cost = 4000 + sim_hash(call->algo.problem ^ call->algo.scheme) % 4000;
    run->call = *call;
    run->op.identity = sim_hash_bytes(call->algo.problem ^ call->algo.scheme,
                                      call->matrices, sizeof call->matrices);
    if (call->beta != 0) run->op.identity = 0;
    return sim_queue(stream, &run->op) ? CUBLAS_STATUS_EXECUTION_FAILED
                                       : CUBLAS_STATUS_SUCCESS;
}
