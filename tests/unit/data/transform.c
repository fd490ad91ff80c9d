/* SPDX-License-Identifier: Apache-2.0 */
/* Transforms: each step against its definition, the order of the steps, what is random,
 * and wrong options. */
#include "harness.h"

#include "data/resize.h"
#include "data/transform.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define C 3
#define H 10
#define W 8

static uint8_t image[C][H][W];

static void setup(void)
{
    for (int c = 0; c < C; c++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++)
                image[c][y][x] = (uint8_t)(1 + c * 80 + y * W + x); /* all differ */
}

/* Apply to `image`; the result, [c][h][w] floats, is the caller's to free. */
static float *apply(const vgg_transform *transform, uint32_t h, uint32_t w, int train,
                    uint64_t index)
{
    const vgg_shape in = {3, {C, H, W}}, out = {3, {C, h, w}};
    vgg_tensor *input = NULL, *output = NULL;
    float *const result = malloc(C * h * w * sizeof *result);
    ck_ok(vgg_tensor_wrap(NULL, VGG_U8, &in, image, NULL, NULL, &input));
    ck_ok(vgg_tensor_wrap(NULL, VGG_F32, &out, result, NULL, NULL, &output));
    ck_ok(vgg_transform_apply(transform, input, train, 42, 7, index, output));
    vgg_tensor_free(input);
    vgg_tensor_free(output);
    return result;
}

START_TEST(default_divides_by_255)
{
    float *const plain = apply(NULL, H, W, 1, 0);
    for (int i = 0; i < C * H * W; i++)
        ck_assert(plain[i] == (float)((uint8_t *)image)[i] / 255.0f);
    free(plain);
}
END_TEST

START_TEST(normalizes_each_channel)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    ck_ok(vgg_transform_normalize(&transform, "imagenet"));
    static const float mean[3] = {0.485f, 0.456f, 0.406f},
                       std[3] = {0.229f, 0.224f, 0.225f};
    float *const out = apply(&transform, H, W, 0, 0);
    for (int c = 0; c < C; c++)
        for (int i = 0; i < H * W; i++) {
            const float value = (float)((uint8_t *)image[c])[i] / 255.0f;
            ck_assert(out[c * H * W + i] == (value - mean[c]) / std[c]);
        }
    free(out);
}
END_TEST

START_TEST(presets)
{
    static const struct {
        const char *name;
        float mean, std; /* of the first channel */
    } cases[] = {
        {"none", 0.0f, 1.0f},          {"imagenet", 0.485f, 0.229f},
        {"mnist", 0.1307f, 0.3081f},   {"fashion-mnist", 0.2860f, 0.3530f},
        {"cifar10", 0.4914f, 0.2470f}, {"cifar100", 0.5071f, 0.2673f},
    };
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.crop_height = 5;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_ok(vgg_transform_normalize(&transform, cases[i].name));
        ck_assert(transform.mean[0] == cases[i].mean &&
                  transform.std[0] == cases[i].std);
        ck_assert(transform.std[3] > 0.0f);
    }
    ck_assert_uint_eq(transform.crop_height, 5);
    ck_fails_with(vgg_transform_normalize(&transform, "ImageNet"), VGG_EINVAL,
                  "none, imagenet, fashion-mnist, mnist, cifar10 or cifar100");
    ck_fails(vgg_transform_normalize(NULL, "mnist"), VGG_EINVAL);
    ck_fails(vgg_transform_normalize(&transform, NULL), VGG_EINVAL);
    transform.size = 8;
    ck_fails(vgg_transform_normalize(&transform, "mnist"), VGG_EINVAL);
}
END_TEST

/* Offsets are torchvision's int(round((from - size) / 2.0)), half to even. */
START_TEST(centre_crop)
{
    static const struct {
        uint32_t size, top; /* of 10 rows */
    } cases[] = {{10, 0}, {9, 0}, {8, 1}, {7, 2}, {6, 2},
                 {5, 2},  {4, 3}, {3, 4}, {1, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vgg_transform transform = VGG_TRANSFORM_INIT;
        transform.crop_height = cases[i].size;
        transform.crop_width = 5; /* of 8: rest 3, so from 2 */
        float *const out = apply(&transform, cases[i].size, 5, 0, 0);
        for (uint32_t c = 0; c < C; c++)
            for (uint32_t y = 0; y < cases[i].size; y++)
                for (uint32_t x = 0; x < 5; x++)
                    ck_assert(out[(c * cases[i].size + y) * 5 + x] ==
                              (float)image[c][cases[i].top + y][2 + x] / 255.0f);
        free(out);
    }
}
END_TEST

/* Resize, then crop: the crop of what the resize gives. */
START_TEST(resize_before_crop)
{
    for (uint32_t rule = 0; rule < 3; rule++) {
        vgg_transform transform = VGG_TRANSFORM_INIT;
        transform.resize_rule = rule;
        transform.resize_height = 21;
        transform.resize_width = 14;
        transform.crop_height = 11;
        float *const out = apply(&transform, 11, 14, 0, 0);
        struct vgg__resize *resize = NULL;
        ck_ok(vgg__resize_create(NULL, (vgg_resize_rule)rule, (struct vgg__size){H, W},
                                 (struct vgg__size){21, 14}, &resize));
        for (int c = 0; c < C; c++) {
            uint8_t plane[21][14];
            vgg__resize_plane(resize, image[c][0], plane[0]);
            for (int y = 0; y < 11; y++)
                for (int x = 0; x < 14; x++)
                    ck_assert(out[(c * 11 + y) * 14 + x] ==
                              (float)plane[5 + y][x] / 255.0f);
        }
        vgg__resize_free(resize);
        free(out);
    }
}
END_TEST

/* What was drawn for a sample, found from its pixels: image values all differ. */
START_TEST(flip_and_shift_are_what_was_drawn)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.flip = 0.5f;
    transform.shift = 3;
    int flips = 0, downs[7] = {0}, rights[7] = {0};
    for (uint64_t index = 0; index < 700; index++) {
        struct vgg__augment augment;
        vgg__augment_draw(&transform, H, W, &(struct vgg__sample_place){42, 7, index},
                          &augment);
        float *const out = apply(&transform, H, W, 1, index);
        for (int c = 0; c < C; c++)
            for (int y = 0; y < H; y++)
                for (int x = 0; x < W; x++) {
                    const int from_y = y + augment.down;
                    const int from_x = (augment.flip ? W - 1 - x : x) + augment.right;
                    const bool inside =
                        from_y >= 0 && from_y < H && from_x >= 0 && from_x < W;
                    const uint8_t value = inside ? image[c][from_y][from_x] : 0;
                    ck_assert(out[(c * H + y) * W + x] == (float)value / 255.0f);
                }
        free(out);
        ck_assert(augment.down >= -3 && augment.down <= 3);
        ck_assert(augment.right >= -3 && augment.right <= 3);
        ck_assert_uint_eq(augment.erase.height, 0);
        flips += augment.flip;
        downs[augment.down + 3]++;
        rights[augment.right + 3]++;
    }
    /* Within 5 standard deviations of 350 of 700, and of 100 of 700. */
    ck_assert_int_ge(flips, 284);
    ck_assert_int_le(flips, 416);
    for (int i = 0; i < 7; i++) {
        ck_assert_int_ge(downs[i], 54);
        ck_assert_int_le(downs[i], 146);
        ck_assert_int_ge(rights[i], 54);
        ck_assert_int_le(rights[i], 146);
    }
}
END_TEST

/* The black of a shifted crop goes through the normalisation. */
START_TEST(fill_is_normalized)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    ck_ok(vgg_transform_normalize(&transform, "cifar10"));
    transform.shift = 3;
    const float black = (0.0f - 0.4914f) / 0.2470f;
    int shifted = 0;
    for (uint64_t index = 0; index < 20; index++) {
        struct vgg__augment augment;
        vgg__augment_draw(&transform, H, W, &(struct vgg__sample_place){42, 7, index},
                          &augment);
        float *const out = apply(&transform, H, W, 1, index);
        if (augment.down > 0) ck_assert(out[(H - 1) * W] == black);
        shifted += augment.down > 0;
        free(out);
    }
    ck_assert_int_gt(shifted, 0);
}
END_TEST

/* Erased pixels are 0 after normalising, in every channel, and no others are. */
START_TEST(erased_is_zero)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    ck_ok(vgg_transform_normalize(&transform, "cifar10"));
    transform.erase = 1.0f;
    int erased = 0;
    for (uint64_t index = 0; index < 100; index++) {
        struct vgg__augment augment;
        vgg__augment_draw(&transform, H, W, &(struct vgg__sample_place){42, 7, index},
                          &augment);
        float *const out = apply(&transform, H, W, 1, index);
        for (uint32_t y = 0; y < H; y++)
            for (uint32_t x = 0; x < W; x++) {
                const bool inside = y - augment.erase.top < augment.erase.height &&
                                    x - augment.erase.left < augment.erase.width;
                for (uint32_t c = 0; c < C; c++)
                    ck_assert((out[(c * H + y) * W + x] == 0.0f) == inside);
            }
        erased += augment.erase.height != 0;
        free(out);
    }
    ck_assert_int_gt(erased, 80);
}
END_TEST

/* The rectangle's distribution on an image large enough for its area and ratio to be
 * measured: both stay in range and fill it. */
START_TEST(erased_rectangles)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.erase = 0.5f;
    int erased = 0;
    double least_area = 1, most_area = 0, least_ratio = 9, most_ratio = 0, sum_area = 0;
    for (uint64_t index = 0; index < 4000; index++) {
        struct vgg__augment augment;
        vgg__augment_draw(&transform, 1000, 900,
                          &(struct vgg__sample_place){1, 0, index}, &augment);
        const double h = augment.erase.height, w = augment.erase.width;
        if (h == 0) continue;
        erased++;
        ck_assert_uint_le(augment.erase.top + augment.erase.height, 1000);
        ck_assert_uint_le(augment.erase.left + augment.erase.width, 900);
        const double area = h * w / 900000, ratio = h / w;
        sum_area += area;
        least_area = fmin(least_area, area), most_area = fmax(most_area, area);
        least_ratio = fmin(least_ratio, ratio), most_ratio = fmax(most_ratio, ratio);
    }
    /* 2000 of 4000 within 5 standard deviations; limits by the rounding of a side. */
    ck_assert_int_ge(erased, 1842);
    ck_assert_int_le(erased, 2158);
    ck_assert(least_area > 0.0195 && least_area < 0.022);
    ck_assert(most_area < 0.3305 && most_area > 0.325);
    ck_assert(least_ratio > 0.298 && least_ratio < 0.31);
    ck_assert(most_ratio < 3.32 && most_ratio > 3.2);
    /* mean 0.175, standard deviation of the mean 0.0895 / sqrt(2000) = 0.002 */
    ck_assert(fabs(sum_area / erased - 0.175) < 0.01);
}
END_TEST

START_TEST(random_follows_from_place_alone)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.flip = transform.erase = 0.5f;
    transform.shift = 4;
    const struct vgg__sample_place places[4] = {
        {1, 2, 3}, {9, 2, 3}, {1, 9, 3}, {1, 2, 9}};
    struct vgg__augment drawn[4], again;
    for (int i = 0; i < 4; i++) {
        memset(&drawn[i], 0, sizeof drawn[i]);
        vgg__augment_draw(&transform, 50, 50, &places[i], &drawn[i]);
        vgg__augment_draw(&transform, 50, 50, &places[i], &again);
        ck_assert(again.down == drawn[i].down && again.right == drawn[i].right &&
                  again.flip == drawn[i].flip && again.erase.top == drawn[i].erase.top);
    }
    for (int i = 1; i < 4; i++) /* seeds chosen so that all differ */
        ck_assert(drawn[i].down != drawn[0].down || drawn[i].right != drawn[0].right ||
                  drawn[i].erase.top != drawn[0].erase.top);
}
END_TEST

START_TEST(nothing_random_outside_of_training)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.flip = transform.erase = 1.0f;
    transform.shift = 4;
    float *const plain = apply(NULL, H, W, 0, 5);
    float *const out = apply(&transform, H, W, 0, 5);
    ck_assert_mem_eq(plain, out, C * H * W * sizeof *out);
    free(plain);
    free(out);
}
END_TEST

/* A host that rounds up gets the same floats and finds its mode as it was. */
START_TEST(rounding_mode_of_the_host)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    ck_ok(vgg_transform_normalize(&transform, "imagenet"));
    transform.resize_height = 17;
    transform.erase = 1.0f;
    float *const plain = apply(&transform, 17, W, 1, 3);
    fesetround(FE_UPWARD);
    float *const upward = apply(&transform, 17, W, 1, 3);
    ck_assert_int_eq(fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
    ck_assert_mem_eq(plain, upward, C * 17 * W * sizeof *plain);
    free(plain);
    free(upward);
}
END_TEST

/* One option changed, and what is said about it. */
static vgg_status apply_to(const vgg_transform *transform, vgg_shape in, vgg_dtype type,
                           vgg_shape out)
{
    vgg_tensor *input = NULL, *output = NULL;
    ck_ok(vgg_tensor_create(NULL, type, &in, &input));
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &out, &output));
    const vgg_status status = vgg_transform_apply(transform, input, 1, 0, 0, 0, output);
    vgg_tensor_free(input);
    vgg_tensor_free(output);
    return status;
}

START_TEST(wrong_options)
{
    const vgg_shape shape = {3, {1, 8, 8}};
    const vgg_transform good = VGG_TRANSFORM_INIT;
    vgg_transform bad[14];
    for (int i = 0; i < 14; i++) bad[i] = good;
    bad[0].resize_rule = 3;
    bad[1].resize_height = 32769;
    bad[2].flip = -0.1f;
    bad[3].flip = 1.5f;
    bad[4].erase = NAN;
    bad[5].mean[3] = INFINITY;
    bad[6].std[2] = 0.0f;
    bad[7].std[1] = -1.0f;
    bad[8].std[0] = NAN;
    bad[9].shift = 8;
    bad[10].size = 0;
    bad[11].size = sizeof good - 1;
    bad[12].shift = UINT32_MAX;
    bad[13].erase = 2.0f;
    for (int i = 0; i < 14; i++) {
        const vgg_status status = apply_to(&bad[i], shape, VGG_U8, shape);
        ck_assert_msg(status == VGG_EINVAL, "case %d: %s", i, vgg_status_name(status));
    }
    vgg_transform crop = good;
    crop.crop_width = 9;
    ck_fails_with(apply_to(&crop, shape, VGG_U8, shape), VGG_ESHAPE, "crop is 8x9");
    crop.resize_width = 9; /* now it fits */
    ck_ok(apply_to(&crop, shape, VGG_U8, (vgg_shape){3, {1, 8, 9}}));
}
END_TEST

START_TEST(wrong_tensors)
{
    const vgg_shape shape = {3, {1, 8, 8}};
    ck_fails(apply_to(NULL, shape, VGG_F32, shape), VGG_EINVAL);
    ck_fails(apply_to(NULL, (vgg_shape){2, {8, 8}}, VGG_U8, shape), VGG_ESHAPE);
    ck_fails(apply_to(NULL, (vgg_shape){3, {1, 0, 8}}, VGG_U8, shape), VGG_ESHAPE);
    ck_fails(apply_to(NULL, (vgg_shape){3, {1, 1, 32769}}, VGG_U8, shape), VGG_ESHAPE);
    ck_fails(apply_to(NULL, (vgg_shape){3, {5, 8, 8}}, VGG_U8, shape), VGG_ELIMIT);
    ck_fails_with(apply_to(NULL, shape, VGG_U8, (vgg_shape){3, {1, 8, 9}}), VGG_ESHAPE,
                  "output is 1x8x9, the transform gives 1x8x8");
    ck_fails(apply_to(NULL, shape, VGG_U8, (vgg_shape){4, {1, 1, 8, 8}}), VGG_ESHAPE);
    vgg_tensor *tensor = NULL;
    ck_ok(vgg_tensor_create(NULL, VGG_U8, &shape, &tensor));
    ck_fails(vgg_transform_apply(NULL, NULL, 0, 0, 0, 0, tensor), VGG_EINVAL);
    ck_fails(vgg_transform_apply(NULL, tensor, 0, 0, 0, 0, NULL), VGG_EINVAL);
    ck_fails(vgg_transform_apply(NULL, tensor, 0, 0, 0, 0, tensor), VGG_EINVAL);
    vgg_tensor_free(tensor);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("transform");
    TCase *const tcase = tcase_create("transform");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, default_divides_by_255);
    tcase_add_test(tcase, normalizes_each_channel);
    tcase_add_test(tcase, presets);
    tcase_add_test(tcase, centre_crop);
    tcase_add_test(tcase, resize_before_crop);
    tcase_add_test(tcase, flip_and_shift_are_what_was_drawn);
    tcase_add_test(tcase, fill_is_normalized);
    tcase_add_test(tcase, erased_is_zero);
    tcase_add_test(tcase, erased_rectangles);
    tcase_add_test(tcase, random_follows_from_place_alone);
    tcase_add_test(tcase, nothing_random_outside_of_training);
    tcase_add_test(tcase, rounding_mode_of_the_host);
    tcase_add_test(tcase, wrong_options);
    tcase_add_test(tcase, wrong_tensors);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
