/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file version.h
 * @brief The release and the binary interface, as numbers.
 */
#ifndef VGG_VERSION_H
#define VGG_VERSION_H

#include <vgg/common.h>

#define VGG_VERSION_MAJOR 0       /**< release, first number */
#define VGG_VERSION_MINOR 1       /**< release, second number */
#define VGG_VERSION_PATCH 0       /**< release, third number */
#define VGG_VERSION       "0.1.0" /**< release, as text */

/**
 * Number of the binary interface, which is also the number in the soname.
 * It changes only when a program linked against an older library would break.
 */
#define VGG_ABI_VERSION 0

VGG_BEGIN_DECLS

/**
 * Release of the library that is loaded, for instance "0.1.0".
 *
 * @return a constant string. Thread-safety: safe.
 */
VGG_API const char *vgg_version(void);

/**
 * Binary interface of the library that is loaded, to be compared with #VGG_ABI_VERSION.
 *
 * @return the number. Thread-safety: safe.
 */
VGG_API uint32_t vgg_abi_version(void);

VGG_END_DECLS

#endif
