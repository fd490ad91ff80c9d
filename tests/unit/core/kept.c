/* SPDX-License-Identifier: Apache-2.0 */
/* A call that succeeds leaves the last error as it was, whatever it tried in vain. */
#include "harness.h"

#include <vgg/vgg.h>

#include <stdio.h>
#include <string.h>

static char marked[512], base[64];

/* An error to be kept, which no other call makes. */
static void mark(void)
{
    vgg_device *device;
    ck_fails_with(vgg_device_open(NULL, "a mark", &device), VGG_EINVAL, "a mark");
    snprintf(marked, sizeof marked, "%s", vgg_last_error());
}

#define keeps(call)                                                                    \
    do {                                                                               \
        ck_ok(call);                                                                   \
        ck_assert_msg(strcmp(vgg_last_error(), marked) == 0, "%s: left \"%s\"", #call, \
                      vgg_last_error());                                               \
    } while (0)

static const char *in_base(const char *name)
{
    static char texts[2][128];
    static unsigned turn;
    char *text = texts[turn++ % 2];
    snprintf(text, sizeof texts[0], "%s/%s", base, name);
    return text;
}

static int read_image(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    (void)cookie;
    for (int i = 0; i < 64; i++) image[i] = (uint8_t)(index * 37 + (uint64_t)i * 11);
    *label = (uint32_t)(index % 3);
    return 0;
}

/* Where an engine is not installed, all of these try it first. */
START_TEST(devices)
{
    static const char *const names[] = {NULL, "auto", "cpu", "ref"};
    vgg_context *ctx;
    vgg_device_list *list;
    vgg_device *device;
    mark();
    keeps(vgg_context_create(NULL, &ctx));
    keeps(vgg_device_list_create(ctx, &list));
    vgg_device_list_free(list);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        keeps(vgg_device_open(ctx, names[i], &device));
        vgg_device_free(device);
    }
    vgg_context_free(ctx);
    ck_assert_str_eq(vgg_last_error(), marked);
}
END_TEST

static vgg_arch small_arch(void)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 1;
    arch.blocks[0] = (vgg_block){1, 4, 0};
    arch.height = arch.width = 8;
    arch.classes = 3;
    arch.hidden = 5;
    return arch;
}

/* Of a training with all that belongs to it. */
START_TEST(training)
{
    const vgg_arch arch = small_arch();
    const vgg_source source = {.count = 12,
                               .channels = 1,
                               .height = 8,
                               .width = 8,
                               .classes = 3,
                               .read = read_image};
    vgg_loader_options batches = VGG_LOADER_OPTIONS_INIT;
    vgg_trainer_options recipe = VGG_TRAINER_OPTIONS_INIT;
    vgg_model *model, *loaded;
    vgg_device *device;
    vgg_dataset *data;
    vgg_loader *loader;
    vgg_trainer *trainer;
    batches.batch = recipe.batch = 4;
    batches.train = 1;
    recipe.epochs = 1;
    harness_mkdtemp(base);
    mark();
    keeps(vgg_model_create(NULL, &arch, 1, NULL, &model));
    keeps(vgg_device_open(NULL, "auto", &device));
    keeps(vgg_dataset_from_source(NULL, &source, &data));
    keeps(vgg_loader_create(data, &batches, &loader));
    keeps(vgg_trainer_create(model, device, &recipe, &trainer));
    keeps(vgg_trainer_fit(trainer, loader, loader, NULL));
    for (int i = 0; i < 2; i++) {
        keeps(vgg_checkpoint_save(trainer, in_base("ck"), NULL));
        keeps(vgg_weights_save(model, in_base("w"), NULL));
    }
    keeps(vgg_checkpoint_check(NULL, in_base("ck")));
    keeps(vgg_checkpoint_load(trainer, in_base("ck"), NULL));
    keeps(vgg_weights_load(model, in_base("w"), NULL, NULL));
    keeps(vgg_model_load(NULL, in_base("w"), NULL, &loaded));
    vgg_trainer_free(trainer);
    vgg_loader_free(loader);
    vgg_dataset_free(data);
    vgg_device_free(device);
    vgg_model_free(loaded);
    vgg_model_free(model);
    ck_assert_str_eq(vgg_last_error(), marked);
    harness_rmdir(base);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kept");
    TCase *tests = tcase_create("kept");
    tcase_add_test(tests, devices);
    tcase_add_test(tests, training);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
