/* SPDX-License-Identifier: Apache-2.0 */
/* Faults with matrix products, and that a sound one gives the right numbers. */
#include "harness.h"
#include "planted.h"

/* d [2][3] = a [2][4] b [4][3], column-major. */
enum { M = 2, N = 3, K = 4 };

struct product {
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found[8];
    int count;
    float *a_at, *b_at, *d_at;
    void *workspace;
    size_t workspace_size;
    cudaStream_t stream;
};

/* For algorithms for d = a b + c. */
static cublasStatus_t ask(struct product *p, cublasLtMatrixLayout_t c,
                          cublasLtMatrixLayout_t d)
{
    return api->ltMatmulAlgoGetHeuristic(p->lt, p->desc, p->a, p->b, c, d,
                                         p->preference, 8, p->found, &p->count);
}

static void choose(struct product *p, size_t workspace, uint32_t alignment)
{
    ck_good(api->ltMatmulPreferenceSetAttribute(
        p->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
        sizeof workspace));
    for (int i = 0; alignment > 0 && i < 4; i++)
        ck_good(api->ltMatmulPreferenceSetAttribute(
            p->preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i, &alignment,
            sizeof alignment));
    ck_good(ask(p, p->d, p->d));
}

static void begin(struct product *p)
{
    static const float a[M * K] = {1, 2, 3, 4, 5, 6, 7, 8},
                             b[K * N] = {1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1};
    *p = (struct product){.stream = new_stream(),
                          .a_at = new_memory(256),
                          .b_at = new_memory(256),
                          .d_at = new_memory(256),
                          .workspace = new_memory(4096),
                          .workspace_size = 4096};
    put_floats(p->a_at, a, M * K, p->stream);
    put_floats(p->b_at, b, K * N, p->stream);
    ck_good(api->ltCreate(&p->lt));
    ck_good(api->ltMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    ck_good(api->ltMatrixLayoutCreate(&p->a, CUDA_R_32F, M, K, M));
    ck_good(api->ltMatrixLayoutCreate(&p->b, CUDA_R_32F, K, N, K));
    ck_good(api->ltMatrixLayoutCreate(&p->d, CUDA_R_32F, M, N, M));
    ck_good(api->ltMatmulPreferenceCreate(&p->preference));
    choose(p, 4096, 0);
}

static cublasStatus_t run_with(struct product *p, const cublasLtMatmulAlgo_t *algo,
                               const void *alpha, const void *beta)
{
    return api->ltMatmul(p->lt, p->desc, alpha, p->a_at, p->a, p->b_at, p->b, beta,
                         p->d_at, p->d, p->d_at, p->d, algo, p->workspace,
                         p->workspace_size, p->stream);
}

static cublasStatus_t run(struct product *p)
{
    static const float one = 1, zero = 0;
    return run_with(p, &p->found[0].algo, &one, &zero);
}

static void expect(struct product *p, const float want[M * N])
{
    float got[M * N];
    get_floats(p->d_at, got, M * N, p->stream);
    for (int i = 0; i < M * N; i++) ck_assert_float_eq(got[i], want[i]);
}

/* Unwritten memory under d is NaN, and must not come in with a beta of 0. */
START_TEST(numbers)
{
    struct product p;
    begin(&p);
    ck_assert_int_gt(p.count, 3);
    for (int i = 0; i < p.count; i++) {
        if (p.found[i].state != CUBLAS_STATUS_SUCCESS) continue;
        const float one = 1, two = 2, zero = 0;
        ck_good(run_with(&p, &p.found[i].algo, &one, &zero));
        expect(&p, (float[]){1, 2, 3, 4, 16, 20});
        ck_good(run_with(&p, &p.found[i].algo, &two, &one));
        expect(&p, (float[]){3, 6, 9, 12, 48, 60});
    }
    planted_no_complaint();
}
END_TEST

START_TEST(across)
{
    struct product p;
    begin(&p);
    const int32_t op = CUBLAS_OP_T;
    ck_good(api->ltMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_TRANSA, &op,
                                          sizeof op));
    ck_refused(ask(&p, p.d, p.d), CUBLAS_STATUS_INVALID_VALUE, "a and b do not fit");
    ck_good(api->ltMatrixLayoutDestroy(p.a));
    ck_good(api->ltMatrixLayoutCreate(&p.a, CUDA_R_32F, K, M, K));
    choose(&p, 4096, 0);
    put_floats(p.a_at, (float[]){1, 3, 5, 7, 2, 4, 6, 8}, 8, p.stream);
    ck_good(run(&p));
    expect(&p, (float[]){1, 2, 3, 4, 16, 20});
    planted_no_complaint();
}
END_TEST

/* One of the four layouts is another, or a transposition is none that is known. */
START_TEST(shapes)
{
    struct product p;
    cublasLtMatrixLayout_t other;
    begin(&p);
    ck_good(api->ltMatrixLayoutCreate(&other, CUDA_R_32F, M, N + 1, M));
    ck_refused(ask(&p, other, other), CUBLAS_STATUS_INVALID_VALUE,
               "a and b do not fit d");
    ck_refused(ask(&p, other, p.d), CUBLAS_STATUS_INVALID_VALUE, "c does not fit d");
    ck_refused(ask(&p, NULL, p.d), CUBLAS_STATUS_INVALID_VALUE,
               "GetHeuristic: an object is missing");
    const int32_t op = CUBLAS_OP_C;
    ck_good(api->ltMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_TRANSB, &op,
                                          sizeof op));
    ck_refused(ask(&p, p.d, p.d), CUBLAS_STATUS_INVALID_VALUE, "neither N nor T");
}
END_TEST

START_TEST(attributes)
{
    struct product p;
    begin(&p);
    const int32_t mode = CUBLASLT_POINTER_MODE_DEVICE;
    const uint64_t space = 0;
    ck_refused(api->ltMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_POINTER_MODE,
                                             &mode, sizeof mode),
               CUBLAS_STATUS_INVALID_VALUE, "is not simulated");
    ck_refused(api->ltMatmulDescSetAttribute((cublasLtMatmulDesc_t)p.a,
                                             CUBLASLT_MATMUL_DESC_TRANSA, &mode,
                                             sizeof mode),
               CUBLAS_STATUS_INVALID_VALUE, "DescSetAttribute: no description");
    ck_refused(api->ltMatmulPreferenceSetAttribute(
                   (cublasLtMatmulPreference_t)p.desc,
                   CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &space, sizeof space),
               CUBLAS_STATUS_INVALID_VALUE, "SetAttribute: no preference");
    int32_t value = 0;
    ck_refused(api->ltMatmulAlgoConfigGetAttribute(
                   &p.found[0].algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &value,
                   sizeof value, NULL),
               CUBLAS_STATUS_INVALID_VALUE, "of an algorithm is not simulated");
}
END_TEST

START_TEST(other_device)
{
    struct product p;
    vgg__simulated.devices[1] = "T4";
    begin(&p);
    ck_good(api->setDevice(1));
    p.stream = new_stream();
    ck_refused(run(&p), CUBLAS_STATUS_INVALID_VALUE, "another device's handle");
}
END_TEST

/* c may be d, and nothing in between. */
START_TEST(beside_c)
{
    struct product p;
    begin(&p);
    const float one = 1;
    choose(&p, 4096, 4);
    const cublasLtMatmulAlgo_t *algo = &p.found[0].algo;
    ck_refused(api->ltMatmul(p.lt, p.desc, &one, p.a_at, p.a, p.b_at, p.b, &one,
                             p.d_at + 1, p.d, p.d_at, p.d, algo, p.workspace,
                             p.workspace_size, p.stream),
               CUBLAS_STATUS_INVALID_VALUE, "d overlaps c, but is not c");
    ck_refused(api->ltMatmul(p.lt, p.desc, &one, p.a_at, p.a, p.b_at, p.b, &one, NULL,
                             p.d, p.d_at, p.d, algo, p.workspace, p.workspace_size,
                             p.stream),
               CUBLAS_STATUS_INVALID_VALUE, "a matrix is NULL");
}
END_TEST

/* What the preference does not say is a promise of 256 bytes. */
START_TEST(alignment)
{
    struct product p;
    begin(&p);
    p.b_at += 4;
    ck_refused(run(&p), CUBLAS_STATUS_INVALID_VALUE, "b is not aligned to 256");
    choose(&p, 4096, 16);
    ck_good(run(&p));
    p.b_at -= 3;
    ck_refused(run(&p), CUBLAS_STATUS_INVALID_VALUE, "b is not aligned to 16");
}
END_TEST

START_TEST(space)
{
    struct product p;
    begin(&p);
    ck_assert_uint_gt(p.found[0].workspaceSize, 0);
    p.workspace_size = p.found[0].workspaceSize - 1;
    ck_refused(run(&p), CUBLAS_STATUS_INVALID_VALUE, "of work space, the algorithm");
    p.workspace_size = 4096;
    p.workspace = (char *)p.workspace + 16;
    ck_refused(run(&p), CUBLAS_STATUS_INVALID_VALUE, "not aligned to 256");
    p.workspace = NULL;
    ck_refused(run(&p), CUBLAS_STATUS_INVALID_VALUE, "no device memory");
    choose(&p, 0, 0); /* one without */
    ck_assert_uint_eq(p.found[0].workspaceSize, 0);
    ck_good(run(&p));
}
END_TEST

START_TEST(wrong_algorithm)
{
    struct product p;
    begin(&p);
    const float one = 1, zero = 0;
    ck_assert_int_eq(p.found[p.count - 1].state, CUBLAS_STATUS_NOT_SUPPORTED);
    ck_refused(run_with(&p, &p.found[p.count - 1].algo, &one, &zero),
               CUBLAS_STATUS_INVALID_VALUE, "marked as not supported");
    cublasLtMatrixLayout_t wider;
    ck_good(api->ltMatrixLayoutCreate(&wider, CUDA_R_32F, M, N, M + 1));
    p.d = wider;
    ck_refused(run(&p), CUBLAS_STATUS_INVALID_VALUE, "another product's");
    ck_refused(run_with(&p, NULL, &one, &zero), CUBLAS_STATUS_INVALID_VALUE,
               "no algorithm");
}
END_TEST

/* What was put aside and comes back is looked at without misuse. */
START_TEST(kept_algorithm)
{
    struct product p;
    begin(&p);
    cublasLtMatmulHeuristicResult_t result = {0};
    cublasLtMatmulAlgo_t other = p.found[0].algo;
    ck_good(api->ltMatmulAlgoCheck(p.lt, p.desc, p.a, p.b, p.d, p.d, &other, &result));
    ck_assert_uint_eq(result.workspaceSize, p.found[0].workspaceSize);
    other.data[1] ^= 1;
    ck_assert_int_eq(
        api->ltMatmulAlgoCheck(p.lt, p.desc, p.a, p.b, p.d, p.d, &other, &result),
        CUBLAS_STATUS_INVALID_VALUE);
    int32_t parts = 0;
    ck_good(api->ltMatmulAlgoConfigGetAttribute(
        &p.found[0].algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts, NULL));
    ck_assert_int_eq(parts, 2);
    planted_no_complaint();
    ck_refused(api->ltMatmulAlgoConfigGetAttribute(
                   &p.found[0].algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, 2, NULL),
               CUBLAS_STATUS_INVALID_VALUE, "2 bytes, not 4");
    ck_refused(
        api->ltMatmulAlgoCheck(p.lt, p.desc, p.a, p.b, NULL, p.d, &other, &result),
        CUBLAS_STATUS_INVALID_VALUE, "an object is missing");
}
END_TEST

START_TEST(bounds)
{
    struct product p;
    begin(&p);
    p.a_at = new_memory(256);
    choose(&p, 4096, 4);
    p.a_at += 57; /* 7 floats before the end, 8 are read */
    ck_refused(run(&p), CUBLAS_STATUS_EXECUTION_FAILED, "a: 32 bytes from byte 228");
    p.a_at = p.d_at + 2;
    ck_refused(run(&p), CUBLAS_STATUS_INVALID_VALUE, "d overlaps a or b");
    cublasLtMatrixLayout_t flat;
    ck_refused(api->ltMatrixLayoutCreate(&flat, CUDA_R_32F, M, K, M - 1),
               CUBLAS_STATUS_INVALID_VALUE, "leading dimension 1");
    p.stream = NULL;
    ck_refused(run(&p), CUBLAS_STATUS_INVALID_VALUE, "default stream");
}
END_TEST

START_TEST(released_before)
{
    struct product p;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    begin(&p);
    ck_good(api->streamBeginCapture(p.stream, cudaStreamCaptureModeThreadLocal));
    ck_good(run(&p));
    ck_good(api->streamEndCapture(p.stream, &graph));
    ck_good(api->graphInstantiate(&exec, graph, 0));
    ck_good(api->free(p.a_at));
    ck_good(api->graphLaunch(exec, p.stream));
    ck_refused(api->streamSynchronize(p.stream), cudaErrorIllegalAddress,
               "when carried out: a: 32 bytes from byte 0 of released memory");
}
END_TEST

/* Two products that share work space in streams that do not wait for each other: found
 * out where their steps come in between each other. */
START_TEST(shared_space)
{
    int found = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        planted_begin();
        vgg__simulated.seed = seed;
        struct product p, q;
        begin(&p);
        begin(&q);
        q.workspace = p.workspace;
        ck_good(run(&p));
        ck_good(run(&q));
        api->streamSynchronize(p.stream);
        api->streamSynchronize(q.stream);
        found += planted_seen("written by other work");
    }
    ck_assert_int_gt(found, 2);
}
END_TEST

START_TEST(gone)
{
    struct product p;
    begin(&p);
    ck_good(api->ltMatmulDescDestroy(p.desc));
    ck_refused(run(&p), CUBLAS_STATUS_INVALID_VALUE, "an object is missing");
    ck_refused(api->ltMatmulDescDestroy(p.desc), CUBLAS_STATUS_INVALID_VALUE,
               "no product description");
    ck_refused(api->ltMatrixLayoutDestroy((cublasLtMatrixLayout_t)p.lt),
               CUBLAS_STATUS_INVALID_VALUE, "no matrix layout");
    const uint64_t wide = 16;
    ck_refused(api->ltMatmulPreferenceSetAttribute(
                   p.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &wide,
                   sizeof wide),
               CUBLAS_STATUS_INVALID_VALUE, "has 4 bytes, not 8");
    planted_begin();
    ck_good(api->ltCreate(&p.lt));
    ck_assert_str_eq(vgg__simulated_leak(), "a cuBLASLt object (handle)");
    ck_good(api->ltDestroy(p.lt));
    ck_assert_ptr_null(vgg__simulated_leak());
}
END_TEST

/* No bf16 on a GPU that has none; and that is no misuse. */
START_TEST(unsupported)
{
    vgg__simulated.devices[0] = "T4";
    struct product p;
    begin(&p);
    ck_good(api->ltMatrixLayoutCreate(&p.a, CUDA_R_16BF, M, K, M));
    ck_good(api->ltMatrixLayoutCreate(&p.b, CUDA_R_16BF, K, N, K));
    ck_assert_int_eq(ask(&p, p.d, p.d), CUBLAS_STATUS_NOT_SUPPORTED);
    planted_no_complaint();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("planted lt");
    TCase *tcase = tcase_create("faults");
    tcase_add_checked_fixture(tcase, planted_begin, NULL);
    tcase_add_test(tcase, numbers);
    tcase_add_test(tcase, shapes);
    tcase_add_test(tcase, attributes);
    tcase_add_test(tcase, across);
    tcase_add_test(tcase, other_device);
    tcase_add_test(tcase, beside_c);
    tcase_add_test(tcase, alignment);
    tcase_add_test(tcase, space);
    tcase_add_test(tcase, wrong_algorithm);
    tcase_add_test(tcase, kept_algorithm);
    tcase_add_test(tcase, bounds);
    tcase_add_test(tcase, released_before);
    tcase_add_test(tcase, shared_space);
    tcase_add_test(tcase, gone);
    tcase_add_test(tcase, unsupported);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
