/* SPDX-License-Identifier: Apache-2.0 */
/* `vgg devices`: what can compute here, and what can't and why. */
#include "json.h"
#include "session.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What stands behind a name is known once it is open: which matrix product, and why. */
struct found {
    const char *name, *engine;
    char text[512]; /* about the device, or why it can't be opened */
    bool opened;
};

static void look(vgg_context *ctx, const vgg_device_list *list, uint32_t index,
                 struct found *found)
{
    vgg_device *device = NULL;
    found->name = vgg_device_list_name(list, index);
    found->engine = vgg_device_list_engine(list, index);
    found->opened = vgg_device_open(ctx, found->name, &device) == VGG_OK;
    snprintf(found->text, sizeof found->text, "%s",
             found->opened ? vgg_device_text(device) : vgg_last_error());
    vgg_device_free(device);
}

/* The system's OpenBLAS, which is loaded only where it is used: here, to tell which one
 * it is. The device's line ends with the matrix product's. */
static void look_openblas(const struct settings *s, char *text, size_t size)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.threads = (uint32_t)s->threads;
    opts.gemm = VGG_GEMM_OPENBLAS;
    vgg_context *ctx = NULL;
    vgg_device *device = NULL;
    const int opened = vgg_context_create(&opts, &ctx) == VGG_OK &&
                       vgg_device_open(ctx, "cpu", &device) == VGG_OK;
    const char *said = opened ? vgg_device_text(device) : vgg_last_error();
    const char *blas = opened ? strstr(said, "OpenBLAS") : NULL;
    snprintf(text, size, "%s", blas != NULL ? blas : said);
    vgg_device_free(device);
    vgg_context_free(ctx);
}

static void refused_json(struct json *j, const char *engine, const char *reason)
{
    json_object(j, NULL);
    json_text(j, "engine", engine);
    json_text(j, "reason", reason);
    json_end(j);
}

static void devices_json(const vgg_device_list *list, const struct found *found,
                         const char *openblas)
{
    const uint32_t count = vgg_device_list_count(list);
    struct json j = {.file = stdout};
    json_object(&j, NULL);
    json_array(&j, "devices");
    for (uint32_t i = 0; i < count; i++) {
        if (!found[i].opened) continue;
        json_object(&j, NULL);
        json_text(&j, "name", found[i].name);
        json_text(&j, "engine", found[i].engine);
        json_text(&j, "text", found[i].text);
        json_end(&j);
    }
    json_end(&j);
    json_array(&j, "refused");
    for (uint32_t i = 0; i < count; i++)
        if (!found[i].opened) refused_json(&j, found[i].engine, found[i].text);
    for (uint32_t i = 0; i < vgg_device_list_refused_count(list); i++)
        refused_json(&j, vgg_device_list_refused_engine(list, i),
                     vgg_device_list_refused_reason(list, i));
    json_end(&j);
    json_text(&j, "openblas", openblas);
    json_end(&j);
}

static void devices_text(const vgg_device_list *list, const struct found *found,
                         const char *openblas)
{
    for (uint32_t i = 0; i < vgg_device_list_count(list); i++)
        printf("%-8s %s%s\n", found[i].name,
               found[i].opened ? "" : "refused: ", found[i].text);
    for (uint32_t i = 0; i < vgg_device_list_refused_count(list); i++)
        printf("%-8s refused: %s\n", vgg_device_list_refused_engine(list, i),
               vgg_device_list_refused_reason(list, i));
    printf("%-8s for --gemm openblas: %s\n", "", openblas);
}

int devices_main(struct settings *s)
{
    vgg_device_list *list = NULL;
    vgg_context *ctx = NULL;
    struct found *found = NULL;
    char openblas[512];
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.threads = (uint32_t)s->threads;
    opts.gemm = (uint32_t)s->gemm;
    opts.conv = (uint32_t)s->conv;
    int status = 0;
    if (vgg_context_create(&opts, &ctx) != VGG_OK ||
        vgg_device_list_create(ctx, &list) != VGG_OK) {
        status = fail_vgg("looking for devices");
    } else {
        found = calloc(vgg_device_list_count(list) + 1, sizeof *found);
        look_openblas(s, openblas, sizeof openblas);
        for (uint32_t i = 0; found != NULL && i < vgg_device_list_count(list); i++)
            look(ctx, list, i, &found[i]);
        if (found == NULL)
            status = fail("no memory for the list of devices");
        else if (s->format == FORMAT_JSON)
            devices_json(list, found, openblas);
        else
            devices_text(list, found, openblas);
    }
    free(found);
    vgg_device_list_free(list);
    vgg_context_free(ctx);
    return status;
}
