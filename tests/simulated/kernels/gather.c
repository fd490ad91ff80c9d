/* SPDX-License-Identifier: Apache-2.0 */
/* gather.cu: the same bits as lib/data/transform.c, which makes one image at a time. */
#include <stdlib.h>
#include <string.h>

#include "buffers.h"
#include "data/resize.h"
#include "data/transform.h"
#include "harness.h"

#define SAMPLES 4

static const struct shape {
    uint32_t c, h, w;        /* stored */
    uint32_t to_h, to_w;     /* 0: not resized */
    uint32_t crop_h, crop_w; /* 0: not cropped */
} shapes[] = {
    {1, 28, 28, 64, 64, 0, 0}, {3, 8, 8, 0, 0, 0, 0},      {3, 10, 13, 33, 41, 30, 40},
    {1, 5, 7, 11, 3, 0, 0},    {3, 40, 36, 9, 12, 8, 8},   {4, 12, 9, 24, 18, 17, 13},
    {2, 33, 3, 70, 8, 0, 0},   {1, 16, 16, 100, 8, 72, 8}, {1, 64, 64, 7, 7, 0, 0},
    {3, 6, 9, 3, 1040, 0, 0},  {4, 60, 20, 3, 1540, 0, 0}, {1, 9, 4, 0, 0, 5, 3},
    {2, 20, 4, 60, 12, 0, 0},
};
#define SHAPES (int)(sizeof shapes / sizeof shapes[0])

/* What is drawn for the samples: nothing, a flip, moves in both directions, one by more
 * than the image, rectangles at the edges. */
static struct vgg__augment augment_of(int i, const vgg_shape *shown)
{
    const uint32_t h = shown->dim[1], w = shown->dim[2];
    struct vgg__augment a = {0};
    if (i == 1) a = (struct vgg__augment){.down = -1, .right = 2, .flip = true};
    if (i == 2) a = (struct vgg__augment){.down = 2, .right = -1};
    if (i == 3) a = (struct vgg__augment){.down = -(int32_t)h, .flip = true};
    a.erase.top = i == 2 ? h / 2 : 0;
    a.erase.height = i == 1 ? (h + 1) / 2 : i == 2 ? h - h / 2 : 0;
    a.erase.left = i == 2 ? w / 3 : 0;
    a.erase.width = i == 1 ? 1 : w - w / 3;
    return a;
}

struct set {
    struct vgg__transformer *transformer;
    vgg_data_desc desc;
    uint8_t *images;
    struct vgg__gather_args args;
};

/* Taps without weight may be anywhere, and are. */
static struct vgg__kernel_axis axis_of(const vgg_axis *axis)
{
    const size_t count = (size_t)axis->out * axis->taps, bytes = count * 4;
    struct vgg__kernel_axis to = {axis->in, axis->out, axis->taps, NULL, NULL};
    if (axis->at == NULL) return to;
    uint32_t *const at = memcpy(input(bytes), axis->at, bytes);
    for (size_t i = 0; i < count; i++)
        if (axis->weight[i] == 0) at[i] = (uint32_t)(i * 7) % axis->in;
    to.at = at;
    to.weight = memcpy(input(bytes), axis->weight, bytes);
    return to;
}

static void describe(struct set *s, uint32_t live)
{
    const vgg_data_desc *const d = &s->desc;
    const size_t table = (size_t)d->stored.c * 256 * sizeof(float);
    s->args =
        (struct vgg__gather_args){.images = s->images,
                                  .table = memcpy(input(table), d->table, table),
                                  .resize_rule = d->resize_rule,
                                  .x = axis_of(&d->x),
                                  .y = axis_of(&d->y),
                                  .top = d->top,
                                  .left = d->left,
                                  .n = SAMPLES + 1,
                                  .c = d->shown.c,
                                  .h = d->shown.h,
                                  .w = d->shown.w,
                                  .step = step_of((struct vgg__step){.count = live})};
    s->args.x.in = d->stored.w;
    s->args.y.in = d->stored.h;
}

static void draw_samples(struct set *s)
{
    struct vgg__kernel_sample *const to = input((SAMPLES + 1) * sizeof *to);
    for (int i = 0; i < SAMPLES; i++) {
        const struct vgg__augment a =
            augment_of(i, vgg__transformer_shape(s->transformer));
        to[i] = (struct vgg__kernel_sample){.index = (uint64_t)(i * 2 % 3),
                                            .down = a.down,
                                            .right = a.right,
                                            .flip = a.flip,
                                            .erase_top = a.erase.top,
                                            .erase_left = a.erase.left,
                                            .erase_height = a.erase.height,
                                            .erase_width = a.erase.width};
    }
    s->args.samples = to;
}

static struct set make(struct shape shape, uint32_t rule, uint32_t live)
{
    vgg_transform given = VGG_TRANSFORM_INIT, spec;
    ck_ok(vgg_transform_normalize(&given, "imagenet"));
    given.resize_height = shape.to_h;
    given.resize_width = shape.to_w;
    given.resize_rule = rule;
    given.crop_height = shape.crop_h;
    given.crop_width = shape.crop_w;
    ck_ok(vgg__transform_read(&given, &spec));
    const vgg_shape stored = {3, {shape.c, shape.h, shape.w}};
    struct set s = {0};
    ck_ok(vgg__transformer_create(NULL, &spec, &stored, &s.transformer));
    ck_ok(vgg__transformer_describe(NULL, s.transformer, &s.desc));
    const size_t pixels = 3 * (size_t)shape.c * shape.h * shape.w;
    s.images = input(pixels);
    for (size_t i = 0; i < pixels; i++) { /* the third image is white */
        const int value = (int)((number(rule, i) + 1) * 160) - 32;
        const bool white = value > 255 || i >= pixels / 3 * 2;
        s.images[i] = (uint8_t)(white ? 255 : value < 0 ? 0 : value);
    }
    describe(&s, live);
    draw_samples(&s);
    return s;
}

static void destroy(struct set *s)
{
    vgg__axis_free(&s->desc.x);
    vgg__axis_free(&s->desc.y);
    vgg__transformer_free(s->transformer);
    buffers_free();
}

static void check(const struct set *s, enum vgg__type type, uint32_t live)
{
    const struct vgg__gather_args *const a = &s->args;
    const vgg_shape *const shown = vgg__transformer_shape(s->transformer);
    const size_t pixels = (size_t)a->h * a->w, image = pixels * a->c;
    const size_t stored = (size_t)a->c * a->x.in * a->y.in;
    float *const expected = malloc(image * sizeof *expected);
    for (size_t n = 0; n < a->n; n++) {
        const struct vgg__augment drawn = augment_of((int)n, shown);
        if (n < live)
            vgg__transformer_apply(s->transformer,
                                   s->images + a->samples[n].index * stored, &drawn,
                                   expected);
        for (size_t i = 0; i < image; i++)
            expect_same(type, a->out, n * image + i % pixels * a->c + i / pixels,
                        n < live ? round_to(type, (double)expected[i]) : 0);
    }
    free(expected);
}

static void run(struct shape shape, uint32_t rule, enum vgg__type type)
{
    const uint32_t live = type == VGG__BF16 ? SAMPLES : 2;
    struct set s = make(shape, rule, live);
    const size_t count = (size_t)s.args.n * s.args.c * s.args.h * s.args.w;
    s.args.out = output(count * type_bytes(type));
    launch(&vgg__kernel_gather[type],
           rule == 1 ? grid_1d(2, 256) : vgg__gather_grid(&s.args), &s.args);
    check(&s, type, live);
    destroy(&s);
}

START_TEST(like_the_host)
{
    for (int type = 0; type < VGG__TYPES; type++)
        for (uint32_t rule = 0; rule < 3; rule++)
            run(shapes[_i], rule, (enum vgg__type)type);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("gather");
    TCase *const all = tcase_create("gather");
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, like_the_host, 0, SHAPES);
    suite_add_tcase(suite, all);
    return harness_main(&suite, 1);
}
