/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products by cuBLASLt; see matmul.h.
 *
 * cuBLASLt counts columns first: a row-major matrix is its transpose there, so
 * c = a . b is asked for as c^T = b^T . a^T. */
#include "cudnn/matmul.h"

#include <string.h>

#define MOST 8

static cudaDataType_t data_type(enum vgg__type type)
{
    return type == VGG__BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasStatus_t make_objects(struct vgg__cudnn *device,
                                   const struct vgg__matmul_shape *s,
                                   struct vgg__matmul *m)
{
    const struct vgg__api *api = device->api;
    const cublasComputeType_t compute = s->in == VGG__F32 && s->tf32
                                            ? CUBLAS_COMPUTE_32F_FAST_TF32
                                            : CUBLAS_COMPUTE_32F;
    const int32_t none = CUBLAS_OP_N, across = CUBLAS_OP_T;
    cublasStatus_t status = api->ltMatmulDescCreate(&m->desc, compute, CUDA_R_32F);
    /* The first operand there is our b. */
    if (status == CUBLAS_STATUS_SUCCESS)
        status =
            api->ltMatmulDescSetAttribute(m->desc, CUBLASLT_MATMUL_DESC_TRANSA,
                                          s->b_across ? &across : &none, sizeof none);
    if (status == CUBLAS_STATUS_SUCCESS)
        status =
            api->ltMatmulDescSetAttribute(m->desc, CUBLASLT_MATMUL_DESC_TRANSB,
                                          s->a_across ? &across : &none, sizeof none);
    const cudaDataType_t in = data_type(s->in);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = s->b_across
                     ? api->ltMatrixLayoutCreate(&m->b, in, s->k, s->n, (int64_t)s->k)
                     : api->ltMatrixLayoutCreate(&m->b, in, s->n, s->k, (int64_t)s->n);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = s->a_across
                     ? api->ltMatrixLayoutCreate(&m->a, in, s->m, s->k, (int64_t)s->m)
                     : api->ltMatrixLayoutCreate(&m->a, in, s->k, s->m, (int64_t)s->k);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = api->ltMatrixLayoutCreate(&m->c, data_type(s->out), s->n, s->m,
                                           (int64_t)s->n);
    return status;
}

/* What the heuristics name for the shape, best first. */
static cublasStatus_t list_algorithms(struct vgg__cudnn *device,
                                      const struct vgg__matmul *m, int wanted,
                                      cublasLtMatmulHeuristicResult_t found[MOST],
                                      int *count)
{
    const struct vgg__api *api = device->api;
    const uint64_t workspace = VGG__WORKSPACE;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t alignment =
        16; /* what parameters' bf16 copies are sure to have: 128 */
    cublasLtMatmulPreference_t preference = NULL;
    *count = 0;
    cublasStatus_t status = api->ltMatmulPreferenceCreate(&preference);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = api->ltMatmulPreferenceSetAttribute(
            preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
            sizeof workspace);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = api->ltMatmulPreferenceSetAttribute(
            preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
            sizeof schemes);
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < 4; i++)
        status = api->ltMatmulPreferenceSetAttribute(preference, alignments[i],
                                                     &alignment, sizeof alignment);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = api->ltMatmulAlgoGetHeuristic(device->lt, m->desc, m->b, m->a, m->c,
                                               m->c, preference, wanted, found, count);
    if (preference != NULL) api->ltMatmulPreferenceDestroy(preference);
    int good = 0; /* what is marked as failed holds no algorithm */
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < *count; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS) found[good++] = found[i];
    *count = good;
    return status;
}

vgg_status vgg__matmul_run(struct vgg__cudnn *device, cudaStream_t stream,
                           const struct vgg__matmul *m,
                           const struct vgg__matmul_scratch *with)
{
    const float alpha = 1, beta = m->accumulate ? 1 : 0;
    const cublasStatus_t status = device->api->ltMatmul(
        device->lt, m->desc, &alpha, with->b, m->b, with->a, m->a, &beta, with->c, m->c,
        with->c, m->c, &m->algo, vgg__cudnn_workspace(device, stream), m->workspace,
        stream);
    if (status == CUBLAS_STATUS_SUCCESS) return VGG_OK;
    return vgg__cudnn_lt_failed(
        device, "a matrix product", status,
        status == CUBLAS_STATUS_ALLOC_FAILED ? "use a smaller batch" : VGG__AGAIN);
}

/* Milliseconds of a run, negative: it can't. */
static float time_algorithm(struct vgg__cudnn *device, const struct vgg__matmul *m,
                            const struct vgg__matmul_scratch *scratch)
{
    const struct vgg__api *api = device->api;
    float ms = -1;
    vgg_status status = VGG_OK;
    for (int i = 0; status == VGG_OK && i < 8; i++) {
        if (i == 3) api->eventRecord(device->begin, device->stream);
        status = vgg__matmul_run(device, device->stream, m, scratch);
    }
    if (status != VGG_OK) return -1;
    api->eventRecord(device->end, device->stream);
    if (api->eventSynchronize(device->end) != cudaSuccess) return -1;
    return api->eventElapsedTime(&ms, device->begin, device->end) == cudaSuccess ? ms
                                                                                 : -1;
}

static void choose(struct vgg__cudnn *device, struct vgg__matmul *m,
                   const cublasLtMatmulHeuristicResult_t *found, int count,
                   const struct vgg__matmul_scratch *scratch)
{
    float best = -1;
    int best_at = 0;
    for (int i = 0; count > 1 && i < count; i++) {
        m->algo = found[i].algo;
        m->workspace = found[i].workspaceSize;
        const float ms = time_algorithm(device, m, scratch);
        if (ms < 0 || (best >= 0 && ms >= best)) continue;
        best = ms;
        best_at = i;
    }
    m->algo = found[best_at].algo;
    m->workspace = found[best_at].workspaceSize;
}

vgg_status vgg__matmul_make(struct vgg__cudnn *device,
                            const struct vgg__matmul_shape *shape, uint32_t tries,
                            const struct vgg__matmul_scratch *scratch,
                            struct vgg__matmul *out)
{
    cublasLtMatmulHeuristicResult_t found[MOST];
    int count = 0;
    *out = (struct vgg__matmul){.accumulate = shape->accumulate};
    cublasStatus_t status = make_objects(device, shape, out);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = list_algorithms(device, out, tries < MOST ? (int)tries : MOST, found,
                                 &count);
    if (status == CUBLAS_STATUS_SUCCESS && count > 0) {
        choose(device, out, found, count, scratch);
        return VGG_OK;
    }
    vgg__matmul_free(device, out);
    return device->machine.host.fail(
        VGG_EUNSUPPORTED,
        "cuda:%d: cuBLASLt has no algorithm for a product of %llux%llux%llu (%s): use "
        "another batch size or precision, or update the driver and cuBLASLt",
        device->ordinal, (unsigned long long)shape->m, (unsigned long long)shape->n,
        (unsigned long long)shape->k, device->api->ltGetStatusName(status));
}

void vgg__matmul_free(struct vgg__cudnn *device, struct vgg__matmul *m)
{
    const struct vgg__api *api = device->api;
    if (m->desc != NULL) api->ltMatmulDescDestroy(m->desc);
    if (m->a != NULL) api->ltMatrixLayoutDestroy(m->a);
    if (m->b != NULL) api->ltMatrixLayoutDestroy(m->b);
    if (m->c != NULL) api->ltMatrixLayoutDestroy(m->c);
    *m = (struct vgg__matmul){0};
}
