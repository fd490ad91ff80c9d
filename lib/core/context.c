/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: made, counted, given back; and the default one, which is static, is set up
 * at first use and never goes. A context's own memory comes from its allocator, but
 * does not count towards its bytes: those are its objects'. */
#include "core/context.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/state.h"
#include "core/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static vgg_context default_context;
static pthread_once_t default_once = PTHREAD_ONCE_INIT;

/* Fill in a zeroed context. `opts` is checked; behind the context there is room for its
 * plugin_dir. */
static void context_setup(vgg_context *ctx, const vgg_context_options *opts)
{
    atomic_init(&ctx->refs, 1);
    atomic_init(&ctx->bytes, 0);
    atomic_init(&ctx->pool.owner, 0);
    pthread_mutex_init(&ctx->pool.lock, NULL);
    pthread_mutex_init(&ctx->pool.busy, NULL);
    ctx->opts = *opts;
    ctx->allocator =
        opts->allocator != NULL ? *opts->allocator : vgg__default_allocator;
    ctx->opts.allocator = &ctx->allocator;
    if (opts->logger != NULL) {
        ctx->logger = *opts->logger;
        ctx->opts.logger = &ctx->logger;
    }
    if (opts->plugin_dir != NULL) {
        char *const copy = (char *)(ctx + 1);
        memcpy(copy, opts->plugin_dir, strlen(opts->plugin_dir) + 1);
        ctx->opts.plugin_dir = copy;
    }
    if (opts->threads == 0) ctx->opts.threads = vgg__processors();
}

static void default_setup(void)
{
    default_context.is_default = true;
    context_setup(&default_context, &(vgg_context_options)VGG_CONTEXT_OPTIONS_INIT);
}

vgg_context *vgg__context_get(const vgg_context *ctx)
{
    if (ctx != NULL) return (vgg_context *)ctx;
    pthread_once(&default_once, default_setup);
    return &default_context;
}

static vgg_status options_check(const vgg_context_options *opts)
{
    const vgg_allocator *allocator = opts->allocator;
    if (allocator != NULL && (allocator->alloc == NULL || allocator->release == NULL))
        return vgg__fail(VGG_EINVAL,
                         "vgg_context_options.allocator: a function is NULL");
    if (opts->logger != NULL && opts->logger->log == NULL)
        return vgg__fail(VGG_EINVAL,
                         "vgg_context_options.logger: its function is NULL");
    if (opts->threads > VGG_MAX_THREADS)
        return vgg__fail(VGG_EINVAL,
                         "vgg_context_options.threads: at most %d, found %u",
                         VGG_MAX_THREADS, opts->threads);
    if (opts->gemm > VGG_GEMM_OWN)
        return vgg__fail(VGG_EINVAL, "vgg_context_options.gemm: no vgg_gemm is %u",
                         opts->gemm);
    if (opts->blas > VGG_BLAS_TAKE)
        return vgg__fail(VGG_EINVAL,
                         "vgg_context_options.blas: no vgg_blas_policy is %u",
                         opts->blas);
    if (opts->conv > VGG_CONV_MEASURED)
        return vgg__fail(VGG_EINVAL, "vgg_context_options.conv: no vgg_conv is %u",
                         opts->conv);
    const size_t length =
        opts->plugin_dir != NULL ? strnlen(opts->plugin_dir, VGG_FOLDER_SIZE) : 1;
    if (length == 0 || length == VGG_FOLDER_SIZE)
        return vgg__fail(VGG_EINVAL,
                         "vgg_context_options.plugin_dir: expected 1 to %d bytes, "
                         "found %s",
                         VGG_FOLDER_SIZE - 1, length == 0 ? "none" : "more");
    return VGG_OK;
}

vgg_status vgg_context_create(const vgg_context_options *opts, vgg_context **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    vgg_context_options read = VGG_CONTEXT_OPTIONS_INIT;
    VGG_TRY(vgg__options_read("vgg_context_options", opts,
                              VGG_SIZE_UP_TO(vgg_context_options, conv), &read,
                              sizeof read));
    VGG_TRY(options_check(&read));
    const vgg_allocator *from =
        read.allocator != NULL ? read.allocator : &vgg__default_allocator;
    const size_t folder = read.plugin_dir != NULL ? strlen(read.plugin_dir) + 1 : 0;
    const size_t size = vgg__align_up(sizeof(vgg_context) + folder);
    vgg_context *ctx = from->alloc(from->cookie, size, VGG_ALIGN);
    if (ctx == NULL)
        return vgg__fail(VGG_ENOMEM, "out of memory: %zu bytes wanted for a context",
                         size);
    *ctx = (vgg_context){0};
    context_setup(ctx, &read);
    *out = ctx;
    return VGG_OK;
}

void vgg_context_free(vgg_context *ctx)
{
    if (ctx != NULL) vgg__context_unref(ctx);
}

vgg_context *vgg__context_ref(vgg_context *ctx)
{
    ctx = vgg__context_get(ctx);
    if (!ctx->is_default)
        atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

void vgg__context_unref(vgg_context *ctx)
{
    ctx = vgg__context_get(ctx);
    if (ctx->is_default) return;
    if (atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1) return;
    pthread_mutex_destroy(&ctx->pool.busy);
    pthread_mutex_destroy(&ctx->pool.lock);
    const vgg_allocator from = ctx->allocator;
    from.release(from.cookie, ctx);
}

uint32_t vgg_context_threads(const vgg_context *ctx)
{
    return vgg__context_get(ctx)->opts.threads;
}

uint64_t vgg_context_bytes(const vgg_context *ctx)
{
    return atomic_load_explicit(&vgg__context_get(ctx)->bytes, memory_order_relaxed);
}

const vgg_context_options *vgg__context_options(const vgg_context *ctx)
{
    return &vgg__context_get(ctx)->opts;
}

void vgg__log(vgg_context *ctx, vgg_log_level level, const char *format, ...)
{
    ctx = vgg__context_get(ctx);
    if (ctx->opts.logger == NULL) return;
    char raw[2 * VGG_ERROR_SIZE], line[VGG_ERROR_SIZE];
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    if (length < 0) return;
    vgg__text_escape(raw, (size_t)length >= sizeof raw, line, sizeof line);
    ctx->logger.log(ctx->logger.cookie, level, line);
}
