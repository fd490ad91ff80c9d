/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint's manifest: see manifest.h. */
#include "store/manifest.h"

#include "core/error.h"
#include "core/memory.h"
#include "io/json.h"

#include <inttypes.h>
#include <string.h>
#include <vgg/version.h>

#define FORMAT       "vgg-checkpoint"
#define LARGEST_TEXT 65536 /* bytes */

const char *const vgg__checkpoint_names[1 + VGG_FILES] = {
    "manifest.json", "weights.safetensors", "trainer.json", "optimizer.safetensors"};

vgg_status vgg__manifest_write(vgg_context *ctx, const struct vgg__manifest *manifest,
                               char **text, size_t *size)
{
    struct vgg__json_out json;
    vgg__json_out_begin(&json, ctx, false);
    vgg__json_open(&json, NULL, '{');
    vgg__json_put_text(&json, "format", FORMAT);
    vgg__json_put_u64(&json, "version", VGG_CHECKPOINT_VERSION);
    vgg__json_put_text(&json, "library", VGG_VERSION);
    vgg__json_open(&json, "files", '{');
    for (uint32_t i = 0; i < VGG_FILES; i++) {
        if (!manifest->files[i].present) continue;
        vgg__json_open(&json, vgg__checkpoint_names[1 + i], '{');
        vgg__json_put_u64(&json, "size", manifest->files[i].size);
        vgg__json_put_text(&json, "sha256", manifest->files[i].sha256);
        vgg__json_close(&json, '}');
    }
    vgg__json_close(&json, '}');
    vgg__json_close(&json, '}');
    *text = json.text;
    *size = json.size;
    if (json.status != VGG_OK) {
        vgg__json_out_free(&json);
        *text = NULL;
    }
    return json.status;
}

static vgg_status read_hash(struct vgg__json *json, char hash[VGG_SHA256_TEXT])
{
    VGG_TRY(vgg__json_read_text(json, hash, VGG_SHA256_TEXT));
    if (strspn(hash, "0123456789abcdef") != VGG_SHA256_TEXT - 1)
        return vgg__json_fail(json, VGG_EFORMAT, "expected 64 hexadecimal digits");
    return VGG_OK;
}

static vgg_status read_file(struct vgg__json *json, struct vgg__manifest *manifest,
                            uint32_t index)
{
    static const char *const fields[] = {"size", "sha256"};
    uint32_t seen = 0, which;
    manifest->files[index].present = true;
    VGG_TRY(vgg__json_expect(json, VGG_JSON_OBJECT));
    for (;;) {
        VGG_TRY(vgg__json_field(json, fields, 2, &seen, &which));
        if (which == 2) break;
        if (which == 0) VGG_TRY(vgg__json_read_u64(json, &manifest->files[index].size));
        if (which == 1) VGG_TRY(read_hash(json, manifest->files[index].sha256));
    }
    return vgg__json_complete(json, fields, 2, seen, vgg__checkpoint_names[1 + index]);
}

static vgg_status read_files(struct vgg__json *json, struct vgg__manifest *manifest)
{
    const char *const *names = vgg__checkpoint_names + 1;
    uint32_t seen = 0, which;
    VGG_TRY(vgg__json_expect(json, VGG_JSON_OBJECT));
    for (;;) {
        VGG_TRY(vgg__json_field(json, names, VGG_FILES, &seen, &which));
        if (which == VGG_FILES) break;
        VGG_TRY(read_file(json, manifest, which));
    }
    /* All but the last one must be there. */
    return vgg__json_complete(json, names, VGG_FILES - 1, seen, "files");
}

static vgg_status check_version(struct vgg__json *json, uint64_t version)
{
    if (version > VGG_CHECKPOINT_VERSION)
        return vgg__json_fail(json, VGG_EUNSUPPORTED,
                              "format version %" PRIu64 ", this library knows up to %d",
                              version, VGG_CHECKPOINT_VERSION);
    if (version == 0) return vgg__json_fail(json, VGG_EFORMAT, "format version 0");
    return VGG_OK;
}

/* A newer manifest may have keys that are not known: its version is looked for
 * first. */
static vgg_status find_version(struct vgg__json *json)
{
    VGG_TRY(vgg__json_expect(json, VGG_JSON_OBJECT));
    for (;;) {
        VGG_TRY(vgg__json_next(json));
        if (json->kind == VGG_JSON_OBJECT_END)
            return vgg__json_fail(json, VGG_EFORMAT, "no \"version\"");
        if (!vgg__json_is(json, "version")) {
            VGG_TRY(vgg__json_skip(json));
            continue;
        }
        uint64_t version = 0;
        VGG_TRY(vgg__json_read_u64(json, &version));
        return check_version(json, version);
    }
}

static vgg_status parse(struct vgg__json *json, struct vgg__manifest *manifest)
{
    static const char *const fields[] = {"format", "version", "library", "files"};
    uint32_t seen = 0, which;
    uint64_t version;
    VGG_TRY(vgg__json_expect(json, VGG_JSON_OBJECT));
    for (;;) {
        VGG_TRY(vgg__json_field(json, fields, 4, &seen, &which));
        if (which == 4) break;
        if (which == 0 || which == 2) VGG_TRY(vgg__json_expect(json, VGG_JSON_STRING));
        if (which == 0 && !vgg__json_is(json, FORMAT))
            return vgg__json_fail(json, VGG_EFORMAT, "expected \"" FORMAT "\"");
        if (which == 1) VGG_TRY(vgg__json_read_u64(json, &version));
        if (which == 3) VGG_TRY(read_files(json, manifest));
    }
    VGG_TRY(vgg__json_complete(json, fields, 4, seen, "the manifest"));
    return vgg__json_expect(json, VGG_JSON_END);
}

vgg_status vgg__manifest_read(vgg_context *ctx, const struct vgg__input *input,
                              struct vgg__manifest *manifest)
{
    struct vgg__json json;
    char *text;
    memset(manifest, 0, sizeof *manifest);
    VGG_TRY(vgg__input_text(input, ctx, LARGEST_TEXT, &text));
    vgg__json_begin(&json, input->shown, text, (size_t)input->size);
    vgg_status status = find_version(&json);
    vgg__json_begin(&json, input->shown, text, (size_t)input->size);
    if (status == VGG_OK) status = parse(&json, manifest);
    vgg__free(text);
    return status;
}
