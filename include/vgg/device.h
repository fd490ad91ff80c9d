/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file device.h
 * @brief Where a network is computed: engines and their devices.
 *
 * Engines: `cpu` (OpenBLAS or the library's own kernels, all threads of the context)
 * and `ref` (plain loops, one thread, also in double precision: the oracle of the
 * others).
 */
#ifndef VGG_DEVICE_H
#define VGG_DEVICE_H

#include <vgg/context.h>

VGG_BEGIN_DECLS

/** An open device. Thread-safety: safe. */
typedef struct vgg_device vgg_device;

/** What was found on this machine. Thread-safety: reading is safe. */
typedef struct vgg_device_list vgg_device_list;

/**
 * Look for devices. Nothing is opened or changed.
 *
 * @return VGG_OK (also when an engine found nothing), VGG_ENOMEM.
 */
VGG_API vgg_status vgg_device_list_create(vgg_context *ctx, vgg_device_list **out);

/** Give a list back. */
VGG_API void vgg_device_list_free(vgg_device_list *list);

/** Number of devices found. */
VGG_API uint32_t vgg_device_list_count(const vgg_device_list *list);

/** Name to open a device by, for instance "cpu"; NULL when past the last. */
VGG_API const char *vgg_device_list_name(const vgg_device_list *list, uint32_t index);

/** Engine of a device, for instance "cpu"; NULL when past the last. */
VGG_API const char *vgg_device_list_engine(const vgg_device_list *list, uint32_t index);

/** One line about a device as far as it is known before it is opened: processor,
 *  instruction set, threads. */
VGG_API const char *vgg_device_list_text(const vgg_device_list *list, uint32_t index);

/** Number of engines that can't run here. */
VGG_API uint32_t vgg_device_list_refused_count(const vgg_device_list *list);

/** Name of an engine that can't run here; NULL when past the last. */
VGG_API const char *vgg_device_list_refused_engine(const vgg_device_list *list,
                                                   uint32_t index);

/** Why it can't, in one line; NULL when past the last. */
VGG_API const char *vgg_device_list_refused_reason(const vgg_device_list *list,
                                                   uint32_t index);

/**
 * Open a device.
 *
 * @param name a name from the list; NULL or "auto" for the best device that can be
 *             opened. A named device that can't be opened is an error, never a silent
 *             fallback.
 * @return VGG_OK, VGG_EINVAL (unknown name), VGG_EDEVICE (can't be opened), VGG_ENOMEM.
 */
VGG_API vgg_status vgg_device_open(vgg_context *ctx, const char *name,
                                   vgg_device **out);

/** Give a device back; it closes with the last plan that uses it. */
VGG_API void vgg_device_free(vgg_device *device);

/** Name of an open device, for instance "cpu". */
VGG_API const char *vgg_device_name(const vgg_device *device);

/** Engine of an open device, for instance "cpu". */
VGG_API const char *vgg_device_engine(const vgg_device *device);

/** One line about an open device: also which matrix product it uses, and why. */
VGG_API const char *vgg_device_text(const vgg_device *device);

VGG_END_DECLS

#endif
