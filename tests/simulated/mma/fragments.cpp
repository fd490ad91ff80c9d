/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions of isa.h against a second account of them, that of 8 x 8 core
 * matrices: a warp's register is a matrix of 8 rows, whose row r lies in lanes 4 r to
 * 4 r + 3, four bytes in each; a product's operands are 1, 2 or 4 of these, column by
 * column of cores, and `b` is held as its transpose. */
#include "arrays.h"
#include "cudnn/kernels/mma.cuh"

extern "C" {
#include "harness.h"
}

namespace
{

struct args {
    const uint32_t *in; /* [32 lanes][10]: a, b, c */
    uint32_t *out;      /* [32][4] */
    uint32_t what;
};

void products(args a)
{
    const uint32_t lane = threadIdx.x, *const in = a.in + 10 * lane;
    const uint32_t left[4] = {in[0], in[1], in[2], in[3]};
    float c[4], from[4];
    memcpy(c, in + 6, sizeof c);
    memcpy(from, in + 6, sizeof from);
    if (a.what == 0) vgg::multiply_bf16(c, left, in[4], in[5]);
    if (a.what == 1) vgg::multiply_tf32(c, left, in[4], in[5]);
    if (a.what == 2) vgg::multiply_bf16(c, left, in[4], in[5], from);
    memcpy(a.out + 4 * lane, c, sizeof c);
}

/* 32 rows of 16 bytes, which lie 48 bytes apart, the last first. */
void loads(args a)
{
    const uint32_t lane = threadIdx.x;
    uint8_t *const memory = vgg::dynamic_shared();
    const uint32_t at = (31 - lane) * 48;
    vgg::copy_async<16>(vgg::shared_at(memory + at), a.in + 4 * lane, true);
    vgg::copy_group();
    vgg::copy_wait<0>();
    __syncthreads();
    const uint32_t row = vgg::shared_at(memory) + at;
    uint32_t to[4], two[2];
    if (a.what == 0) vgg::load_matrices(to, row);
    if (a.what == 1) vgg::load_matrices_across(to, row);
    if (a.what == 2) {
        vgg::load_two_matrices_across(two, lane < 16 ? row : 0);
        memcpy(to, two, sizeof two);
        memcpy(to + 2, two, sizeof two);
    }
    memcpy(a.out + 4 * lane, to, sizeof to);
}

/* What lies beside where the instruction may read or write. */
void misaligned(args a)
{
    const uint32_t start = vgg::shared_at(vgg::dynamic_shared());
    uint32_t to[4];
    if (a.what == 0) vgg::copy_async<16>(start + 8, a.in, true);
    if (a.what == 1) vgg::copy_async<16>(start, a.in + 1, true);
    if (a.what == 2) vgg::load_matrices(to, start + 8);
}

const vgg__kernel misaligned_kernel = vgg::entry<misaligned>("misaligned", 32);
const vgg__kernel product_kernel = vgg::entry<products>("products", 32);
const vgg__kernel load_kernel = vgg::entry<loads>("loads", 32);
const vgg__grid one_warp = {{1, 1, 1}, {32, 1, 1}};

/* Element (row, col) of a core of `each`-byte elements in register `word` of each lane;
 * `stride` words a lane. */
void put(uint32_t *words, int stride, int row, int col, int each, float value)
{
    const int lane = row * 4 + col * each / 4;
    uint32_t *const to = words + lane * stride;
    const uint32_t bits = __float_as_uint(value);
    if (each == 4)
        *to = bits;
    else
        *to = col % 2 ? (*to & 0xffff) | (bits & 0xffff0000u)
                      : (*to & 0xffff0000u) | bits >> 16;
}

} // namespace

/* m16n8k16 of bf16 (each 2) and m16n8k8 of TF32 (each 4); bf16 into other registers. */
START_TEST(product_of_cores)
{
    const int each = _i == 1 ? 4 : 2, deep = 16 / each, depth = 2 * deep;
    uint32_t *const in = (uint32_t *)array(32 * 10 * 4);
    float *const out = (float *)array(32 * 4 * 4);
    float a[16][16], b[16][8], c[16][8];
    for (int row = 0; row < 16; row++)
        for (int col = 0; col < depth; col++) {
            a[row][col] = small(1, (size_t)(row * 16 + col), 100, 0.25f);
            const int core = row / 8 + col / deep * 2;
            put(in + core, 10, row % 8, col % deep, each, a[row][col]);
        }
    for (int row = 0; row < depth; row++)
        for (int col = 0; col < 8; col++) {
            b[row][col] = small(2, (size_t)(row * 8 + col), 100, 0.5f);
            put(in + 4 + row / deep, 10, col, row % deep, each, b[row][col]);
        }
    for (int row = 0; row < 16; row++)
        for (int col = 0; col < 8; col++) {
            c[row][col] = small(3, (size_t)(row * 8 + col), 1000, 1);
            const int lane = row % 8 * 4 + col / 2, word = row / 8 * 2 + col % 2;
            in[lane * 10 + 6 + word] = __float_as_uint(c[row][col]);
        }
    const args args = {in, (uint32_t *)out, (uint32_t)_i};
    launch(&product_kernel, one_warp, 0, &args);
    for (int row = 0; row < 16; row++)
        for (int col = 0; col < 8; col++) {
            float sum = c[row][col];
            for (int k = 0; k < depth; k++) sum += a[row][k] * b[k][col];
            const int lane = row % 8 * 4 + col / 2, word = row / 8 * 2 + col % 2;
            ck_assert_float_eq(out[lane * 4 + word], sum);
        }
    arrays_free();
}
END_TEST

/* Register i is core i, or its transpose; of two cores only the first two are. */
START_TEST(cores_from_rows)
{
    uint16_t *const in = (uint16_t *)array(32 * 8 * 2);
    uint32_t *const out = (uint32_t *)array(32 * 4 * 4);
    for (int i = 0; i < 32 * 8; i++) in[i] = (uint16_t)(i * 3 + 1);
    const args args = {(const uint32_t *)in, out, (uint32_t)_i};
    launch(&load_kernel, one_warp, 32 * 48, &args);
    for (int core = 0; core < 4; core++)
        for (int row = 0; row < 8; row++)
            for (int col = 0; col < 8; col++) {
                const int from = _i == 2 ? core % 2 : core;
                const uint16_t expected = in[(from * 8 + row) * 8 + col];
                const int r = _i == 0 ? row : col, c = _i == 0 ? col : row;
                const uint32_t word = out[(r * 4 + c / 2) * 4 + core];
                ck_assert_uint_eq(word >> c % 2 * 16 & 0xffff, expected);
            }
    arrays_free();
}
END_TEST

static const char *const faults[] = {"cp.async of 16 bytes", "cp.async of 16 bytes",
                                     "ldmatrix of a row at 8"};

START_TEST(found)
{
    const args args = {(const uint32_t *)array(64), nullptr, (uint32_t)_i};
    const char *const text = vgg__host_launch(&misaligned_kernel, one_warp, 64, &args);
    ck_assert_ptr_nonnull(text);
    ck_assert_msg(strstr(text, faults[_i]) != nullptr, "%s", text);
    vgg__site_caught(vgg__host_site());
    arrays_free();
}
END_TEST

int main()
{
    Suite *const suite = suite_create("fragments");
    TCase *const cores = tcase_create("cores");
    tcase_add_loop_test(cores, product_of_cores, 0, 3);
    tcase_add_loop_test(cores, cores_from_rows, 0, 3);
    tcase_add_loop_test(cores, found, 0, 3);
    suite_add_tcase(suite, cores);
    return harness_main(&suite, 1);
}
