/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of saving weights that a checkpoint needs as well. */
#ifndef VGG_STORE_WEIGHTS_H
#define VGG_STORE_WEIGHTS_H

#include "store/metadata.h"

/* The strings of a model's file: the caller's, without keys of the library, and the
 * library's own. */
vgg_status vgg__weights_metadata(vgg_model *model, const vgg_metadata *given,
                                 vgg_metadata **out);

#endif
