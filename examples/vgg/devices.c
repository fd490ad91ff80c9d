/* SPDX-License-Identifier: Apache-2.0 */
/* `vgg devices`: what can compute here, and what can't and why. */
#include "json.h"
#include "session.h"

static void devices_json(const vgg_device_list *list)
{
    struct json j = {.file = stdout};
    json_object(&j, NULL);
    json_array(&j, "devices");
    for (uint32_t i = 0; i < vgg_device_list_count(list); i++) {
        json_object(&j, NULL);
        json_text(&j, "name", vgg_device_list_name(list, i));
        json_text(&j, "engine", vgg_device_list_engine(list, i));
        json_text(&j, "text", vgg_device_list_text(list, i));
        json_end(&j);
    }
    json_end(&j);
    json_array(&j, "refused");
    for (uint32_t i = 0; i < vgg_device_list_refused_count(list); i++) {
        json_object(&j, NULL);
        json_text(&j, "engine", vgg_device_list_refused_engine(list, i));
        json_text(&j, "reason", vgg_device_list_refused_reason(list, i));
        json_end(&j);
    }
    json_end(&j);
    json_end(&j);
}

static void devices_text(const vgg_device_list *list)
{
    for (uint32_t i = 0; i < vgg_device_list_count(list); i++)
        printf("%-8s %s\n", vgg_device_list_name(list, i),
               vgg_device_list_text(list, i));
    for (uint32_t i = 0; i < vgg_device_list_refused_count(list); i++)
        printf("%-8s refused: %s\n", vgg_device_list_refused_engine(list, i),
               vgg_device_list_refused_reason(list, i));
}

int devices_main(struct settings *s)
{
    vgg_device_list *list = NULL;
    vgg_context *ctx = NULL;
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.threads = (uint32_t)s->threads;
    opts.gemm = (uint32_t)s->gemm;
    int status = 0;
    if (vgg_context_create(&opts, &ctx) != VGG_OK ||
        vgg_device_list_create(ctx, &list) != VGG_OK)
        status = fail_vgg("looking for devices");
    else if (s->format == FORMAT_JSON)
        devices_json(list);
    else
        devices_text(list);
    vgg_device_list_free(list);
    vgg_context_free(ctx);
    return status;
}
