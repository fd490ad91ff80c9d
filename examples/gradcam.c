/* SPDX-License-Identifier: Apache-2.0 */
/* Where does a network look? Grad-CAM (Selvaraju et al. 2017): the maps of the last
 * convolution, each weighted by how much the class's score changes with it, and what is
 * below zero left out. A small network learns to tell patches of stripes across from
 * patches of stripes down, and the map must point to where they are, which nobody has
 * told it. */
#include <stdio.h>
#include <stdlib.h>
#include <vgg/vgg.h>

enum { SIDE = 32, MAP = 16, BATCH = 32, STEPS = 100, SHOWN = 20 };

static void check(vgg_status status)
{
    if (status == VGG_OK) return;
    fprintf(stderr, "%s: %s\n", vgg_status_name(status), vgg_last_error());
    exit(EXIT_FAILURE);
}

static vgg_tensor *make(vgg_shape shape)
{
    vgg_tensor *made = NULL;
    check(vgg_tensor_create(NULL, VGG_F32, &shape, &made));
    return made;
}

/* Image number `index`, [h][w]: a patch of stripes on noise. Its place is returned. */
static vgg_shape draw(uint64_t index, float *image, uint32_t *label)
{
    const vgg_shape place = {2, {7 + index * 11 % 18, 7 + index * 7 % 18}};
    uint64_t state = index + 1;
    *label = (uint32_t)(index % 2);
    for (int i = 0; i < SIDE * SIDE; i++) {
        const int dy = i / SIDE - (int)place.dim[0], dx = i % SIDE - (int)place.dim[1];
        const int on = abs(dy) < 6 && abs(dx) < 6 && (*label ? dx : dy) & 2;
        state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's LCG */
        image[i] = (float)on * 0.7f + (float)(state >> 40) * 0x1p-26f;
    }
    return place;
}

static void train(vgg_model *model, vgg_device *device)
{
    vgg_tensor *images = make((vgg_shape){4, {BATCH, 1, SIDE, SIDE}});
    uint32_t labels[BATCH];
    vgg_optimizer adam = VGG_OPTIMIZER_INIT;
    vgg_trainer_options how = VGG_TRAINER_OPTIONS_INIT;
    vgg_trainer *trainer = NULL;
    adam.kind = VGG_ADAM;
    how.optimizer = &adam;
    how.lr = 0.005;
    how.batch = BATCH;
    check(vgg_trainer_create(model, device, &how, &trainer));
    for (uint64_t step = 0; step < STEPS; step++) {
        const vgg_batch batch = {images, labels, BATCH, 0, 0, step};
        for (uint64_t i = 0; i < BATCH; i++)
            draw(step * BATCH + i, (float *)vgg_tensor_data(images) + i * SIDE * SIDE,
                 &labels[i]);
        check(vgg_trainer_step(trainer, &batch, NULL));
    }
    printf("loss after %d steps: %.4f\n", STEPS,
           vgg_trainer_progress(trainer)->batch_loss);
    vgg_trainer_free(trainer);
    vgg_tensor_free(images);
}

/* The map, [MAP][MAP], and the place of its largest value. */
static int find_heat(const vgg_tensor *values, const vgg_tensor *gradients, float *map)
{
    const float *a = vgg_tensor_data_const(values); /* [c][h][w] of one sample */
    const float *g = vgg_tensor_data_const(gradients);
    int best = 0;
    for (int i = 0; i < MAP * MAP; i++) map[i] = 0.0f;
    for (uint32_t c = 0; c < vgg_tensor_shape(values)->dim[1]; c++) {
        float weight = 0.0f;
        for (int i = 0; i < MAP * MAP; i++) weight += *g++ / (MAP * MAP);
        for (int i = 0; i < MAP * MAP; i++) map[i] += weight * *a++;
    }
    for (int i = 0; i < MAP * MAP; i++) {
        if (map[i] < 0.0f) map[i] = 0.0f;
        if (map[i] > map[best]) best = i;
    }
    return best;
}

static void show(const float *map, float most)
{
    for (int i = 0; i < MAP * MAP; i++) {
        const char shade = " .:-=+*#%@"[most > 0.0f ? (int)(9.0f * map[i] / most) : 0];
        printf("%c%c%s", shade, shade, i % MAP == MAP - 1 ? "\n" : "");
    }
}

int main(void)
{
    static const char *const taps[] = {"relu2_1"};
    vgg_arch arch = VGG_ARCH_INIT;
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    vgg_model *model = NULL;
    vgg_device *device = NULL;
    vgg_plan *plan = NULL;
    arch.block_count = 2;
    arch.blocks[0] = (vgg_block){1, 16, 0};
    arch.blocks[1] = (vgg_block){1, 32, 0};
    arch.height = arch.width = SIDE;
    arch.classes = 2;
    arch.head = VGG_HEAD_GAP;
    opts.mode = VGG_MODE_GRAD;
    opts.taps = taps;
    opts.tap_count = opts.tap_gradients = 1;
    check(vgg_model_create(NULL, &arch, 1, NULL, &model));
    check(vgg_device_open(NULL, "auto", &device));
    train(model, device);
    check(vgg_plan_create(model, device, &opts, &plan));

    vgg_tensor *image = make((vgg_shape){4, {1, 1, SIDE, SIDE}});
    vgg_tensor *values = make((vgg_shape){4, {1, 32, MAP, MAP}});
    vgg_tensor *gradients = make((vgg_shape){4, {1, 32, MAP, MAP}});
    vgg_tensor *score = make((vgg_shape){2, {1, 2}});
    float map[MAP * MAP];
    int found = 0;
    for (uint64_t i = 0; i < SHOWN; i++) {
        uint32_t label;
        const vgg_shape at = draw(1000000 + i, vgg_tensor_data(image), &label);
        float *of_class = vgg_tensor_data(score); /* d score / d logits */
        of_class[label] = 1.0f;
        of_class[1 - label] = 0.0f;
        check(vgg_plan_forward(plan, image, NULL));
        check(vgg_plan_set_output_gradient(plan, score));
        check(vgg_plan_backward(plan));
        check(vgg_plan_tap(plan, taps[0], values));
        check(vgg_plan_tap_gradient(plan, taps[0], gradients));
        const int best = find_heat(values, gradients, map);
        const int dy = best / MAP * 2 - (int)at.dim[0],
                  dx = best % MAP * 2 - (int)at.dim[1];
        found += abs(dy) <= 7 && abs(dx) <= 7;
        if (i < 2) printf("\n%s\n", label ? "stripes down" : "stripes across");
        if (i < 2) show(map, map[best]);
    }
    printf("\nthe map's maximum lies on the patch in %d of %d images\n", found, SHOWN);

    vgg_tensor_free(score);
    vgg_tensor_free(gradients);
    vgg_tensor_free(values);
    vgg_tensor_free(image);
    vgg_plan_free(plan);
    vgg_device_free(device);
    vgg_model_free(model);
    return found >= SHOWN * 9 / 10 ? EXIT_SUCCESS : EXIT_FAILURE;
}
