/* SPDX-License-Identifier: Apache-2.0 */
/* The library's half of interop.py: write weights, or read and write them again.
 *
 *     interop save PRESET OUT            initial values, torchvision's rule
 *     interop convert PRESET IN OUT      load into a network of the preset, save
 *     interop rebuild IN OUT             the network that the file says, save
 *
 * Channels are divided by 16 and hidden layers have 32 features, to keep it small. */
#include <vgg/vgg.h>

#include <stdio.h>
#include <string.h>

static vgg_status build(const char *preset, vgg_model **out)
{
    vgg_arch arch = VGG_ARCH_INIT;
    vgg_model_options opts = VGG_MODEL_OPTIONS_INIT;
    opts.init = VGG_INIT_TORCHVISION;
    const vgg_status status = vgg_arch_preset(preset, &arch);
    if (status != VGG_OK) return status;
    arch.hidden = 32;
    return vgg_model_create(NULL, &arch, 16, &opts, out);
}

static vgg_status run(int argc, char **argv, vgg_model **model)
{
    vgg_metadata *metadata = NULL;
    vgg_status status = VGG_EINVAL;
    if (argc == 4 && strcmp(argv[1], "save") == 0) status = build(argv[2], model);
    if (argc == 5 && strcmp(argv[1], "convert") == 0) {
        status = build(argv[2], model);
        if (status == VGG_OK)
            status = vgg_weights_load(*model, argv[3], NULL, &metadata);
    }
    if (argc == 4 && strcmp(argv[1], "rebuild") == 0)
        status = vgg_model_load(NULL, argv[2], &metadata, model);
    if (status == VGG_OK) status = vgg_weights_save(*model, argv[argc - 1], metadata);
    vgg_metadata_free(metadata);
    return status;
}

int main(int argc, char **argv)
{
    vgg_model *model = NULL;
    const vgg_status status = run(argc, argv, &model);
    if (status != VGG_OK) fprintf(stderr, "interop: %s\n", vgg_last_error());
    vgg_model_free(model);
    return status == VGG_OK ? 0 : 1;
}
