/* SPDX-License-Identifier: Apache-2.0 */
/* `vgg info`: shapes, parameters, multiply-accumulates, memory. */
#include "json.h"
#include "session.h"

#include <string.h>

/* A row of the block view: a block of convolutions, or a linear layer of the head. */
struct part {
    char name[64];
    const vgg_shape *shape; /* of one sample coming out */
    uint64_t parameters, macs;
};

enum { PARTS_MOST = VGG_MAX_BLOCKS + 64 };

static uint64_t layer_parameters(const vgg_layer *layer)
{
    uint64_t all = 0;
    for (uint32_t i = 0; i < vgg_layer_param_count(layer); i++) {
        const vgg_param *param = vgg_layer_param(layer, i);
        uint64_t count = 0;
        if (!vgg_param_is_buffer(param) &&
            vgg_shape_count(vgg_param_shape(param), &count) == VGG_OK)
            all += count;
    }
    return all;
}

/* The chapter's table: a row a block, then a row a linear layer. */
static unsigned find_parts(const vgg_model *model, struct part parts[PARTS_MOST])
{
    unsigned count = 0;
    uint32_t block = 0;
    for (uint32_t i = 0; i < vgg_model_layer_count(model) && count < PARTS_MOST; i++) {
        const vgg_layer *layer = vgg_model_layer(model, i);
        const uint32_t at = vgg_layer_block(layer);
        if (at == 0 && vgg_layer_get_kind(layer) != VGG_LAYER_LINEAR) continue;
        if (at == 0 || at != block) {
            struct part *next = &parts[count++];
            *next = (struct part){.shape = NULL};
            if (at == 0)
                snprintf(next->name, sizeof next->name, "%s", vgg_layer_name(layer));
            else
                snprintf(next->name, sizeof next->name, "block%u", (unsigned)at);
        }
        block = at;
        struct part *part = &parts[count - 1];
        part->shape = vgg_layer_out_shape(layer);
        part->parameters += layer_parameters(layer);
        part->macs += vgg_layer_macs(layer);
    }
    return count;
}

/* "(1, 16, 112, 112)" as the chapter prints it. */
static const char *tuple(const vgg_shape *shape)
{
    static char text[64];
    size_t length = (size_t)snprintf(text, sizeof text, "(1");
    for (uint32_t i = 0; i < shape->rank && length < sizeof text; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, ", %u",
                                   (unsigned)shape->dim[i]);
    if (length < sizeof text) snprintf(text + length, sizeof text - length, ")");
    return text;
}

/* Bytes of a batch in a mode: the plan's own and the shared ones; 0 if unknown. */
static uint64_t memory_of(struct session *it, const struct settings *s, vgg_mode mode)
{
    uint64_t plan = 0, shared = 0;
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = (uint32_t)s->batch;
    opts.mode = (uint32_t)mode;
    opts.precision = session_precision(s);
    opts.deterministic = (uint32_t)s->deterministic;
    if (vgg_plan_measure(it->model, it->device, &opts, &plan, &shared) != VGG_OK)
        return 0;
    return plan + shared;
}

static void print_parts(const vgg_model *model)
{
    struct part parts[PARTS_MOST];
    const unsigned count = find_parts(model, parts);
    printf("%-10s %-20s %13s %16s\n", "", "output shape", "parameters", "MACs");
    for (unsigned i = 0; i < count; i++)
        printf("%-10s %-20s %13s %16s\n", parts[i].name, tuple(parts[i].shape),
               grouped(parts[i].parameters), grouped(parts[i].macs));
}

static void print_layers(const vgg_model *model)
{
    printf("%-12s %-15s %-20s %13s %16s\n", "layer", "torchvision", "output shape",
           "parameters", "MACs");
    for (uint32_t i = 0; i < vgg_model_layer_count(model); i++) {
        const vgg_layer *layer = vgg_model_layer(model, i);
        const char *alias = vgg_layer_alias(layer);
        printf("%-12s %-15s %-20s %13s %16s\n", vgg_layer_name(layer),
               alias ? alias : "", tuple(vgg_layer_out_shape(layer)),
               grouped(layer_parameters(layer)), grouped(vgg_layer_macs(layer)));
    }
}

/* A file's text, escaped. */
static void print_text(const char *text, size_t length)
{
    char piece[256], shown[1024];
    while (length > 0) {
        const size_t part = length < sizeof piece - 1 ? length : sizeof piece - 1;
        memcpy(piece, text, part);
        piece[part] = '\0';
        fputs(printable(piece, shown, sizeof shown), stdout);
        text += part;
        length -= part;
    }
}

static void print_card(const struct session *it)
{
    static const char *const keys[] = {"app.epochs", "app.dataset", "app.image",
                                       "app.resize", "app.fit",     "app.resize_rule",
                                       "app.crop",   "app.mean",    "app.std"};
    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *value = vgg_metadata_get(it->metadata, keys[i]);
        if (!value || strcmp(value, "0x0") == 0) continue;
        printf("%-16s ", keys[i] + strlen("app."));
        print_text(value, strlen(value));
        putchar('\n');
    }
    const char *classes = vgg_metadata_get(it->metadata, "app.classes");
    if (!classes) return;
    printf("%-16s ", "classes");
    while (*classes) {
        const size_t length = strcspn(classes, "\n");
        print_text(classes, length);
        classes += length + (classes[length] == '\n');
        if (*classes) fputs(", ", stdout);
    }
    putchar('\n');
}

static void info_text(struct session *it, const struct settings *s)
{
    printf("input %s\n", tuple(vgg_model_input_shape(it->model)));
    if (s->layers)
        print_layers(it->model);
    else
        print_parts(it->model);
    const uint64_t parameters = vgg_model_parameters(it->model);
    printf("\n%-16s %s (%s)\n", "parameters", grouped(parameters),
           readable_bytes(parameters * sizeof(float)));
    printf("%-16s %s an image\n", "MACs", grouped(vgg_model_macs(it->model)));
    const uint64_t infer = memory_of(it, s, VGG_MODE_INFER);
    const uint64_t train = memory_of(it, s, VGG_MODE_TRAIN);
    printf("%-16s batches of %llu on %s%s%s: inference %s, training %s\n", "memory",
           (unsigned long long)s->batch, vgg_device_name(it->device),
           s->precision != 0 ? " in " : "",
           s->precision != 0 ? flag_find("precision")->choices[s->precision] : "",
           infer ? readable_bytes(infer) : "not known",
           train ? readable_bytes(train) : "not known");
    if (it->metadata) print_card(it);
}

static void json_parts(struct json *j, const vgg_model *model)
{
    struct part parts[PARTS_MOST];
    const unsigned count = find_parts(model, parts);
    json_array(j, "blocks");
    for (unsigned i = 0; i < count; i++) {
        json_object(j, NULL);
        json_text(j, "name", parts[i].name);
        json_shape(j, "shape", 1, parts[i].shape);
        json_count(j, "parameters", parts[i].parameters);
        json_count(j, "macs", parts[i].macs);
        json_end(j);
    }
    json_end(j);
}

static void json_layers(struct json *j, const vgg_model *model)
{
    json_array(j, "layers");
    for (uint32_t i = 0; i < vgg_model_layer_count(model); i++) {
        const vgg_layer *layer = vgg_model_layer(model, i);
        const char *alias = vgg_layer_alias(layer);
        json_object(j, NULL);
        json_text(j, "name", vgg_layer_name(layer));
        json_text(j, "alias", alias ? alias : "");
        json_text(j, "kind", vgg_layer_kind_name(vgg_layer_get_kind(layer)));
        json_shape(j, "shape", 1, vgg_layer_out_shape(layer));
        json_count(j, "parameters", layer_parameters(layer));
        json_count(j, "macs", vgg_layer_macs(layer));
        json_end(j);
    }
    json_end(j);
}

static void info_json(struct session *it, const struct settings *s)
{
    struct json j = {.file = stdout};
    json_object(&j, NULL);
    json_shape(&j, "input", 1, vgg_model_input_shape(it->model));
    json_parts(&j, it->model);
    json_layers(&j, it->model);
    json_count(&j, "parameters", vgg_model_parameters(it->model));
    json_count(&j, "macs", vgg_model_macs(it->model));
    json_count(&j, "batch", s->batch);
    json_count(&j, "infer_bytes", memory_of(it, s, VGG_MODE_INFER));
    json_count(&j, "train_bytes", memory_of(it, s, VGG_MODE_TRAIN));
    json_text(&j, "device", vgg_device_name(it->device));
    json_end(&j);
}

int info_main(struct settings *s)
{
    struct session it = {0};
    char folder[TEXT_SIZE];
    int status = session_open(&it, s);
    if (status == 0)
        status = s->path[0] ? session_weights(&it, s->path, folder)
                            : session_model(&it, s, NULL);
    if (status == 0 && s->format == FORMAT_JSON) info_json(&it, s);
    if (status == 0 && s->format == FORMAT_TEXT) info_text(&it, s);
    session_close(&it);
    return status;
}
