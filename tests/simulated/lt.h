/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated cuBLASLt: what its two files share. Matrices are column-major, as
 * there. */
#ifndef VGG_TEST_SIMULATED_LT_H
#define VGG_TEST_SIMULATED_LT_H

#include "inside.h"

struct lt_layout {
    cudaDataType type;
    int64_t rows, cols, ld;
};

struct lt_desc {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t across[2]; /* of a and b */
};

/* What an algorithm of the heuristics holds; it is good for its own problem alone. */
struct lt_algo {
    uint64_t magic, problem;
    uint64_t workspace;
    uint32_t scheme, align[4]; /* of a, b, c, d */
};

/* A product with everything checked. */
struct lt_call {
    struct lt_desc desc;
    struct lt_algo algo;
    struct lt_layout layouts[4]; /* a, b, c, d */
    const void *matrices[4];
    float alpha, beta;
    uint8_t *workspace;
};

size_t lt_element(cudaDataType type); /* 0: not simulated */
size_t lt_extent(const struct lt_layout *layout);
/* Rows and columns after the transposition that the description asks for. */
int64_t lt_rows(const struct lt_layout *layout, int32_t across);
int64_t lt_cols(const struct lt_layout *layout, int32_t across);

/* Parts of a sum that an algorithm makes one by one. */
static inline int32_t lt_parts(const struct lt_algo *algo)
{
    return algo->scheme == CUBLASLT_REDUCTION_SCHEME_NONE ? 1 : 2;
}

/* A misuse of cublasLtMatmul or its heuristics, each in its own place (site.h). */
#define lt_wrong(what)                                                                 \
    sim_lt_refuse(CUBLAS_STATUS_INVALID_VALUE, "cublasLtMatmul: %s", what)

/* Whether there is one in the call (lt_check.c). */
cublasStatus_t lt_check(const struct lt_call *call, size_t workspace_size);

/* Queue it (lt_run.c). */
cublasStatus_t lt_queue(const struct lt_call *call, cudaStream_t stream);

#endif
