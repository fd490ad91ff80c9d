/* SPDX-License-Identifier: Apache-2.0 */
/* vgg__kernel_linear_step against plain loops, bit for bit. */
#include <math.h>
#include <string.h>

#include "arrays.h"
#include "harness.h"

struct layer {
    uint32_t n, m, k;
};

/* Inside and beside tiles of 64 x 128 and slices of 128 or 32; the last is what a block
 * has more than one column of tiles of. */
static const struct layer layers[] = {
    {128, 64, 128}, {1, 1, 1},      {5, 10, 24},   {96, 10, 256}, {17, 72, 136},
    {3, 9, 5},      {130, 70, 140}, {33, 65, 131}, {8, 192, 264}, {300, 130, 12},
};

/* How a layer's numbers are kept and multiplied. */
struct way {
    enum vgg__type type;
    uint32_t tf32, shadow;
};

static const struct way ways[] = {
    {VGG__BF16, 0, 1}, {VGG__BF16, 1, 0}, {VGG__F32, 0, 0},
    {VGG__F32, 1, 0},  {VGG__F32, 1, 1},
};
#define WAYS (int)(sizeof ways / sizeof ways[0])

struct problem {
    struct vgg__linear_step_args args;
    float *before; /* weights */
};

static struct problem make(struct layer layer, struct way way,
                           const struct vgg__step *s)
{
    const size_t count = (size_t)layer.m * layer.k;
    struct problem p = {
        {.dz = smalls(way.type, (size_t)layer.n * layer.m, 1, 5, 0.125f),
         .x = smalls(way.type, (size_t)layer.n * layer.k, 2, 7, 0.25f),
         .w = smalls(VGG__F32, count, 3, 1000, 0.001f),
         .shadow = way.shadow ? array(count * 2) : NULL,
         .n = layer.n,
         .m = layer.m,
         .k = layer.k,
         .tf32 = way.tf32,
         .step = memcpy(array(sizeof *s), s, sizeof *s)},
        NULL};
    p.before = array(count * 4);
    memcpy(p.before, p.args.w, count * 4);
    return p;
}

static void run(const struct problem *p, enum vgg__type type)
{
    struct vgg__grid grid = vgg__linear_step_grid(&p->args);
    /* Blocks that have several tiles, or none. */
    if (grid.blocks[0] > 1) grid.blocks[0] = (grid.blocks[0] + 2) / 3 + 1;
    launch(&vgg__kernel_linear_step[type], grid,
           vgg__linear_step_shared(&p->args, type), &p->args);
}

static float gradient(const struct vgg__linear_step_args *a, enum vgg__type type,
                      size_t i, size_t j)
{
    double sum = 0;
    for (size_t n = 0; n < a->n; n++)
        sum += (double)element(a->dz, type, n * a->m + i) *
               (double)element(a->x, type, n * a->k + j);
    ck_assert_double_eq(sum, (double)(float)sum);
    return (float)sum;
}

static void same_bits(float found, float expected, const char *what, size_t index)
{
    uint32_t a, b;
    memcpy(&a, &found, 4);
    memcpy(&b, &expected, 4);
    ck_assert_msg(a == b, "%s %zu: %a, expected %a", what, index, (double)found,
                  (double)expected);
}

static void check(const struct problem *p, struct way way)
{
    const struct vgg__linear_step_args *const a = &p->args;
    const volatile float lr = a->step->lr, decay = a->step->weight_decay;
    for (size_t i = 0; i < a->m; i++)
        for (size_t j = 0; j < a->k; j++) {
            const size_t at = i * a->k + j;
            volatile float g = gradient(a, way.type, i, j), w = p->before[at];
            const volatile float decayed = decay * w;
            if (decay != 0) g = g + decayed;
            const volatile float change = lr * g;
            if (lr != 0) w = w - change;
            same_bits(a->w[at], w, "weight", at);
            if (a->shadow == NULL) continue;
            const uint16_t shadow = ((const uint16_t *)a->shadow)[at];
            ck_assert_uint_eq(shadow, bf16_of(w));
        }
}

START_TEST(layers_and_ways)
{
    const struct way way = ways[_i % WAYS];
    const struct vgg__step step = {.lr = 0.0625f, .weight_decay = 0.03f};
    const struct problem p = make(layers[_i / WAYS], way, &step);
    run(&p, way.type);
    check(&p, way);
    arrays_free();
}
END_TEST

START_TEST(no_decay)
{
    const struct vgg__step step = {.lr = 0.3f};
    for (int i = 0; i < WAYS; i++) {
        const struct problem p = make((struct layer){40, 70, 136}, ways[i], &step);
        p.args.w[3] = INFINITY; /* 0 * inf would be NaN */
        p.before[3] = INFINITY;
        run(&p, ways[i].type);
        check(&p, ways[i]);
        arrays_free();
    }
}
END_TEST

START_TEST(rate_of_zero)
{
    const struct vgg__step step = {.weight_decay = 0.5f};
    for (int i = 0; i < WAYS; i++) {
        const struct problem p = make((struct layer){16, 65, 128}, ways[i], &step);
        static const float odd[] = {-0.0f, INFINITY, -INFINITY, 1e-45f};
        memcpy(p.args.w, odd, sizeof odd);
        memcpy(p.before, odd, sizeof odd);
        memset(&p.args.w[4], 0xff, 4);
        run(&p, ways[i].type);
        ck_assert(memcmp(p.args.w, p.before, 16) == 0);
        const uint32_t nan = 0xffffffff;
        ck_assert(memcmp(&p.args.w[4], &nan, 4) == 0);
        const size_t rest = (size_t)65 * 128 - 5;
        ck_assert(memcmp(p.args.w + 5, p.before + 5, rest * 4) == 0);
        arrays_free();
    }
}
END_TEST

/* Products of 1 and numbers that TF32 has to round: halves go away from zero. */
START_TEST(tf32_rounds)
{
    static const float odd[4] = {1 + 0x1p-11f, -1 - 0x1p-11f, 1 + 0x1p-11f - 0x1p-23f,
                                 3};
    static const float expected[4] = {-1 - 0x1p-10f, 1 + 0x1p-10f, -1, -3};
    const struct vgg__step step = {.lr = 1};
    for (uint32_t of_x = 0; of_x < 2; of_x++) {
        const struct layer layer = {1, of_x ? 1 : 4, of_x ? 4 : 1};
        const struct problem p = make(layer, (struct way){VGG__F32, 1, 0}, &step);
        const float one = 1;
        memcpy((float *)p.args.dz, of_x ? &one : odd, layer.m * 4);
        memcpy((float *)p.args.x, of_x ? odd : &one, layer.k * 4);
        memset(p.args.w, 0, 16);
        run(&p, VGG__F32);
        for (size_t i = 0; i < 4; i++) same_bits(p.args.w[i], expected[i], "weight", i);
    }
    arrays_free();
}
END_TEST

#ifndef ON_GPU /* which does not tell */
/* No ldmatrix waits for a bank. */
START_TEST(banks)
{
    const struct vgg__step step = {.lr = 1};
    const struct problem p = make((struct layer){128, 64, 128}, ways[0], &step);
    uint64_t loads[2], conflicts[2];
    launch_counts(&loads[0], &conflicts[0]);
    run(&p, VGG__BF16);
    launch_counts(&loads[1], &conflicts[1]);
    ck_assert_uint_eq(loads[1] - loads[0], 8 * 8 * 4);
    ck_assert_uint_eq(conflicts[1] - conflicts[0], 0);
    arrays_free();
}
END_TEST
#endif

int main(void)
{
    Suite *const suite = suite_create("linear_step");
    TCase *const exact = tcase_create("exact");
    tcase_set_timeout(exact, 120);
    tcase_add_loop_test(exact, layers_and_ways, 0,
                        WAYS * (int)(sizeof layers / sizeof layers[0]));
    tcase_add_test(exact, no_decay);
    tcase_add_test(exact, rate_of_zero);
    tcase_add_test(exact, tf32_rounds);
#ifndef ON_GPU
    tcase_add_test(exact, banks);
#endif
    suite_add_tcase(suite, exact);
    return harness_main(&suite, 1);
}
