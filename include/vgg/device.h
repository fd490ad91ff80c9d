/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file device.h
 * @brief Where a network is computed: engines and their devices.
 *
 * Engines, in order of preference: `cudnn` (NVIDIA GPUs; a plugin), `cpu` (OpenBLAS or
 * the library's own kernels, all threads of the context) and `ref` (plain loops, one
 * thread, also in double precision: the oracle of the others).
 *
 * A plugin is a shared object, vgg-cudnn.so, that is loaded when a device is looked for
 * and stays loaded. It is taken from the first of these folders that has one:
 * vgg_context_options.plugin_dir; the environment's VGG_PLUGIN_DIR (not heeded by a
 * program that runs with more rights than its caller); `vgg` beside the shared libvgg;
 * the folder where libvgg was to be installed. The first two may also name the plugin's
 * file itself; another file in their place is a reason not to use any. Where there is
 * no plugin, or it can't be used, the other engines work as ever.
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
 * Look for devices, in order of preference. Nothing is opened or changed, but that a
 * plugin that was found is loaded.
 *
 * @return VGG_OK (also when an engine found nothing, which is refused), VGG_ENOMEM.
 */
VGG_API vgg_status vgg_device_list_create(vgg_context *ctx, vgg_device_list **out);

/** Give a list back. */
VGG_API void vgg_device_list_free(vgg_device_list *list);

/** Number of devices found. */
VGG_API uint32_t vgg_device_list_count(const vgg_device_list *list);

/** Name to open a device by, for instance "cpu" or "cuda:0"; NULL when past the
 *  last. */
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

/** Why it can't, in one line; NULL when past the last. Of a plugin that is not there,
 *  the line begins with "not installed". */
VGG_API const char *vgg_device_list_refused_reason(const vgg_device_list *list,
                                                   uint32_t index);

/**
 * Open a device.
 *
 * @param name a name from the list; "cuda", or an engine's name, for its first device
 *             that can be opened; NULL or "auto" for the best device that can be
 *             opened. Why one that comes before it could not is told to the context's
 *             log (#VGG_LOG_INFO; #VGG_LOG_DEBUG of a plugin that is not there,
 *             #VGG_LOG_WARNING where nothing but `ref` is left). A named device that
 *             can't be opened is an error, never a silent fallback.
 * @return VGG_OK, VGG_EINVAL (a name of no engine), VGG_EDEVICE (can't be opened: no
 *         plugin, no such device, or the engine's reason, a device without enough
 *         memory of its own among them), VGG_ENOMEM (the host's memory).
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
