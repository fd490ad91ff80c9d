/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulated cuBLASLt looks at before a product is queued. */
#include "lt.h"

static bool overlap(const struct lt_call *call, int i, int k)
{
    const uint8_t *a = call->matrices[i], *b = call->matrices[k];
    return a < b + lt_extent(&call->layouts[k]) && b < a + lt_extent(&call->layouts[i]);
}

static cublasStatus_t check_matrices(const struct lt_call *call)
{
    static const char *const letters = "abcd";
    char why[160];
    for (int i = 0; i < 4; i++) {
        if (!call->matrices[i]) return lt_wrong("a matrix is NULL");
        if ((uintptr_t)call->matrices[i] % call->algo.align[i] != 0 ||
            (uintptr_t)call->matrices[i] % lt_element(call->layouts[i].type) != 0)
            return sim_lt_refuse(
                CUBLAS_STATUS_INVALID_VALUE,
                "cublasLtMatmul: %c is not aligned to %u bytes, as the "
                "preference has promised",
                letters[i], call->algo.align[i]);
        if (!sim_device_range(call->matrices[i], lt_extent(&call->layouts[i]), why,
                              sizeof why))
            return sim_lt_refuse(CUBLAS_STATUS_EXECUTION_FAILED,
                                 "cublasLtMatmul: %c: %s", letters[i], why);
    }
    if (overlap(call, 3, 0) || overlap(call, 3, 1))
        return lt_wrong("d overlaps a or b");
    if (overlap(call, 3, 2) && (call->matrices[3] != call->matrices[2] ||
                                call->layouts[3].ld != call->layouts[2].ld))
        return lt_wrong("d overlaps c, but is not c");
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check_rest(const struct lt_call *call, size_t workspace_size)
{
    char why[160] = "";
    if (call->algo.workspace > workspace_size)
        return sim_lt_refuse(CUBLAS_STATUS_INVALID_VALUE,
                             "cublasLtMatmul: %zu bytes of work space, the algorithm "
                             "wants %llu",
                             workspace_size, (unsigned long long)call->algo.workspace);
    if (call->algo.workspace > 0 &&
        ((uintptr_t)call->workspace % 256 != 0 ||
         !sim_device_range(call->workspace, call->algo.workspace, why, sizeof why)))
        return sim_lt_refuse(
            CUBLAS_STATUS_INVALID_VALUE,
            "cublasLtMatmul: work space is not aligned to 256 bytes, or "
            "%s",
            why);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t lt_check(const struct lt_call *call, size_t workspace_size)
{
    const cublasStatus_t status = check_matrices(call);
    return status ? status : check_rest(call, workspace_size);
}
