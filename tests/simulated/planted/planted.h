/* SPDX-License-Identifier: Apache-2.0 */
/* Misuse of the simulated device, and that it is found out. A test calls the table as
 * the engine would, but for one fault. */
#ifndef VGG_TEST_PLANTED_H
#define VGG_TEST_PLANTED_H

#include <check.h>
#include <string.h>

#include "../simulated.h"
#include "cudnn/api.h"

extern const struct vgg__api *api; /* open in every test */

/* Fixtures: everything as new; nothing but planted complaints may be left. */
void planted_begin(void);

/* The call gives this error, and the first complaint since the last look holds the
 * fragment. */
#define ck_refused(call, expected, fragment)                                           \
    do {                                                                               \
        ck_assert_int_eq((int)(call), (int)(expected));                                \
        planted_complaint(#call, fragment);                                            \
    } while (0)
#define ck_good(call) ck_assert_int_eq((int)(call), 0)
void planted_complaint(const char *what, const char *fragment);
void planted_no_complaint(void);
/* Whether there is a complaint that holds the fragment: of faults that only some orders
 * of work show. */
bool planted_seen(const char *fragment);

/* `body` touches what it may not: the process that does gets SIGSEGV, and the handler's
 * line holds the fragment. */
void planted_fault(void (*body)(void), const char *fragment);

/* Shorthand for what tests need of a sound device. */
cudaStream_t new_stream(void);
cudaEvent_t new_event(unsigned flags);
void *new_memory(size_t size);
void *new_pinned(size_t size);
void put_floats(void *device, const float *values, size_t count, cudaStream_t stream);
void get_floats(const void *device, float *values, size_t count, cudaStream_t stream);

/* A kernel of one thread: out[i] = value + in[i] for `count` floats (`in` NULL: 0). */
struct add_args {
    const float *in;
    float *out;
    uint32_t count;
    float value;
};
extern const struct vgg__kernel add_kernel;
cudaError_t add(cudaStream_t stream, const float *in, float *out, float value);
cudaError_t launch_add(cudaStream_t stream, const struct add_args *args);

#endif
