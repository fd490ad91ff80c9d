/* SPDX-License-Identifier: Apache-2.0 */
/* A loss that looks at features, not at pixels: change an image until a network sees
 * in it what it sees in another. The loss is the mean square difference of what four
 * layers make of the two (Johnson et al. 2016); its gradient goes in where these layers
 * are and comes out at the image.
 *
 *     ./perceptual [weights.safetensors of torchvision's vgg11]
 */
#include <stdio.h>
#include <stdlib.h>
#include <vgg/vgg.h>

enum { SIDE = 64, TAPS = 4, STEPS = 60 };

static const char *const taps[TAPS] = {"relu1_1", "relu2_1", "relu3_2", "relu4_2"};

static void check(vgg_status status)
{
    if (status == VGG_OK) return;
    fprintf(stderr, "%s: %s\n", vgg_status_name(status), vgg_last_error());
    exit(EXIT_FAILURE);
}

/* A tensor for one sample of a shape. */
static vgg_tensor *make(const vgg_shape *sample)
{
    vgg_shape shape = {sample->rank + 1, {1}};
    vgg_tensor *made = NULL;
    for (uint32_t i = 0; i < sample->rank; i++) shape.dim[i + 1] = sample->dim[i];
    check(vgg_tensor_create(NULL, VGG_F32, &shape, &made));
    return made;
}

static uint64_t count_of(const vgg_tensor *tensor)
{
    return vgg_tensor_bytes(tensor) / sizeof(float);
}

/* VGG-11 up to its last block, with weights of a file or random ones. */
static vgg_model *make_network(const char *weights)
{
    vgg_arch arch = VGG_ARCH_INIT;
    vgg_model_options how = VGG_MODEL_OPTIONS_INIT;
    vgg_weights_options part = VGG_WEIGHTS_OPTIONS_INIT;
    vgg_model *model = NULL;
    check(vgg_arch_preset("vgg11", &arch));
    arch.height = arch.width = SIDE;
    arch.head = VGG_HEAD_NONE;
    how.init = VGG_INIT_HE;
    part.allow_extra = 1; /* the classifier's */
    check(vgg_model_create(NULL, &arch, 1, &how, &model));
    if (weights != NULL) check(vgg_weights_load(model, weights, &part, NULL));
    return model;
}

/* What is to be seen: a bright disc on dark stripes, in colours of its own. */
static void draw(float *image)
{
    for (int i = 0; i < 3 * SIDE * SIDE; i++) { /* [c][h][w] */
        const int c = i / (SIDE * SIDE), y = i / SIDE % SIDE, x = i % SIDE;
        const int dx = 2 * x - SIDE, dy = 2 * y - SIDE;
        image[i] = dx * dx + dy * dy < SIDE * SIDE / 2 ? 1.0f - 0.3f * (float)c
                                                       : (float)(y / 4 % 2) * 0.4f;
    }
}

/* The loss at one layer; its gradient takes the place of the features. */
static double compare(vgg_tensor *features, const vgg_tensor *wanted)
{
    float *f = vgg_tensor_data(features);
    const float *w = vgg_tensor_data_const(wanted);
    const uint64_t count = count_of(features);
    double sum = 0.0;
    for (uint64_t i = 0; i < count; i++) {
        const float difference = f[i] - w[i];
        sum += (double)difference * difference;
        f[i] = 2.0f * difference / (float)count;
    }
    return sum / (double)count;
}

/* One step down the gradient, whose longest component moves a pixel by `rate`. */
static void descend(vgg_tensor *image, const vgg_tensor *gradient, float rate)
{
    float *pixels = vgg_tensor_data(image);
    const float *g = vgg_tensor_data_const(gradient);
    const uint64_t count = count_of(image);
    float most = 1e-30f;
    for (uint64_t i = 0; i < count; i++)
        if (g[i] > most || -g[i] > most) most = g[i] > 0.0f ? g[i] : -g[i];
    for (uint64_t i = 0; i < count; i++) pixels[i] -= rate * g[i] / most;
}

int main(int argc, char **argv)
{
    vgg_model *model = make_network(argc > 1 ? argv[1] : NULL);
    vgg_device *device = NULL;
    vgg_plan *plan = NULL;
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.mode = VGG_MODE_GRAD; /* dropout and batch norm as in inference */
    opts.taps = taps;
    opts.tap_count = TAPS;
    opts.tap_gradients = opts.input_gradient = 1;
    for (uint32_t i = 0; i < vgg_model_param_count(model); i++) /* none is trained */
        check(vgg_param_set_trainable(vgg_model_param(model, i), 0));
    check(vgg_device_open(NULL, "auto", &device));
    check(vgg_plan_create(model, device, &opts, &plan));

    vgg_tensor *image = make(vgg_model_input_shape(model));
    vgg_tensor *gradient = make(vgg_model_input_shape(model));
    vgg_tensor *wanted[TAPS], *features[TAPS];
    draw(vgg_tensor_data(image));
    check(vgg_plan_forward(plan, image, NULL));
    for (int i = 0; i < TAPS; i++) {
        const vgg_layer *layer = vgg_model_find_layer(model, taps[i]);
        wanted[i] = make(vgg_layer_out_shape(layer));
        features[i] = make(vgg_layer_out_shape(layer));
        check(vgg_plan_tap(plan, taps[i], wanted[i]));
    }

    float *pixels = vgg_tensor_data(image); /* begin with grey */
    for (uint64_t i = 0; i < count_of(image); i++) pixels[i] = 0.5f;
    double losses[STEPS] = {0};
    for (int step = 0; step < STEPS; step++) {
        check(vgg_plan_forward(plan, image, NULL));
        for (int i = 0; i < TAPS; i++) {
            check(vgg_plan_tap(plan, taps[i], features[i]));
            losses[step] += compare(features[i], wanted[i]);
            check(vgg_plan_set_tap_gradient(plan, taps[i], features[i]));
        }
        check(vgg_plan_backward(plan));
        check(vgg_plan_input_gradient(plan, gradient));
        descend(image, gradient, 0.05f * (1.0f - (float)step / STEPS));
        if (step % 10 == 9) printf("step %2d  loss %.4g\n", step + 1, losses[step]);
    }

    for (int i = 0; i < TAPS; i++) {
        vgg_tensor_free(wanted[i]);
        vgg_tensor_free(features[i]);
    }
    vgg_tensor_free(gradient);
    vgg_tensor_free(image);
    vgg_plan_free(plan);
    vgg_device_free(device);
    vgg_model_free(model);
    return losses[STEPS - 1] < 0.2 * losses[0] ? EXIT_SUCCESS : EXIT_FAILURE;
}
