/* SPDX-License-Identifier: Apache-2.0 */
/* A program outside the tree, valid C11 and C++11: builds the chapter's VGG-11 with its
 * channels divided by 4, prints what comes out of each block and linear layer, and runs
 * a small network once. Status 1 with the library's text when a call fails. */
#include <stdio.h>
#include <vgg/vgg.h>

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, vgg_last_error());
    return 1;
}

static int print_shapes(void)
{
    vgg_arch arch = VGG_ARCH_INIT;
    vgg_model *model = vgg_build(&arch, 4);
    if (!model) return fail("vgg_build");
    for (uint32_t i = 0; i < vgg_model_layer_count(model); i++) {
        const vgg_layer *layer = vgg_model_layer(model, i);
        const vgg_layer_kind kind = vgg_layer_get_kind(layer);
        char text[64];
        if (kind != VGG_LAYER_POOL && kind != VGG_LAYER_LINEAR) continue;
        vgg_shape_text(vgg_layer_out_shape(layer), text, sizeof text);
        printf("%s 1x%s\n", vgg_layer_name(layer), text);
    }
    vgg_model_free(model);
    return 0;
}

static int run_small(void)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.height = arch.width = 32;
    arch.hidden = 64;
    const vgg_shape in = {4, {1, 1, 32, 32}}, out = {2, {1, 10}};
    vgg_model *model = vgg_build(&arch, 16);
    vgg_device *device = NULL;
    vgg_plan *plan = NULL;
    vgg_tensor *image = NULL, *logits = NULL;
    const int failed = !model || vgg_device_open(NULL, "auto", &device) != VGG_OK ||
                       vgg_plan_create(model, device, NULL, &plan) != VGG_OK ||
                       vgg_tensor_create(NULL, VGG_F32, &in, &image) != VGG_OK ||
                       vgg_tensor_create(NULL, VGG_F32, &out, &logits) != VGG_OK ||
                       vgg_plan_forward(plan, image, logits) != VGG_OK;
    /* Biases are zero at first: a black image gives zeros. */
    if (!failed) printf("logit %.1f\n", (double)((float *)vgg_tensor_data(logits))[9]);
    const int status = failed ? fail("run") : 0;
    vgg_tensor_free(logits);
    vgg_tensor_free(image);
    vgg_plan_free(plan);
    vgg_device_free(device);
    vgg_model_free(model);
    return status;
}

int main(void)
{
    printf("libvgg %s\n", vgg_version());
    return print_shapes() || run_small();
}
