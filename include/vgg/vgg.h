/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file vgg.h
 * @brief The whole interface of libvgg: VGG networks in C.
 *
 * @code
 * vgg_arch arch = VGG_ARCH_INIT;                    // what: the chapter's VGG-11
 * vgg_model *net = vgg_build(&arch, 4);             // the network, channels / 4
 * vgg_device *dev;  vgg_device_open(NULL, "auto", &dev);        // where
 * vgg_plan *plan;   vgg_plan_create(net, dev, NULL, &plan);     // bound together
 * vgg_plan_forward(plan, image, logits);                        // run
 * @endcode
 *
 * Read in this order: arch.h, model.h, layer.h, device.h, plan.h; then data.h,
 * metrics.h, train.h; weights.h and checkpoint.h last.
 */
#ifndef VGG_H
#define VGG_H

#include <vgg/arch.h>
#include <vgg/checkpoint.h>
#include <vgg/common.h>
#include <vgg/context.h>
#include <vgg/data.h>
#include <vgg/device.h>
#include <vgg/layer.h>
#include <vgg/metrics.h>
#include <vgg/model.h>
#include <vgg/plan.h>
#include <vgg/tensor.h>
#include <vgg/train.h>
#include <vgg/version.h>
#include <vgg/weights.h>

#endif
