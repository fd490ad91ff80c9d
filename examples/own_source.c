/* SPDX-License-Identifier: Apache-2.0 */
/* Data of one's own: a source is a function that gives sample number i. Here it draws
 * one of four patterns under noise, and a small network learns to tell them apart. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <vgg/vgg.h>

#define SIDE 16

static void check(vgg_status status)
{
    if (status == VGG_OK) return;
    fprintf(stderr, "%s: %s\n", vgg_status_name(status), vgg_last_error());
    exit(EXIT_FAILURE);
}

/* Stripes across, stripes down, a chessboard, a disc. */
static int is_bright(uint32_t pattern, int x, int y, int shift)
{
    const int dx = 2 * x - SIDE + 1, dy = 2 * y - SIDE + 1;
    switch (pattern) {
    case 0:
        return (y + shift) / 2 % 2;
    case 1:
        return (x + shift) / 2 % 2;
    case 2:
        return ((x + shift) / 2 + (y + shift) / 2) % 2;
    default:
        return dx * dx + dy * dy < 120 + 8 * shift;
    }
}

/* Called from several threads at once, so it keeps nothing between calls: all that is
 * random follows from the sample's number. The cookie tells training from test. */
static int draw(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    uint64_t state = index * 2 + *(const uint64_t *)cookie + 1;
    *label = (uint32_t)(index % 4);
    for (int i = 0; i < SIDE * SIDE; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's LCG */
        const int noise = (int)(state >> 56);                        /* 0 to 255 */
        const int shift = (int)(index / 4 % 4);
        image[i] =
            (uint8_t)(is_bright(*label, i % SIDE, i / SIDE, shift) ? 96 + noise / 2
                                                                   : noise / 2);
    }
    return 0;
}

static vgg_loader *make_loader(uint64_t count, uint64_t *which)
{
    const vgg_source source = {
        .cookie = which,
        .count = count,
        .channels = 1,
        .height = SIDE,
        .width = SIDE,
        .classes = 4,
        .read = draw,
    };
    vgg_dataset *data = NULL;
    vgg_loader *loader = NULL;
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    opts.batch = 32;
    opts.train = *which == 0;
    check(vgg_dataset_from_source(NULL, &source, &data));
    check(vgg_loader_create(data, &opts, &loader));
    vgg_dataset_free(data); /* the loader keeps it */
    return loader;
}

static int on_epoch(void *cookie, const vgg_progress *progress,
                    const vgg_metrics *metrics)
{
    double *accuracy = cookie;
    *accuracy = progress->test_accuracy;
    printf("epoch %" PRIu64 "  loss %.3f  test accuracy %.3f\n", progress->epoch,
           progress->loss_sum / (double)progress->seen, *accuracy);
    return 0;
}

int main(void)
{
    uint64_t for_training = 0, for_test = 1;
    vgg_loader *train = make_loader(1024, &for_training);
    vgg_loader *test = make_loader(128, &for_test);

    /* One block and one linear layer, added one by one. */
    vgg_model *model = NULL;
    check(vgg_model_create_empty(NULL, vgg_loader_shape(train), &model));
    check(vgg_model_add_conv(model, 8, 3, NULL));
    check(vgg_model_add_relu(model, NULL));
    check(vgg_model_add_pool(model, VGG_POOL_MAX, NULL));
    check(vgg_model_add_flatten(model, NULL));
    check(vgg_model_add_linear(model, 4, NULL));
    check(vgg_model_init(model, VGG_INIT_HE, 1));

    vgg_trainer_options how = VGG_TRAINER_OPTIONS_INIT;
    how.lr = 0.02;
    how.epochs = 5;
    how.batch = 32;
    vgg_device *device = NULL;
    vgg_trainer *trainer = NULL;
    check(vgg_device_open(NULL, "auto", &device));
    check(vgg_trainer_create(model, device, &how, &trainer));
    double accuracy = 0.0;
    const vgg_callbacks callbacks = {.cookie = &accuracy, .on_epoch = on_epoch};
    check(vgg_trainer_fit(trainer, train, test, &callbacks));

    vgg_trainer_free(trainer);
    vgg_device_free(device);
    vgg_model_free(model);
    vgg_loader_free(train);
    vgg_loader_free(test);
    return accuracy > 0.9 ? EXIT_SUCCESS : EXIT_FAILURE;
}
