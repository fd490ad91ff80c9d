/* SPDX-License-Identifier: Apache-2.0 */
/* What is flat stays flat: a convolution of a map whose pixels are all the same gives
 * the same at every pixel whose neighbours are all there, to the last bit and by every
 * algorithm and instruction set (but OpenBLAS, whose kernels may add in another order
 * at a matrix's end). A maximum behind it then sees ties, of which the first wins, as
 * in PyTorch.
 *
 * Sides are such that F(4x4)'s tiles end with the map or reach out from its last row:
 * others see zeros beside two flat rows. */
#include <stdio.h>

#include "compare.h"
#include "harness.h"
#include "targets.h"

static const char *const nets[] = {
    "3x12x13 conv3:16",  "16x12x17 conv3:9",  "16x13x16 conv3:40", "40x9x8 conv3:16",
    "130x12x12 conv3:8", "64x20x12 conv3:64", "16x12x12 conv1:16",
};
enum { NETS = sizeof nets / sizeof *nets, COUNT = 3 };

/* Samples differ from each other, and channels; values have all their bits. */
static void make_data(struct data *data, const struct net *net)
{
    const vgg_extent in = net->stages[0].in;
    const size_t plane = (size_t)in.h * in.w;
    data_create(data, net, COUNT, DATA_REAL, 3);
    for (size_t i = 0; i < COUNT * in.c * plane; i++)
        data->input[i] = i % plane > 0 ? data->input[i - 1] : data->input[i] * 0.739f;
}

START_TEST(outputs)
{
    const struct target *target = &targets[_i / NETS];
    if (target->gemm == VGG_GEMM_OPENBLAS) return;
    char text[64];
    struct net net;
    struct data data;
    struct outcome got;
    snprintf(text, sizeof text, "%s relu", nets[_i % NETS]);
    net_parse(&net, text);
    make_data(&data, &net);
    run_net(target, &net, &data, VGG_MODE_INFER, &got);
    const vgg_extent out = net.stages[0].out;
    size_t passed = 0;
    for (size_t i = 0; i < COUNT * (size_t)out.c; i++) {
        const double *map = got.output + i * out.h * out.w;
        for (size_t y = 1; y + 1 < out.h; y++)
            for (size_t x = 1; x + 1 < out.w; x++)
                if (map[y * out.w + x] != map[out.w + 1])
                    ck_abort_msg("%s, %s, map %zu: %.9g at row %zu, column %zu; %.9g",
                                 target->label, text, i, map[y * out.w + x], y, x,
                                 map[out.w + 1]);
        passed += map[out.w + 1] > 0;
    }
    ck_assert_uint_gt(passed, COUNT * (size_t)out.c / 4);
    outcome_free(&got);
    data_free(&data);
}
END_TEST

/* Gradients that come to windows of which no pixel is at an edge. */
static void keep_inner(struct data *data, const struct net *net)
{
    const vgg_extent out = net->stages[net->stage_count - 1].out;
    for (size_t i = 0; i < COUNT * net_output_count(net); i++) {
        const size_t y = i / out.w % out.h, x = i % out.w;
        if (y == 0 || x == 0 || y + 1 == out.h || x + 1 == out.w) data->dy[i] = 0;
    }
}

START_TEST(ties)
{
    const struct target *target = &targets[_i / NETS];
    if (target->gemm == VGG_GEMM_OPENBLAS) return;
    char text[64];
    struct net net;
    struct data data;
    struct outcome got, want;
    snprintf(text, sizeof text, "%s relu max", nets[_i % NETS]);
    net_parse(&net, text);
    make_data(&data, &net);
    keep_inner(&data, &net);
    run_net(target, &net, &data, VGG_MODE_GRAD, &got);
    run_net(&target_ref64, &net, &data, VGG_MODE_GRAD, &want);
    compare_label("%s, %s", target->label, text);
    compare_rough("dx", got.dx, want.dx, COUNT * net_input_count(&net),
                  target->tolerance);
    outcome_free(&got);
    outcome_free(&want);
    data_free(&data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("flat");
    TCase *tcase = tcase_create("maps");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, outputs, 0, NETS * (int)target_count);
    tcase_add_loop_test(tcase, ties, 0, NETS * (int)target_count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
