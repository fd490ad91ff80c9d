/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions of wgmma.h: against products that are put together core by core, and
 * each of its checks on a planted fault. */
#include "arrays.h"
#include "cudnn/kernels/wgmma.cuh"

extern "C" {
#include "harness.h"
}

namespace
{

constexpr uint32_t GROUPS = 2, THREADS = GROUPS * vgg::GROUP;
constexpr uint32_t LEFT = 0, RIGHT = 8192, SHARED = 16384; /* bytes */

enum fault {
    NONE,
    NOT_FENCED,
    NOT_ARRIVED,
    NOT_BEGUN,
    NOT_COMMITTED,
    NOT_WAITED,
    OVERWRITTEN,
    WARPS_DIFFER,
    BITS_OF_NOTHING,
    BARRIER_TOO_FEW,
    BARRIER_TWO_COUNTS
};

struct args {
    const uint8_t *in; /* SHARED bytes */
    float *out;        /* [THREADS][32] */
    uint64_t left, right;
    const uint32_t *held; /* [THREADS][4]; NULL: left is in shared memory */
    uint32_t columns, fault;
};

void bring(const args &a)
{
    const uint32_t start = vgg::shared_at(vgg::dynamic_shared());
    for (uint32_t at = threadIdx.x * 16; at < SHARED; at += THREADS * 16)
        vgg::copy_async<16>(start + at, a.in + at, true);
    vgg::copy_group();
    if (a.fault != NOT_ARRIVED || threadIdx.x != 5) vgg::copy_wait<0>();
    if (a.fault != NOT_FENCED || threadIdx.x != 5) vgg::fence_shared();
    __syncthreads();
}

template <int Columns> void multiply_twice(const args &a, float (&sum)[32])
{
    const uint32_t thread = threadIdx.x, warp = thread / 32;
    uint64_t right = a.right;
    if (a.fault == WARPS_DIFFER && warp == 6) right += 8;
    if (a.fault == BITS_OF_NOTHING) right |= (uint64_t)1 << 62;
    float(&part)[Columns / 2] = *(float(*)[Columns / 2]) sum;
    for (int add = 0; add < 2; add++)
        if (a.held == nullptr)
            vgg::multiply_group<Columns>(part, a.left, right, add);
        else
            vgg::multiply_group<Columns>(
                part, *(const uint32_t(*)[4])(a.held + thread * 4), right, add);
}

void meet(const args &a)
{
    const uint32_t group = threadIdx.x / vgg::GROUP, warp = threadIdx.x / 32;
    if (a.fault == BARRIER_TOO_FEW && warp == 1) return;
    if (a.fault == BARRIER_TWO_COUNTS && warp == 1)
        vgg__host_group_barrier(group + 1, 64, __FILE__, __LINE__);
    vgg::group_barrier(group);
}

void products(args a)
{
    float sum[32] = {};
    bring(a);
    meet(a);
    if (a.fault != NOT_BEGUN) vgg::products_begin();
    if (a.columns == 16) multiply_twice<16>(a, sum);
    if (a.columns == 32) multiply_twice<32>(a, sum);
    if (a.columns == 64) multiply_twice<64>(a, sum);
    if (a.fault != NOT_COMMITTED) vgg::products_commit();
    if (a.fault == OVERWRITTEN && threadIdx.x == 7)
        vgg::dynamic_shared()[RIGHT + 1] ^= 0x40;
    if (a.fault != NOT_WAITED) vgg::products_wait<0>();
    for (int i = 0; i < 32; i++) a.out[threadIdx.x * 32 + i] = sum[i];
}

const vgg__kernel kernel = vgg::entry<products>("products", THREADS);
const vgg__grid one_block = {{1, 1, 1}, {THREADS, 1, 1}};

/* What the memory holds: [row or column][k], cores `far` and `near` bytes apart. */
struct factors {
    float left[64][16], right[64][16];
    uint32_t near, far;
};

void put_core(uint8_t *memory, const float (*from)[16], int row, int k, bool turned)
{
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) {
            const uint16_t bits = bf16_of(from[row * 8 + i][k * 8 + j]);
            memcpy(memory + (turned ? j * 16 + i * 2 : i * 16 + j * 2), &bits, 2);
        }
}

args make(factors &f, bool held, uint32_t columns)
{
    uint8_t *const in = (uint8_t *)array(SHARED);
    uint32_t *const registers = (uint32_t *)array(THREADS * 16);
    memset(in, 0, SHARED);
    for (int i = 0; i < 64 * 16; i++) {
        f.left[i / 16][i % 16] = small(1, (size_t)i, 20, 0.25f);
        f.right[i / 16][i % 16] = small(2, (size_t)i, 20, 0.5f);
    }
    for (int row = 0; row < 8; row++)
        for (int k = 0; k < 2; k++) {
            const size_t at = row * f.far + k * f.near;
            put_core(in + LEFT + at, f.left, row, k, false);
            put_core(in + RIGHT + at, f.right, row, k, held);
        }
    /* Four cores a warp: rows 0 and 8 of k 0, then of k 8; four bytes a lane. */
    for (uint32_t i = 0; i < THREADS * 4; i++) {
        const uint32_t thread = i / 4, lane = thread % 32, core = i % 4;
        const uint32_t row = thread % 128 / 32 * 16 + core % 2 * 8 + lane / 4;
        const uint32_t k = core / 2 * 8 + lane % 4 * 2;
        registers[i] =
            (uint32_t)bf16_of(f.left[row][k + 1]) << 16 | bf16_of(f.left[row][k]);
    }
    return {in,
            (float *)array(THREADS * 32 * 4),
            vgg::matrix_at(LEFT, f.near, f.far),
            vgg::matrix_at(RIGHT, f.near, f.far),
            held ? registers : nullptr,
            columns,
            NONE};
}

void expect_products(const args &a, const factors &f)
{
    for (uint32_t thread = 0; thread < THREADS; thread++)
        for (uint32_t i = 0; i < a.columns / 2; i++) {
            const uint32_t row =
                thread % 128 / 32 * 16 + i / 2 % 2 * 8 + thread % 32 / 4;
            const uint32_t column = i / 4 * 8 + thread % 4 * 2 + i % 2;
            float sum = 0;
            for (int k = 0; k < 16; k++) sum += 2 * f.left[row][k] * f.right[column][k];
            ck_assert_float_eq(a.out[thread * 32 + i], sum);
        }
}

} // namespace

/* Bit 0: left held; bit 1: cores of a sum's direction far apart; then the columns. */
START_TEST(product_of_cores)
{
    factors f = {{}, {}, 128, 256};
    if (_i & 2) f = {{}, {}, 1040, 128};
    const args a = make(f, _i & 1, 16u << _i / 4);
    launch(&kernel, one_block, SHARED, &a);
    expect_products(a, f);
    arrays_free();
}
END_TEST

static const struct {
    fault what;
    const char *text; /* NULL: it goes through, with poison */
} faults[] = {
    {NOT_FENCED, "not arrived, or not fenced"},
    {NOT_ARRIVED, "not arrived, or not fenced"},
    {NOT_BEGUN, "without products_begin"},
    {NOT_COMMITTED, nullptr},
    {NOT_WAITED, nullptr},
    {OVERWRITTEN, "has changed before its end"},
    {WARPS_DIFFER, "is not that of the other warps"},
    {BITS_OF_NOTHING, "descriptor"},
    {BARRIER_TOO_FEW, "for 128 threads at barrier 1"},
    {BARRIER_TWO_COUNTS, "barrier 1 of"},
};

START_TEST(found)
{
    for (uint64_t seed = 0; seed < 6; seed++) {
        factors f = {{}, {}, 128, 256};
        args a = make(f, seed % 2 != 0, 32);
        a.fault = faults[_i].what;
        vgg__host_seed(seed);
        const char *const text = vgg__host_launch(&kernel, one_block, SHARED, &a);
        launch_forgotten(THREADS);
        if (faults[_i].text == nullptr) {
            ck_assert_ptr_null(text);
            ck_assert(a.out[0] != a.out[0]);
        } else {
            ck_assert_ptr_nonnull(text);
            ck_assert_msg(strstr(text, faults[_i].text) != nullptr, "%s", text);
            vgg__site_caught(vgg__host_site());
        }
        a.fault = NONE; /* and whoever comes next finds everything in order */
        launch(&kernel, one_block, SHARED, &a);
        expect_products(a, f);
        arrays_free();
    }
}
END_TEST

int main()
{
    Suite *const suite = suite_create("groups");
    TCase *const cores = tcase_create("cores");
    tcase_set_timeout(cores, 120);
    tcase_add_loop_test(cores, product_of_cores, 0, 12);
    tcase_add_loop_test(cores, found, 0, (int)(sizeof faults / sizeof faults[0]));
    suite_add_tcase(suite, cores);
    return harness_main(&suite, 1);
}
