/* SPDX-License-Identifier: Apache-2.0 */
/* Names of layers: the literature's (conv3_2, relu3_2, pool3, fc6, drop6) and
 * torchvision's (features.13, avgpool, classifier.3), chosen from what the model has so
 * far.
 *
 * A block ends with its pooling. The head begins at the first adaptive pooling, flatten
 * or linear layer, or at once on a flat input. torchvision numbers what stands in
 * `features` and in `classifier` one by one; avgpool and flatten are in neither. Names
 * and aliases share one namespace, so that a search can't find two layers. */
#include "core/error.h"
#include "model/spec.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What was counted when a layer comes. */
struct place {
    bool head;
    uint32_t block;      /* from 1 */
    uint32_t convs;      /* in the block */
    uint32_t linears;    /* in the model */
    uint32_t features;   /* torchvision's index before the head */
    uint32_t classifier; /* and in it */
};

/* The literature's word for a layer, by vgg_layer_kind. */
static const char *const words[] = {
    [VGG_LAYER_CONV] = "conv",
    [VGG_LAYER_BATCH_NORM] = "bn",
    [VGG_LAYER_RELU] = "relu",
    [VGG_LAYER_POOL] = "pool",
    [VGG_LAYER_ADAPTIVE_POOL] = "avgpool",
    [VGG_LAYER_FLATTEN] = "flatten",
    [VGG_LAYER_LINEAR] = "fc",
    [VGG_LAYER_DROPOUT] = "drop",
};

static bool stands_alone(vgg_layer_kind kind)
{
    return kind == VGG_LAYER_ADAPTIVE_POOL || kind == VGG_LAYER_FLATTEN;
}

static void enter(struct place *place, vgg_layer_kind kind)
{
    if (stands_alone(kind) || kind == VGG_LAYER_LINEAR) place->head = true;
}

static void leave(struct place *place, vgg_layer_kind kind)
{
    if (kind == VGG_LAYER_CONV) place->convs++;
    if (kind == VGG_LAYER_LINEAR) place->linears++;
    if (kind == VGG_LAYER_POOL) {
        place->block++;
        place->convs = 0;
    }
    if (stands_alone(kind)) return;
    if (place->head)
        place->classifier++;
    else
        place->features++;
}

static struct place find_place(const vgg_model *model)
{
    struct place place = {.head = model->input.rank == 1, .block = 1};
    for (uint32_t i = 0; i < model->layer_count; i++) {
        enter(&place, model->layers[i]->kind);
        leave(&place, model->layers[i]->kind);
    }
    return place;
}

static void write_name(const struct place *place, vgg_layer_kind kind,
                       char name[VGG_NAME_SIZE])
{
    const char *word = words[kind];
    const uint32_t after_conv = place->convs > 0 ? place->convs : 1;
    const uint32_t after_linear = place->linears > 0 ? place->linears : 1;
    if (stands_alone(kind))
        snprintf(name, VGG_NAME_SIZE, "%s", word);
    else if (kind == VGG_LAYER_POOL)
        snprintf(name, VGG_NAME_SIZE, "%s%" PRIu32, word, place->block);
    else if (kind == VGG_LAYER_LINEAR)
        snprintf(name, VGG_NAME_SIZE, "%s%" PRIu32, word, 6 + place->linears);
    else if (kind == VGG_LAYER_CONV)
        snprintf(name, VGG_NAME_SIZE, "%s%" PRIu32 "_%" PRIu32, word, place->block,
                 place->convs + 1);
    else if (place->head && kind != VGG_LAYER_BATCH_NORM)
        snprintf(name, VGG_NAME_SIZE, "%s%" PRIu32, word, 5 + after_linear);
    else
        snprintf(name, VGG_NAME_SIZE, "%s%" PRIu32 "_%" PRIu32, word, place->block,
                 after_conv);
}

static void write_alias(const struct place *place, vgg_layer_kind kind,
                        char alias[VGG_NAME_SIZE])
{
    if (stands_alone(kind))
        snprintf(alias, VGG_NAME_SIZE, "%s", words[kind]);
    else if (place->head)
        snprintf(alias, VGG_NAME_SIZE, "classifier.%" PRIu32, place->classifier);
    else
        snprintf(alias, VGG_NAME_SIZE, "features.%" PRIu32, place->features);
}

static bool is_taken(const vgg_model *model, const char *name)
{
    for (uint32_t i = 0; i < model->layer_count; i++)
        if (strcmp(model->layers[i]->name, name) == 0 ||
            strcmp(model->layers[i]->alias, name) == 0)
            return true;
    return false;
}

/* "_b" to "_z", then "_ba" and so on: `number` from 1 in base 26, a = 0. */
static void write_suffix(uint32_t number, char *suffix, size_t size)
{
    char digits[8];
    uint32_t count = 0;
    do {
        digits[count++] = (char)('a' + number % 26);
        number /= 26;
    } while (number > 0 && count < sizeof digits);
    size_t length = 0;
    suffix[length++] = '_';
    while (count > 0 && length + 1 < size) suffix[length++] = digits[--count];
    suffix[length] = '\0';
}

/* Make an automatic name one that no layer has. Ends: layers are fewer than
 * suffixes. */
static void make_unique(const vgg_model *model, char name[VGG_NAME_SIZE])
{
    const size_t length = strlen(name); /* at most 26 */
    for (uint32_t number = 1; is_taken(model, name); number++)
        write_suffix(number, name + length, VGG_NAME_SIZE - length);
}

static vgg_status check_given(const vgg_model *model, const char *name)
{
    const size_t length = strnlen(name, VGG_NAME_SIZE);
    if (length == 0 || length == VGG_NAME_SIZE)
        return vgg__fail(VGG_EINVAL, "layer name: needs 1 to %d characters, found %s",
                         VGG_NAME_SIZE - 1, length == 0 ? "none" : "more");
    for (size_t i = 0; i < length; i++)
        if (name[i] < 0x21 || name[i] > 0x7e)
            return vgg__fail(VGG_EINVAL,
                             "layer name: needs printable ASCII without blanks, found "
                             "byte 0x%02x at place %zu",
                             (unsigned char)name[i], i + 1);
    if (is_taken(model, name))
        return vgg__fail(VGG_EINVAL, "layer name \"%s\": the model already has it",
                         name);
    return VGG_OK;
}

vgg_status vgg__names_choose(const vgg_model *model, vgg_layer *layer,
                             const char *given)
{
    if (given != NULL) VGG_TRY(check_given(model, given));
    struct place place = find_place(model);
    enter(&place, layer->kind);
    layer->block = place.head ? 0 : place.block;
    if (given != NULL) {
        snprintf(layer->name, VGG_NAME_SIZE, "%s", given);
    } else {
        write_name(&place, layer->kind, layer->name);
        make_unique(model, layer->name);
    }
    write_alias(&place, layer->kind, layer->alias);
    make_unique(model, layer->alias);
    return VGG_OK;
}
