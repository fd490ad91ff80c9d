/* SPDX-License-Identifier: Apache-2.0 */
/* What a program is told of the GPU engine before it computes: the list of devices,
 * with or without the libraries; and data sets for which a GPU has no room. Through the
 * public interface, on the plugin with the simulated device. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vgg/vgg.h>

#include "cudnn/libraries.h"
#include "harness.h"

static vgg_context *ctx;
static char log_text[1024];

static struct {
    const char *(*fault)(void);
    void (*leave)(uint64_t bytes);
    void (*missing)(const char *reason);
    const char *(*trap)(const char *call);
} plugin;

static void take_log(void *cookie, vgg_log_level level, const char *line)
{
    const size_t length = strlen(log_text);
    snprintf(log_text + length, sizeof log_text - length, "%d:%s\n", (int)level, line);
}

static void find_function(void *place, const char *name)
{
    void *handle = dlopen(PLUGIN_DIR "/vgg-cudnn.so", RTLD_NOW);
    ck_assert_msg(handle != NULL, "%s", dlerror());
    void *function = dlsym(handle, name);
    ck_assert_ptr_nonnull(function);
    memcpy(place, &function, sizeof function);
}

static void begin(void)
{
    static const vgg_logger logger = {NULL, take_log};
    setenv("VGG_CACHE_DIR", "", 1);
    find_function(&plugin.fault, "simulated_fault");
    find_function(&plugin.leave, "simulated_leave");
    find_function(&plugin.missing, "simulated_missing");
    find_function(&plugin.trap, "simulated_trap");
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.plugin_dir = PLUGIN_DIR;
    opts.threads = 1;
    opts.logger = &logger;
    ck_ok(vgg_context_create(&opts, &ctx));
}

static void end(void)
{
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
    ck_assert_msg(plugin.fault() == NULL, "%s", plugin.fault());
}

/* ---- Libraries that can't be had ------------------------------------------------- */

static void check_list(const char *reason)
{
    vgg_device_list *list;
    bool processor = false, told = false;
    ck_ok(vgg_device_list_create(ctx, &list));
    for (uint32_t i = 0; i < vgg_device_list_count(list); i++) {
        ck_assert_str_ne(vgg_device_list_engine(list, i), "cudnn");
        processor |= strcmp(vgg_device_list_name(list, i), "cpu") == 0;
    }
    for (uint32_t i = 0; i < vgg_device_list_refused_count(list); i++)
        if (strcmp(vgg_device_list_refused_engine(list, i), "cudnn") == 0) {
            ck_assert_str_eq(vgg_device_list_refused_reason(list, i), reason);
            told = true;
        }
    ck_assert(processor && told);
    vgg_device_list_free(list);
}

static const struct {
    const char *soname, *parts[4];
} unusable[] = {
    {"libvggnowhere.so.9",
     {"cuDNN (libvggnowhere.so.9) was not found", "nvidia-cudnn-cu13",
      "VGG_CUDA_LIBRARIES", NULL}},
    {"libvggold.so.9",
     {"cuDNN is too old: ", " is 9.0.0, expected 9.1 or newer", "-U nvidia-cudnn-cu13",
      NULL}},
};

/* cuDNN, missing or too old: the search for it says so, the list has its words as a
 * line, opening by name gives them as the error, and `auto` goes on. */
START_TEST(no_cudnn)
{
    const struct vgg__library dnn = {.title = "cuDNN",
                                     .sonames = {unusable[_i].soname},
                                     .package = "nvidia-cudnn-cu13",
                                     .version = "stub_version",
                                     .least = 90100};
    char folder[64], path[128], reason[VGG__REASON], whole[VGG__REASON + 64];
    vgg_device *device;
    harness_mkdtemp(folder);
    snprintf(path, sizeof path, "%s/libvggold.so.9", folder);
    ck_assert_int_eq(symlink(STUBS "/stub-old.so", path), 0);
    setenv("VGG_CUDA_LIBRARIES", folder, 1);
    ck_assert_ptr_null(vgg__library_open(&dnn, reason, sizeof reason));
    for (int i = 0; unusable[_i].parts[i] != NULL; i++)
        ck_assert_msg(strstr(reason, unusable[_i].parts[i]) != NULL, "%s", reason);
    plugin.missing(reason);
    check_list(reason);
    snprintf(whole, sizeof whole, "1:device auto: not cudnn: %s\n", reason);
    ck_fails_with(vgg_device_open(ctx, "cuda", &device), VGG_EDEVICE, reason);
    ck_ok(vgg_device_open(ctx, "auto", &device));
    ck_assert_str_eq(vgg_device_name(device), "cpu");
    ck_assert_str_eq(log_text, whole);
    vgg_device_free(device);
    plugin.missing(NULL);
    harness_rmdir(folder);
}
END_TEST

/* ---- Listing --------------------------------------------------------------------- */

static const char *const takes[] = {
    "malloc",
    "mallocHost",
    "streamCreateWithFlags",
    "eventCreateWithFlags",
    "dnnCreate",
    "ltCreate",
    "memGetInfo",
    "setDevice",
    "memcpyAsync",
    "launch",
    "funcSetAttribute",
    "streamSynchronize",
};

static uint32_t count_gpus(void)
{
    vgg_device_list *list;
    uint32_t found = 0;
    ck_ok(vgg_device_list_create(ctx, &list));
    for (uint32_t i = 0; i < vgg_device_list_count(list); i++)
        found += strcmp(vgg_device_list_engine(list, i), "cudnn") == 0;
    vgg_device_list_free(list);
    return found;
}

/* A list is made without taking anything of a device: memory, a stream, a handle, or
 * the place of the current one, any of which would make a context on every GPU. */
START_TEST(only_looks)
{
    vgg_device *device;
    ck_assert_uint_eq(count_gpus(), 1);
    for (size_t i = 0; i < sizeof takes / sizeof *takes; i++) {
        plugin.trap(takes[i]);
        ck_assert_uint_eq(count_gpus(), 1);
        ck_assert_msg(plugin.trap(NULL) == NULL, "%s while devices are listed",
                      takes[i]);
        ck_assert_msg(plugin.fault() == NULL, "%s", plugin.fault());
    }
    plugin.trap("streamCreateWithFlags"); /* opening takes what listing does not */
    ck_fails(vgg_device_open(ctx, "cuda:0", &device), VGG_EDEVICE);
    ck_assert_str_eq(plugin.trap(NULL), "streamCreateWithFlags");
}
END_TEST

/* ---- Data sets that stay --------------------------------------------------------- */

/* Images of STORED pixels a side, of which the network sees SIDE. */
enum {
    STORED = 700,
    SIDE = 12,
    CLASSES = 3,
    BATCH = 6,
    SAMPLES = 12,
    BYTES = SAMPLES * STORED * STORED
};

static int read_noise(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    *label = (uint32_t)(index * 7 % CLASSES);
    for (int i = 0; i < STORED * STORED; i++)
        image[i] = (uint8_t)(index * 31 + (uint64_t)i * 17 + (uint64_t)i / 701);
    return 0;
}

/* Two steps with `room` bytes of device memory left for what comes after compiling, 0
 * for all that there is; the first parameter. */
static void train_with(uint64_t room, vgg_tensor **weights)
{
    const vgg_source source = {.count = SAMPLES,
                               .channels = 1,
                               .height = STORED,
                               .width = STORED,
                               .classes = CLASSES,
                               .read = read_noise};
    vgg_arch arch = VGG_ARCH_INIT;
    vgg_transform transform = VGG_TRANSFORM_INIT;
    vgg_loader_options loading = VGG_LOADER_OPTIONS_INIT;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    vgg_device *device;
    vgg_dataset *data;
    vgg_loader *loader;
    vgg_model *model;
    vgg_trainer *trainer;
    arch.block_count = 2;
    arch.height = arch.width = SIDE;
    arch.hidden = 16;
    arch.classes = CLASSES;
    loading.batch = opts.batch = BATCH;
    loading.train = 1;
    loading.transform = &transform;
    transform.crop_height = transform.crop_width = SIDE;
    opts.lr = 0.1;
    opts.epochs = 1;
    ck_ok(vgg_device_open(ctx, "cuda:0", &device));
    ck_ok(vgg_dataset_from_source(ctx, &source, &data));
    ck_ok(vgg_loader_create(data, &loading, &loader));
    ck_ok(vgg_model_create(ctx, &arch, 16, NULL, &model));
    ck_ok(vgg_trainer_create(model, device, &opts, &trainer));
    if (room > 0) plugin.leave(room);
    log_text[0] = '\0';
    ck_ok(vgg_trainer_fit(trainer, loader, NULL, NULL));
    vgg_param *param = vgg_model_param(model, 0);
    ck_ok(vgg_tensor_create(ctx, VGG_F32, vgg_param_shape(param), weights));
    ck_ok(vgg_param_read(param, *weights));
    vgg_trainer_free(trainer);
    vgg_model_free(model);
    vgg_loader_free(loader);
    vgg_dataset_free(data);
    vgg_device_free(device);
    plugin.leave((uint64_t)1 << 36);
}

/* A data set of half of the free memory stays on the device; of a byte more it stays
 * with the host, the log says why, and the training is the same. */
START_TEST(half_of_the_memory)
{
    vgg_tensor *weights[3];
    char line[256];
    train_with(0, &weights[0]);
    ck_assert_str_eq(log_text, "");
    train_with(2 * BYTES, &weights[1]);
    ck_assert_str_eq(log_text, "");
    train_with(2 * BYTES - 2, &weights[2]);
    snprintf(
        line, sizeof line,
        "1:cuda:0: a data set of %d images stays with the host: cuda:0: a data set "
        "of %d MiB takes more than half of the %d MiB free\n",
        SAMPLES, BYTES >> 20, (2 * BYTES - 2) >> 20);
    ck_assert_str_eq(log_text, line);
    for (int i = 1; i < 3; i++)
        ck_assert_int_eq(memcmp(vgg_tensor_data(weights[i]),
                                vgg_tensor_data(weights[0]),
                                vgg_tensor_bytes(weights[0])),
                         0);
    for (int i = 0; i < 3; i++) vgg_tensor_free(weights[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("listed");
    TCase *tcase = tcase_create("plugin");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_loop_test(tcase, no_cudnn, 0, sizeof unusable / sizeof *unusable);
    tcase_add_test(tcase, only_looks);
    tcase_add_test(tcase, half_of_the_memory);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
