/* SPDX-License-Identifier: Apache-2.0 */
/* Build the chapter's network, VGG-11 with its channels divided by four, show what each
 * layer makes of an image, and ask the untrained network for its opinion.
 *
 *     cc hello.c $(pkg-config --cflags --libs vgg) && ./a.out
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <vgg/vgg.h>

static void check(vgg_status status)
{
    if (status == VGG_OK) return;
    fprintf(stderr, "%s: %s\n", vgg_status_name(status), vgg_last_error());
    exit(EXIT_FAILURE);
}

static void print_layers(const vgg_model *model)
{
    for (uint32_t i = 0; i < vgg_model_layer_count(model); i++) {
        const vgg_layer *layer = vgg_model_layer(model, i);
        char shape[64];
        vgg_shape_text(vgg_layer_out_shape(layer), shape, sizeof shape);
        printf("%-8s  %s", vgg_layer_name(layer), shape);
        if (vgg_layer_macs(layer) > 0)
            printf("  (%.2f M multiplications)", (double)vgg_layer_macs(layer) / 1e6);
        printf("\n");
    }
    printf("%" PRIu64 " parameters, %.1f M multiplications an image\n\n",
           vgg_model_parameters(model), (double)vgg_model_macs(model) / 1e6);
}

int main(void)
{
    const vgg_arch arch = VGG_ARCH_INIT; /* five blocks, 1x224x224, ten classes */
    vgg_model *model = vgg_build(&arch, 4);
    if (model == NULL) check(VGG_EINVAL);
    print_layers(model);

    /* A plan is the model on a device, for some batch size: here one image. */
    vgg_device *device = NULL;
    vgg_plan *plan = NULL;
    check(vgg_device_open(NULL, "auto", &device));
    check(vgg_plan_create(model, device, NULL, &plan));

    /* An image of grey stripes. */
    vgg_tensor *image = NULL, *logits = NULL;
    check(vgg_tensor_create(NULL, VGG_F32, &(vgg_shape){4, {1, 1, 224, 224}}, &image));
    check(vgg_tensor_create(NULL, VGG_F32, &(vgg_shape){2, {1, 10}}, &logits));
    float *pixels = vgg_tensor_data(image); /* [n][c][h][w] */
    for (int i = 0; i < 224 * 224; i++) pixels[i] = (float)(i / 224 % 16) / 15.0f;

    check(vgg_plan_forward(plan, image, logits));
    const float *score = vgg_tensor_data(logits);
    for (int i = 0; i < 10; i++) printf("class %d: %+.4f\n", i, (double)score[i]);

    vgg_tensor_free(logits);
    vgg_tensor_free(image);
    vgg_plan_free(plan);
    vgg_device_free(device);
    vgg_model_free(model);
    return EXIT_SUCCESS;
}
