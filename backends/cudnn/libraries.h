/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that are opened at run time, from where the system, a toolkit or a Python
 * environment has them. Nothing of CUDA is needed to build this. */
#ifndef VGG_CUDNN_LIBRARIES_H
#define VGG_CUDNN_LIBRARIES_H

#include <stddef.h>

/* Bytes of a reason, with its final zero: room for a path and the loader's words. */
#define VGG__REASON 400

/* A function of a library, and the pointer that it goes to. */
struct vgg__symbol {
    const char *name;
    void *place;
};

struct vgg__library {
    const char *title;      /* "cuDNN" */
    const char *sonames[2]; /* what it may be called, best first; the second or NULL */
    const char *package;    /* what pip calls it */
    const char *version;    /* its function that tells 90100 for 9.1.0; NULL: none */
    size_t least;           /* what that must tell at least */
    const struct vgg__symbol *symbols;
    size_t symbol_count;
};

/* Open a library and fill the places of its symbols. In the folder that
 * VGG_CUDA_LIBRARIES names, by soname where the loader looks, then in toolkits and
 * Python environments: the first that can be loaded is the one. It stays loaded, since
 * CUDA does not take it well when its parts go.
 *
 * NULL: `reason` (VGG__REASON bytes) says in one line what was expected, what was found
 * and what to do. */
void *vgg__library_open(const struct vgg__library *library, char *reason, size_t size);

#endif
