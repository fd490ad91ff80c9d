/* SPDX-License-Identifier: Apache-2.0 */
/* Layers and forms; see products.h. */
#include "products.h"

static const struct layer main_layers[] = {
    {1, 16, 224},  {16, 32, 112},  {32, 64, 56},   {64, 64, 56, .sample = true},
    {64, 128, 28}, {128, 128, 28}, {128, 128, 14},
};
static const struct layer vgg16_layers[] = {
    {3, 64, 224},    {64, 64, 224},  {64, 128, 112},
    {128, 128, 112}, {128, 256, 56}, {256, 256, 56},
    {256, 512, 28},  {512, 512, 28}, {512, 512, 14, .sample = true},
};

const struct network main_job = {"main job", main_layers,
                                 sizeof main_layers / sizeof *main_layers};
const struct network vgg16 = {"VGG-16", vgg16_layers,
                              sizeof vgg16_layers / sizeof *vgg16_layers};

const char *const precision_names[] = {"fp32", "tf32", "bf16"};
const char *const form_names[FORMS] = {"forward",   "data", "weights",
                                       "bias_relu", "mask", "single_out"};

struct vgg__dnn_problem product(const struct layer *layer, uint32_t batch,
                                enum precision precision, enum form form)
{
    static const enum vgg__dnn_what whats[FORMS] = {VGG__DNN_FORWARD, VGG__DNN_DATA,
                                                    VGG__DNN_WEIGHTS, VGG__DNN_FORWARD,
                                                    VGG__DNN_DATA,    VGG__DNN_WEIGHTS};
    return (struct vgg__dnn_problem){.what = whats[form],
                                     .type = precision == BF16 ? VGG__BF16 : VGG__F32,
                                     .n = batch,
                                     .h = layer->size,
                                     .w = layer->size,
                                     .ic = layer->ic,
                                     .oc = layer->oc,
                                     .kernel = 3,
                                     .strict = precision == STRICT,
                                     .bias_relu = form == BIAS_RELU,
                                     .mask = form == MASK,
                                     .single_out = form == SINGLE_OUT};
}
