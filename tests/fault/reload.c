/* SPDX-License-Identifier: Apache-2.0 */
/* A host that loads libvgg, uses it and lets it go, again and again: what it may use at
 * first it may use each time, OpenBLAS above all, which stays when libvgg goes. Linked
 * to nothing of libvgg; its file is the argument. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <vgg/vgg.h>

enum { SKIPPED = 77 };

#define FUNCTION(name) __typeof__(&(name)) name##_fn
#define FIND(it, name) memcpy(&(it)->name##_fn, &(void *){dlsym(library, #name)}, 8)

struct functions {
    FUNCTION(vgg_context_create);
    FUNCTION(vgg_context_free);
    FUNCTION(vgg_device_open);
    FUNCTION(vgg_device_free);
    FUNCTION(vgg_last_error);
};

/* 0, or an exit status after saying what is wrong; SKIPPED: there is no OpenBLAS. */
static int use(void *library, uint32_t gemm)
{
    struct functions it;
    FIND(&it, vgg_context_create);
    FIND(&it, vgg_context_free);
    FIND(&it, vgg_device_open);
    FIND(&it, vgg_device_free);
    FIND(&it, vgg_last_error);
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.gemm = gemm;
    opts.threads = 2;
    vgg_context *ctx;
    vgg_device *device;
    if (it.vgg_context_create_fn(&opts, &ctx) != VGG_OK) return 1;
    const vgg_status status = it.vgg_device_open_fn(ctx, "cpu", &device);
    if (status != VGG_OK) printf("%s\n", it.vgg_last_error_fn());
    const int missing =
        status != VGG_OK && strstr(it.vgg_last_error_fn(), "can't load");
    it.vgg_device_free_fn(device);
    it.vgg_context_free_fn(ctx);
    return missing ? SKIPPED : status != VGG_OK;
}

int main(int argc, char **argv)
{
    static const uint32_t gemms[] = {VGG_GEMM_OWN, VGG_GEMM_OPENBLAS, VGG_GEMM_AUTO};
    if (argc != 2) return 2;
    for (int i = 0; i < 9; i++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            printf("%s\n", dlerror());
            return 1;
        }
        const int status = use(library, gemms[i % 3]);
        dlclose(library);
        if (status == SKIPPED && i == 1) return SKIPPED; /* there is no OpenBLAS */
        if (status != 0) {
            printf("load %d of libvgg: not as at the first\n", i);
            return 1;
        }
    }
    return 0;
}
