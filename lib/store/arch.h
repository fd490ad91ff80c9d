/* SPDX-License-Identifier: Apache-2.0 */
/* An architecture as text, for the key "vgg.arch" of a weights file: compact JSON with
 * every field of vgg_arch, and the ratio. Blocks are [convs, channels, pointwise]. */
#ifndef VGG_STORE_ARCH_H
#define VGG_STORE_ARCH_H

#include <vgg/arch.h>
#include <vgg/context.h>

#define VGG_ARCH_KEY "vgg.arch"

/* *text is to be freed with vgg__free(). VGG_ENOMEM. */
vgg_status vgg__arch_write(vgg_context *ctx, const vgg_arch *arch, uint32_t ratio,
                           char **text);

/* From a file that is not trusted; `shown` names it. The result has passed
 * vgg_arch_check(). VGG_EFORMAT, VGG_ELIMIT, VGG_ENOMEM. */
vgg_status vgg__arch_parse(const char *shown, const char *text, vgg_arch *arch,
                           uint32_t *ratio);

/* Elements of all parameters and buffers of a checked architecture. */
uint64_t vgg__arch_values(const vgg_arch *arch, uint32_t ratio);

#endif
