/* SPDX-License-Identifier: Apache-2.0 */
/* Preprocessing and classes in the metadata of weights, so that they can be used
 * without knowing how they were trained. The keys are described in session.h. */
#include "session.h"

#include <stdlib.h>
#include <string.h>

/* A number a channel, each the shortest text that reads back as the same float. */
static void floats_text(const float *values, uint32_t count, char *text, size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count && length < size; i++) {
        char number[32];
        for (int digits = 4; digits <= 9; digits++) {
            snprintf(number, sizeof number, "%.*g", digits, (double)values[i]);
            if (strtof(number, NULL) == values[i]) break;
        }
        length += (size_t)snprintf(text + length, size - length, "%s%s", i ? " " : "",
                                   number);
    }
}

char *card_classes(const vgg_dataset *data)
{
    size_t size = 1, length = 0;
    const char *name;
    for (uint32_t i = 0; (name = vgg_dataset_class_name(data, i)); i++)
        size += strlen(name) + 1;
    char *text = malloc(size);
    for (uint32_t i = 0; text && (name = vgg_dataset_class_name(data, i)); i++)
        length +=
            (size_t)snprintf(text + length, size - length, "%s%s", i ? "\n" : "", name);
    return text;
}

static bool set(vgg_metadata *metadata, const char *key, const char *value)
{
    return vgg_metadata_set(metadata, key, value) == VGG_OK;
}

/* FNV-1a of every setting that is part of what is computed; not of the names that a
 * preset and a file have, nor of what is of pictures alone where there are none. */
static void settings_hash(const struct settings *s, char text[20])
{
    static char value[TEXT_SIZE];
    uint64_t hash = 0xcbf29ce484222325u;
    for (unsigned i = 0; i < flag_count; i++) {
        const struct flag *flag = &flags[i];
        if (flag->life != LIFE_FIXED || !(flag->verbs & TRAIN) ||
            strcmp(flag->name, "preset") == 0 ||
            strcmp(flag->name, "init-weights") == 0 ||
            strcmp(flag->name, "new-head") == 0 ||
            (strcmp(flag->name, "fit") == 0 && !has_pictures(s)))
            continue;
        settings_text(s, flag, value);
        const char *const parts[] = {flag->name, "=", value, "\n"};
        for (unsigned k = 0; k < sizeof parts / sizeof parts[0]; k++)
            for (const char *at = parts[k]; *at; at++)
                hash = (hash ^ (unsigned char)*at) * 0x100000001b3u;
    }
    snprintf(text, 20, "%016llx", (unsigned long long)hash);
}

bool card_agrees(const vgg_metadata *mine, const vgg_metadata *saved, const char *key)
{
    const char *a = vgg_metadata_get(mine, key);
    const char *b = vgg_metadata_get(saved, key);
    return !a || !b || strcmp(a, b) == 0;
}

static bool set_pictures(const struct session *it, const struct settings *s)
{
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)it->pictures);
    return !has_pictures(s) ||
           (set(it->metadata, "app.fit", flag_find("fit")->choices[s->fit]) &&
            set(it->metadata, "app.pictures", hash));
}

int card_write(struct session *it, const struct settings *s,
               const vgg_transform *transform, const vgg_dataset *data)
{
    char image[32], resize[32], crop[32], mean[128], std[128], hash[20];
    const uint32_t channels = vgg_dataset_shape(data)->dim[0];
    const uint32_t most = channels < VGG_MAX_CHANNELS ? channels : VGG_MAX_CHANNELS;
    snprintf(resize, sizeof resize, "%ux%u", (unsigned)s->resize.height,
             (unsigned)s->resize.width);
    snprintf(crop, sizeof crop, "%ux%u", (unsigned)s->crop.height,
             (unsigned)s->crop.width);
    snprintf(image, sizeof image, "%ux%u", (unsigned)vgg_dataset_shape(data)->dim[1],
             (unsigned)vgg_dataset_shape(data)->dim[2]);
    floats_text(transform->mean, most, mean, sizeof mean);
    floats_text(transform->std, most, std, sizeof std);
    settings_hash(s, hash);
    if (vgg_metadata_create(it->ctx, &it->metadata) != VGG_OK) return fail_vgg(NULL);
    char *classes = card_classes(data);
    const char *rule = flag_find("resize-rule")->choices[s->resize_rule];
    vgg_metadata *m = it->metadata;
    const bool good = classes && set(m, "app.dataset", dataset_name(s)) &&
                      set(m, "app.classes", classes) && set(m, "app.image", image) &&
                      set(m, "app.resize", resize) && set(m, "app.resize_rule", rule) &&
                      set(m, "app.crop", crop) && set(m, "app.mean", mean) &&
                      set(m, "app.std", std) && set(m, "app.settings", hash) &&
                      set_pictures(it, s);
    free(classes);
    return good ? 0 : fail_vgg("metadata of the weights");
}

/* As many numbers as channels; false if the text is anything else. */
static bool read_floats(const char *text, uint32_t channels, float *out, bool positive)
{
    uint32_t count = 0;
    while (text && *text && count < VGG_MAX_CHANNELS) {
        char *end;
        const float value = strtof(text, &end);
        if (end == text || !(value > (positive ? 0.0f : -1e6f)) || value > 1e6f)
            return false;
        out[count++] = value;
        text = end + (*end == ' ');
    }
    return text && *text == '\0' && count == channels;
}

/* A value through the flag of the same meaning, which knows what is valid. */
static int read_flag(const vgg_metadata *metadata, const char *key, const char *flag,
                     struct settings *s)
{
    const char *value = vgg_metadata_get(metadata, key);
    if (!value)
        return fail("the weights do not say %s: they are not from `vgg train`", key);
    mute(true);
    const int status = settings_set(s, flag_find(flag), value, FROM_FILE);
    mute(false);
    if (status == 0) return 0;
    return fail("the weights' %s is '%.80s', which this program does not know", key,
                value);
}

/* No more names than the network has outputs. */
static int check_classes(const char *names, uint32_t outputs)
{
    uint32_t count = names && *names ? 1 : 0;
    for (; names && *names; names++) count += *names == '\n';
    if (count <= outputs) return 0;
    return fail("the weights' app.classes has %u names and the network %u outputs",
                (unsigned)count, (unsigned)outputs);
}

/* "28x28" */
static bool read_extent(const char *text, struct extent *out)
{
    char again[32];
    unsigned height, width;
    if (sscanf(text, "%5ux%5u", &height, &width) != 2) return false;
    snprintf(again, sizeof again, "%ux%u", height, width);
    *out = (struct extent){height, width};
    return strcmp(again, text) == 0 && height > 0 && height <= 32768 && width > 0 &&
           width <= 32768;
}

int card_read(const struct session *it, struct settings *s, vgg_transform *out)
{
    const vgg_metadata *metadata = it->metadata;
    const uint32_t channels = vgg_model_input_shape(it->model)->dim[0];
    int status = read_flag(metadata, "app.dataset", "dataset", s);
    if (status == 0) status = read_flag(metadata, "app.resize", "resize", s);
    if (status == 0) status = read_flag(metadata, "app.resize_rule", "resize-rule", s);
    if (status == 0) status = read_flag(metadata, "app.crop", "crop", s);
    if (status == 0 && has_pictures(s))
        status = read_flag(metadata, "app.fit", "fit", s);
    if (status != 0) return status;
    s->channels = channels;
    s->image = dataset_extent(s); /* of weights that do not say it */
    if (vgg_metadata_get(metadata, "app.image") &&
        !read_extent(vgg_metadata_get(metadata, "app.image"), &s->image))
        return fail("the weights' app.image is '%.80s', expected a size such as 28x28",
                    vgg_metadata_get(metadata, "app.image"));
    *out = (vgg_transform)VGG_TRANSFORM_INIT;
    out->resize_height = s->resize.height;
    out->resize_width = s->resize.width;
    out->resize_rule = (uint32_t)s->resize_rule;
    out->crop_height = s->crop.height;
    out->crop_width = s->crop.width;
    if (!read_floats(vgg_metadata_get(metadata, "app.mean"), channels, out->mean,
                     false) ||
        !read_floats(vgg_metadata_get(metadata, "app.std"), channels, out->std, true))
        return fail("the weights' app.mean or app.std is not a list of %u numbers, one "
                    "a channel",
                    (unsigned)channels);
    return check_classes(vgg_metadata_get(metadata, "app.classes"),
                         vgg_model_output_shape(it->model)->dim[0]);
}
