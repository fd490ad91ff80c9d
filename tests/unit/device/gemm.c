/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products of the CPU engine: every provider and instruction set against loops
 * in double, exactly where the numbers are small integers. */
#include "harness.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/gemm.h"
#include "device/device.h"

#define GUARD 32 /* floats around C and between its rows */

/* What to open: the own kernel of each instruction set, then OpenBLAS. */
static const struct {
    uint32_t gemm, most;
} providers[] = {{VGG_GEMM_OWN, VGG_ISA_BASE},
                 {VGG_GEMM_OWN, VGG_ISA_AVX2},
                 {VGG_GEMM_OWN, VGG_ISA_AVX512},
                 {VGG_GEMM_OPENBLAS, VGG_ISA_AVX512}};
enum { PROVIDERS = sizeof(providers) / sizeof(providers[0]) };

static const struct {
    size_t m, n, k;
} sizes[] = {{1, 1, 1},     {1, 16, 9},    {2, 17, 3},    {3, 5, 7},
             {5, 33, 20},   {6, 16, 64},   {7, 31, 13},   {13, 32, 40},
             {14, 32, 144}, {15, 48, 100}, {27, 65, 11},  {28, 8, 513},
             {56, 64, 65},  {113, 20, 31}, {200, 37, 70}, {9, 40, 1100}};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* The four ways in which operands may lie, and whether b is packed. */
enum { WAYS = 6 };

static vgg_context *context;
static vgg_host host;

static void set_up(void)
{
    ck_ok(vgg_context_create(NULL, &context));
    vgg__host_fill(context, &host);
}

static void tear_down(void)
{
    ck_assert_uint_eq(vgg_context_bytes(context), 0);
    vgg_context_free(context);
}

/* Open provider `index`; false if this machine lacks it. */
static bool open_provider(int index, struct vgg__gemm *gemm)
{
    const struct vgg__gemm_options options = {
        .gemm = providers[index].gemm, .workers = 2, .most = providers[index].most};
    const vgg_status status = vgg__gemm_open(&host, &options, gemm);
    if (options.gemm == VGG_GEMM_OPENBLAS && status == VGG_EDEVICE) return false;
    ck_ok(status);
    if (options.gemm == VGG_GEMM_OPENBLAS || gemm->kernels->isa == options.most)
        return true;
    vgg__gemm_close(gemm);
    return false;
}

/* The scratch is full of NaN: a product must not read what it did not pack. */
static void run(const struct vgg__gemm *gemm, const struct vgg__product *product)
{
    float *scratch = malloc((VGG__GEMM_SCRATCH + 1) * sizeof(float));
    for (size_t i = 0; i < VGG__GEMM_SCRATCH; i++) scratch[i] = NAN;
    scratch[VGG__GEMM_SCRATCH] = 77;
    vgg__gemm_run(gemm, product, scratch);
    ck_assert_float_eq(scratch[VGG__GEMM_SCRATCH], 77);
    free(scratch);
}

static uint32_t state;

/* Whole numbers -4..4, or fractions in [-1, 1). */
static float draw(bool whole)
{
    state = state * 1664525u + 1013904223u;
    if (whole) return (float)((int32_t)((state >> 16) % 9) - 4);
    return (float)(int32_t)state * 0x1p-31f;
}

struct problem {
    struct vgg__product p;
    float *a, *b, *c, *packed;
    double *expected, *magnitude; /* [m][n]; magnitude: sum of |a| |b| */
};

/* Operands in one of the ways; rows at odd strides and off the vectors' alignment. */
static struct problem make(size_t m, size_t n, size_t k, int way, bool whole)
{
    const bool ta = way & 1, tb = way & 2;
    struct problem q = {.p = {.m = m, .n = n, .k = k}};
    const size_t a_long = (ta ? m : k) + 3, b_long = (tb ? k : n) + 5;
    q.p.a_row = ta ? 1 : a_long;
    q.p.a_col = ta ? a_long : 1;
    q.p.b_row = tb ? 1 : b_long;
    q.p.b_col = tb ? b_long : 1;
    q.p.c_row = n + GUARD;
    const size_t a_count = a_long * (ta ? k : m), b_count = b_long * (tb ? n : k);
    q.a = malloc((a_count + 1) * sizeof(float));
    q.b = malloc((b_count + 1) * sizeof(float));
    q.c = malloc((m + 2) * q.p.c_row * sizeof(float));
    q.expected = calloc(m * n, sizeof(double));
    q.magnitude = calloc(m * n, sizeof(double));
    for (size_t i = 0; i < a_count; i++) q.a[i + 1] = draw(whole);
    for (size_t i = 0; i < b_count; i++) q.b[i + 1] = draw(whole);
    q.p.a = q.a + 1;
    q.p.b = q.b + 1;
    q.p.c = q.c + q.p.c_row + 1;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t l = 0; l < k; l++) {
                const double term = (double)q.p.a[i * q.p.a_row + l * q.p.a_col] *
                                    q.p.b[l * q.p.b_row + j * q.p.b_col];
                q.expected[i * n + j] += term;
                q.magnitude[i * n + j] += fabs(term);
            }
    return q;
}

static void fill_c(struct problem *q, float value)
{
    for (size_t i = 0; i < (q->p.m + 2) * q->p.c_row; i++) q->c[i] = value;
}

static void drop(struct problem *q)
{
    free(q->a);
    free(q->b);
    free(q->c);
    free(q->packed);
    free(q->expected);
    free(q->magnitude);
}

static void pack(const struct vgg__gemm *gemm, struct problem *q)
{
    const size_t count = vgg__gemm_packed_count(gemm, q->p.k, q->p.n);
    q->packed = malloc((count + 1) * sizeof(float));
    q->packed[count] = 77;
    for (size_t i = vgg__gemm_panels(gemm, q->p.n); i-- > 0;)
        vgg__gemm_pack(gemm, &q->p, i, q->packed);
    ck_assert_float_eq(q->packed[count], 77);
    q->p.b = q->packed;
    q->p.packed = true;
}

/* Everything around C is as it was. */
static void check_guards(const struct problem *q, float value)
{
    for (size_t i = 0; i < (q->p.m + 2) * q->p.c_row; i++) {
        const size_t at = i - q->p.c_row - 1;
        const bool inside =
            i > q->p.c_row && at / q->p.c_row < q->p.m && at % q->p.c_row < q->p.n;
        if (!inside && q->c[i] != value) ck_abort_msg("written at %zu", i);
    }
}

/* Sums of whole numbers are exact in any order; others are within a rounding per term.
 */
static void check_values(const struct problem *q, double before, bool whole)
{
    for (size_t i = 0; i < q->p.m; i++)
        for (size_t j = 0; j < q->p.n; j++) {
            const size_t at = i * q->p.n + j;
            const double error =
                fabs(q->p.c[i * q->p.c_row + j] - (q->expected[at] + before));
            const double most = whole ? 0
                                      : (double)(q->p.k + 1) * 0x1p-24 *
                                            (q->magnitude[at] + fabs(before));
            if (!(error <= most))
                ck_abort_msg("%zux%zux%zu at %zu, %zu: off by %g, allowed %g", q->p.m,
                             q->p.n, q->p.k, i, j, error, most);
        }
}

static void check_problem(const struct vgg__gemm *gemm, int size, int way, bool whole)
{
    struct problem q =
        make(sizes[size].m, sizes[size].n, sizes[size].k, way % 4, whole);
    if (way >= 4) {
        q.p.b = q.b + 1;
        pack(gemm, &q);
    }
    fill_c(&q, NAN); /* overwriting must not read */
    run(gemm, &q.p);
    check_values(&q, 0, whole);
    fill_c(&q, 3);
    q.p.accumulate = true;
    run(gemm, &q.p);
    check_values(&q, 3, whole);
    check_guards(&q, 3);
    drop(&q);
}

START_TEST(test_values)
{
    struct vgg__gemm gemm;
    state = 1;
    if (!open_provider(_i, &gemm)) return;
    for (int size = 0; size < SIZES; size++)
        for (int way = 0; way < WAYS; way++) {
            check_problem(&gemm, size, way, true);
            check_problem(&gemm, size, way, false);
        }
    vgg__gemm_close(&gemm);
}
END_TEST

/* Operands whose rows lie at multiples of 4 KiB are copied first. */
START_TEST(test_far_rows)
{
    struct vgg__gemm gemm;
    if (!open_provider(_i, &gemm)) return;
    for (int way = 0; way < 2; way++) {
        const size_t m = 200, n = 40, k = 530, far = 1024;
        float *a = calloc(far * (way ? k : m), sizeof(float));
        float *b = malloc(k * n * sizeof(float)), *c = malloc(m * n * sizeof(float));
        for (size_t i = 0; i < k * n; i++) b[i] = draw(true);
        for (size_t i = 0; i < m; i++)
            for (size_t l = 0; l < k; l++)
                a[way ? l * far + i : i * far + l] = draw(true);
        const struct vgg__product p = {.m = m,
                                       .n = n,
                                       .k = k,
                                       .a = a,
                                       .a_row = way ? 1 : far,
                                       .a_col = way ? far : 1,
                                       .b = b,
                                       .b_row = n,
                                       .b_col = 1,
                                       .c = c,
                                       .c_row = n};
        run(&gemm, &p);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0;
                for (size_t l = 0; l < k; l++)
                    sum += (double)a[i * p.a_row + l * p.a_col] * b[l * n + j];
                if (c[i * n + j] != sum) ck_abort_msg("differs at %zu, %zu", i, j);
            }
        free(a);
        free(b);
        free(c);
    }
    vgg__gemm_close(&gemm);
}
END_TEST

/* The same call gives the same bits; of the own kernel, also row by row. */
START_TEST(test_same_bits)
{
    struct vgg__gemm gemm;
    state = 7;
    if (!open_provider(_i, &gemm)) return;
    struct problem q = make(61, 70, 300, 0, false);
    const size_t bytes = (q.p.m + 2) * q.p.c_row * sizeof(float);
    float *first = malloc(bytes);
    fill_c(&q, 0);
    run(&gemm, &q.p);
    memcpy(first, q.c, bytes);
    for (uint32_t i = 0; i < 4; i++) {
        fill_c(&q, 0);
        run(&gemm, &q.p);
        ck_assert_mem_eq(first, q.c, bytes);
    }
    fill_c(&q, 0);
    for (size_t i = 0; i < q.p.m && gemm.blas == NULL; i++) {
        struct vgg__product row = q.p;
        row.m = 1;
        row.a += i * row.a_row;
        row.c += i * row.c_row;
        run(&gemm, &row);
    }
    if (gemm.blas == NULL) ck_assert_mem_eq(first, q.c, bytes);
    free(first);
    drop(&q);
    vgg__gemm_close(&gemm);
}
END_TEST

START_TEST(test_nothing_to_add)
{
    struct vgg__gemm gemm;
    if (!open_provider(_i, &gemm)) return;
    float c[6] = {1, 2, 3, 4, 5, 6};
    struct vgg__product p = {.m = 2,
                             .n = 2,
                             .a_row = 1,
                             .a_col = 1,
                             .b_row = 1,
                             .b_col = 1,
                             .c = c,
                             .c_row = 3,
                             .accumulate = true};
    run(&gemm, &p);
    ck_assert_float_eq(c[0], 1);
    p.accumulate = false;
    run(&gemm, &p);
    const float expected[6] = {0, 0, 3, 0, 0, 6};
    ck_assert_mem_eq(c, expected, sizeof(c));
    vgg__gemm_close(&gemm);
}
END_TEST

/* A NaN or an infinity in either operand reaches the elements that it belongs to. */
START_TEST(test_non_finite)
{
    struct vgg__gemm gemm;
    if (!open_provider(_i, &gemm)) return;
    struct problem q = make(20, 40, 30, 0, true);
    q.a[1 + 3 * q.p.a_row + 2] = NAN;
    q.b[1 + 5 * q.p.b_row + 7] = NAN;
    fill_c(&q, 0);
    run(&gemm, &q.p);
    for (size_t i = 0; i < q.p.m; i++)
        for (size_t j = 0; j < q.p.n; j++)
            ck_assert_int_eq(isnan(q.p.c[i * q.p.c_row + j]) != 0, i == 3 || j == 7);
    drop(&q);
    vgg__gemm_close(&gemm);
}
END_TEST

START_TEST(test_no_openblas)
{
    struct vgg__gemm_options options = {
        .workers = 1, .most = VGG_ISA_BASE, .library = "libvgg-has-no-such.so.9"};
    struct vgg__gemm gemm;
    ck_ok(vgg__gemm_open(&host, &options, &gemm));
    ck_assert_ptr_null(gemm.blas);
    ck_assert_ptr_nonnull(strstr(gemm.text, "gemm own (no OpenBLAS: can't load "
                                            "libvgg-has-no-such.so.9)"));
    ck_assert_str_eq(vgg_last_error(), "");
    vgg__gemm_close(&gemm);
    options.gemm = VGG_GEMM_OPENBLAS;
    ck_fails_with(vgg__gemm_open(&host, &options, &gemm), VGG_EDEVICE,
                  "can't load libvgg-has-no-such.so.9");
    options.library = "libm.so.6"; /* there, but not OpenBLAS */
    ck_fails_with(vgg__gemm_open(&host, &options, &gemm), VGG_EDEVICE, "lacks its");
}
END_TEST

/* From AVX2 on the own kernel and nothing is loaded; below, OpenBLAS if there. */
START_TEST(test_auto_follows_the_instruction_set)
{
    struct vgg__gemm_options options = {.workers = 1, .most = VGG_ISA_AVX512};
    struct vgg__gemm gemm;
    ck_ok(vgg__gemm_open(&host, &options, &gemm));
    if (gemm.kernels->isa >= VGG_ISA_AVX2) {
        ck_assert_ptr_null(gemm.blas);
        ck_assert_ptr_nonnull(
            strstr(gemm.text, "gemm own (ahead of OpenBLAS with AVX"));
    }
    vgg__gemm_close(&gemm);

    options.most = VGG_ISA_BASE;
    ck_ok(vgg__gemm_open(&host, &options, &gemm));
    ck_assert_ptr_nonnull(strstr(
        gemm.text, gemm.blas != NULL ? "gemm OpenBLAS 0." : "gemm own (no OpenBLAS"));
    vgg__gemm_close(&gemm);
}
END_TEST

START_TEST(test_own_says_so)
{
    const struct vgg__gemm_options options = {
        .gemm = VGG_GEMM_OWN, .workers = 1, .most = VGG_ISA_AVX512};
    struct vgg__gemm gemm;
    ck_ok(vgg__gemm_open(&host, &options, &gemm));
    ck_assert_str_eq(gemm.text, "gemm own (asked for)");
    vgg__gemm_close(&gemm);
}
END_TEST

static Suite *gemm_suite(void)
{
    Suite *suite = suite_create("gemm");
    TCase *products = tcase_create("products");
    tcase_add_checked_fixture(products, set_up, tear_down);
    tcase_set_timeout(products, 60);
    tcase_add_loop_test(products, test_values, 0, PROVIDERS);
    tcase_add_loop_test(products, test_far_rows, 0, PROVIDERS);
    tcase_add_loop_test(products, test_same_bits, 0, PROVIDERS);
    tcase_add_loop_test(products, test_nothing_to_add, 0, PROVIDERS);
    tcase_add_loop_test(products, test_non_finite, 0, PROVIDERS);
    suite_add_tcase(suite, products);
    TCase *choice = tcase_create("choice");
    tcase_add_checked_fixture(choice, set_up, tear_down);
    tcase_add_test(choice, test_no_openblas);
    tcase_add_test(choice, test_auto_follows_the_instruction_set);
    tcase_add_test(choice, test_own_says_so);
    suite_add_tcase(suite, choice);
    return suite;
}

int main(void)
{
    Suite *suites[] = {gemm_suite()};
    return harness_main(suites, 1);
}
