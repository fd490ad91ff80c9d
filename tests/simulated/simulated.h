/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU, cuDNN and cuBLASLt that exist in the tests alone: another definition of
 * vgg__api_open(), linked in place of the engine's. What is called is carried out on
 * the host, from the attributes that were given to it, and every misuse is refused.
 *
 *   - Device memory holds 0xFF bytes (a NaN in every type) and faults when host code
 *     touches it, or anybody after its release, or beyond its end.
 *   - Work is queued and carried out late, in an order that `seed` draws among all that
 *     streams and events allow; host memory is read and written then.
 *   - Capture records; a replay is carried out in any order that its edges allow.
 *   - What CUDA refuses is refused with its error; what hardware would do wrong in
 *     silence loses the device. Both leave a line for vgg__simulated_complaint().
 *
 * Tests change `vgg__simulated` before they open the engine. */
#ifndef VGG_TEST_SIMULATED_H
#define VGG_TEST_SIMULATED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIMULATED_DEVICES = 4 };

/* Graphs that the heuristics have no answer for, as a set. */
enum {
    SIMULATED_NO_RUNTIME = 1,   /* nothing that is compiled at run time: no fusion */
    SIMULATED_NO_HEURISTIC = 2, /* nothing but the fallback list */
    SIMULATED_NO_GRAPH = 4      /* nothing at all */
};

struct vgg__simulated {
    const char *missing; /* not NULL: vgg__api_open() fails with this reason */
    const char *warning; /* what the table says that works less well than it might */
    int code; /* the kernels are made for this compute capability (90); 0: for all */
    /* By what their names hold: "H100", "H200", "A100", "L4", "B200", "T4". None: the
     * machine has a driver but no GPU. */
    const char *devices[SIMULATED_DEVICES];
    int driver;         /* 13000; 0: no driver */
    size_t dnn_version; /* 91900 */
    size_t lt_version;  /* 130000 */
    uint64_t seed;      /* of the order of work and of how long it takes */
    uint64_t memory;    /* bytes of device memory; 0: what the device has */
    bool flush;         /* allocations end exactly at their guard page */
    unsigned refuse;    /* SIMULATED_NO_... */
    /* Where the host waits for an event that keeps time, work that is queued before it
     * many times over is done once: nobody looks at the results of what is timed. */
    bool hurry;
    /* A stream that joins a capture while it has work left is a misuse, though CUDA
     * seems to allow it. */
    bool idle_joins;

    /* The fail_call'th call from now fails, 1 being the next; counted are the calls of
     * `fail_name` ("malloc", "dnnExecute"), or of all if it is NULL. 0: none fails. */
    uint64_t fail_call;
    const char *fail_name;
    int fail_error;     /* cudaError_t */
    bool fail_sticky;   /* and so does every call after it */
    const char *failed; /* the name of the call that did; NULL: none has yet */

    const char *idle; /* kernels whose names begin so do nothing; NULL: none */

    uint64_t calls; /* how many there were */
    uint64_t peak;  /* most bytes of device memory that were in use at once */
};

extern struct vgg__simulated vgg__simulated;

/* The first misuse since the last reset, in one line; NULL if there was none. */
const char *vgg__simulated_complaint(void);
/* Where it was found (site.h). */
const char *vgg__simulated_site(void);
/* Forget it, as if there had been none; what it has done to the device stays. */
void vgg__simulated_forget(void);
/* What was not given back: one line, or NULL. Valid until the next call. */
const char *vgg__simulated_leak(void);
/* Everything as at the start of the process, the hooks above included. Memory that is
 * still in use is released. */
void vgg__simulated_reset(void);

#endif
