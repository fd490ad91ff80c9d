/* SPDX-License-Identifier: Apache-2.0 */
/* Philox4x32-10 against the known answers of the Random123 distribution (kat_vectors),
 * and how seed, purpose, step and index are packed into its key and counter. */
#include "core/random.h"

#include "harness.h"

struct answer {
    uint64_t seed, step, index;
    uint32_t purpose;
    uint32_t out[4];
};

/* counter = index lo, index hi, step lo, step hi << 16 | purpose; key = seed lo, hi. */
static const struct answer answers[] = {
    {0, 0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {UINT64_MAX,
     0xffffffffffff,
     UINT64_MAX,
     0xffff,
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {0x299f31d0a4093822,
     0x037013198a2e,
     0x85a308d3243f6a88,
     0x7344,
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

START_TEST(known_answer)
{
    const struct answer *a = &answers[_i];
    uint32_t out[4];
    vgg__random(a->seed, a->purpose, a->step, a->index, out);
    for (int i = 0; i < 4; i++) ck_assert_uint_eq(out[i], a->out[i]);
}
END_TEST

/* Each input alone changes the numbers, in its lowest and its highest bit. */
START_TEST(every_input_counts)
{
    const struct answer inputs[] = {
        {.seed = 1},  {.seed = 1ull << 63},  {.step = 1},    {.step = 1ull << 47},
        {.index = 1}, {.index = 1ull << 63}, {.purpose = 1}, {.purpose = 1u << 15},
    };
    uint32_t zero[4], out[4];
    vgg__random(0, 0, 0, 0, zero);
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        const struct answer *in = &inputs[i];
        vgg__random(in->seed, in->purpose, in->step, in->index, out);
        ck_assert_mem_ne(out, zero, sizeof out);
    }
}
END_TEST

START_TEST(uniform_bounds)
{
    ck_assert(vgg__uniform(0) == 0.0f);
    ck_assert(vgg__uniform(0xff) == 0.0f);
    ck_assert(vgg__uniform(0x100) == 0x1p-24f);
    ck_assert(vgg__uniform(0x80000000) == 0.5f);
    ck_assert(vgg__uniform(UINT32_MAX) == 1.0f - 0x1p-24f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/random");
    TCase *tcase = tcase_create("philox");
    tcase_add_loop_test(tcase, known_answer, 0, sizeof answers / sizeof *answers);
    tcase_add_test(tcase, every_input_counts);
    tcase_add_test(tcase, uniform_bounds);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
