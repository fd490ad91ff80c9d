/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products by cuBLASLt; see matmul.h.
 *
 * cuBLASLt counts columns first: a row-major matrix is its transpose there, so
 * c = a . b is asked for as c^T = b^T . a^T. */
#include "cudnn/matmul.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cudnn/cache.h"

#define MOST     8
#define QUESTION 240

/* What algorithms may do with parts of sums (add them up in order, in float), and the
 * bytes that they may take matrices to be aligned to: parameters' bf16 copies are sure
 * to have 128. */
#define SCHEMES   CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
#define ALIGNMENT 16

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
    const uint32_t schemes = SCHEMES, alignment = ALIGNMENT;
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
    return vgg__cudnn_lt_failed(device, "a matrix product", status, VGG__AGAIN);
}

/* What an algorithm is called, as far as cuBLASLt tells. */
static void name_algorithm(const struct vgg__cudnn *device, struct vgg__matmul *m)
{
    const struct vgg__api *api = device->api;
    int32_t id = 0, parts = 1;
    uint32_t tile = 0;
    const bool known =
        api->ltMatmulAlgoConfigGetAttribute(&m->algo, CUBLASLT_ALGO_CONFIG_ID, &id,
                                            sizeof id, NULL) == CUBLAS_STATUS_SUCCESS &&
        api->ltMatmulAlgoConfigGetAttribute(&m->algo, CUBLASLT_ALGO_CONFIG_TILE_ID,
                                            &tile, sizeof tile,
                                            NULL) == CUBLAS_STATUS_SUCCESS &&
        api->ltMatmulAlgoConfigGetAttribute(&m->algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                            &parts, sizeof parts,
                                            NULL) == CUBLAS_STATUS_SUCCESS;
    if (known)
        snprintf(m->text, sizeof m->text, "cuBLASLt %d, tile %u, split %d", id, tile,
                 parts);
    else
        snprintf(m->text, sizeof m->text, "cuBLASLt");
}

/* ---- Choosing -------------------------------------------------------------------- */

/* Everything that a choice depends on, in words. */
static void question(const struct vgg__matmul_shape *s, char text[QUESTION])
{
    snprintf(
        text, QUESTION,
        "product %llux%llux%llu across %d %d types %d %d tf32 %d add %d schemes %d "
        "workspace %zu alignment %d",
        (unsigned long long)s->m, (unsigned long long)s->n, (unsigned long long)s->k,
        s->a_across, s->b_across, s->in, s->out, s->tf32, s->accumulate, SCHEMES,
        VGG__WORKSPACE, ALIGNMENT);
}

/* The algorithm that was chosen before, if it is still one for the product. */
static bool recall(struct vgg__cudnn *device, const struct vgg__matmul_shape *shape,
                   struct vgg__matmul *m)
{
    char text[QUESTION];
    struct vgg__cached kept;
    cublasLtMatmulHeuristicResult_t result = {0};
    question(shape, text);
    if (!vgg__cache_load(device, text, &kept)) return false;
    bool good = kept.length == sizeof m->algo && kept.flag <= VGG__WORKSPACE;
    if (good) {
        memcpy(&m->algo, kept.text, sizeof m->algo);
        good = device->api->ltMatmulAlgoCheck(device->lt, m->desc, m->b, m->a, m->c,
                                              m->c, &m->algo,
                                              &result) == CUBLAS_STATUS_SUCCESS &&
               result.workspaceSize <= kept.flag;
    }
    m->workspace = kept.flag;
    m->us = (float)kept.ns / 1000;
    snprintf(m->text, sizeof m->text, "%s", kept.name);
    device->machine.host.release(kept.text);
    return good;
}

static void remember(struct vgg__cudnn *device, const struct vgg__matmul_shape *shape,
                     const struct vgg__matmul *m)
{
    char text[QUESTION], algorithm[sizeof m->algo];
    memcpy(algorithm, &m->algo, sizeof algorithm);
    struct vgg__cached answer = {.flag = (uint32_t)m->workspace,
                                 .ns = (uint32_t)lroundf(m->us * 1000),
                                 .text = algorithm,
                                 .length = sizeof algorithm};
    snprintf(answer.name, sizeof answer.name, "%s", m->text);
    question(shape, text);
    vgg__cache_save(device, text, &answer);
}

/* A product to be timed. */
struct candidate {
    struct vgg__cudnn *device;
    const struct vgg__matmul *product;
    const struct vgg__matmul_scratch *scratch;
};

static vgg_status run_candidate(const void *cookie)
{
    const struct candidate *c = cookie;
    return vgg__matmul_run(c->device, c->device->stream, c->product, c->scratch);
}

static void take(struct vgg__cudnn *device,
                 const cublasLtMatmulHeuristicResult_t *found, struct vgg__matmul *m)
{
    m->algo = found->algo;
    m->workspace = found->workspaceSize;
    name_algorithm(device, m);
}

/* The fastest of several, or the first where none can be timed. */
static void choose(struct vgg__cudnn *device, struct vgg__matmul *m,
                   const cublasLtMatmulHeuristicResult_t *found, int count,
                   const struct vgg__matmul_scratch *scratch)
{
    float best = -1;
    int best_at = 0;
    for (int i = 0; count > 1 && i < count; i++) {
        m->algo = found[i].algo;
        m->workspace = found[i].workspaceSize;
        const float us = vgg__cudnn_time(device, run_candidate,
                                         &(struct candidate){device, m, scratch});
        if (us < 0 || (best >= 0 && us >= best)) continue;
        best = us;
        best_at = i;
    }
    take(device, &found[best_at], m);
    m->us = best > 0 ? best : 0;
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
    if (status == CUBLAS_STATUS_SUCCESS && tries > 1 && recall(device, shape, out))
        return VGG_OK;
    if (status == CUBLAS_STATUS_SUCCESS)
        status = list_algorithms(device, out, tries < MOST ? (int)tries : MOST, found,
                                 &count);
    if (status == CUBLAS_STATUS_SUCCESS && count > 0) {
        choose(device, out, found, count, scratch);
        /* What could not be timed is no choice to keep. */
        if (out->us > 0 && !device->lost) remember(device, shape, out);
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
