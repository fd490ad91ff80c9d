/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU that is not there: the real cuDNN, given a device's description instead of a
 * handle. One is open at a time. Calls are counted, and one can be made to fail. */
#ifndef PLANS_DEVICE_H
#define PLANS_DEVICE_H

#include "cudnn/dnn.h"

/* Changes the values of an attribute before cuDNN gets them. */
typedef void device_spoiler(void *context, cudnnBackendDescriptor_t descriptor,
                            cudnnBackendAttributeName_t name, int64_t count,
                            void *values);

struct device {
    struct vgg__api api;
    struct vgg__dnn_target target; /* of `api` */
};

/* The calls that go through any device's `api`. */
struct device_calls {
    int64_t alive;         /* descriptors made and not destroyed */
    uint32_t count;        /* calls that can fail, since it was last set to 0 */
    uint32_t failing;      /* the call, counted from 1, that fails; 0: none */
    device_spoiler *spoil; /* or NULL */
    void *context;
};
extern struct device_calls device_calls;

/* The device described in devices/NAME.json; fails the test where that is no good. */
void device_open(struct device *device, const char *name);
void device_close(struct device *device);

/* What cuDNN says of the engine that a plan has. */
struct device_notes {
    bool tensor_cores, cuts, transforms, varies, compiled;
};
struct device_notes device_notes(const struct vgg__dnn_plan *plan);

#endif
