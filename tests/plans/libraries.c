/* SPDX-License-Identifier: Apache-2.0 */
/* The libraries that are installed have all functions that the engine calls, and are
 * found without a GPU as they would be with one. */
#include <stdio.h>
#include <string.h>

#include "cudnn/api.h"

int main(void)
{
    char reason[VGG__REASON];
    if (vgg__api_load(reason, sizeof reason)) return 0;
    fprintf(stderr, "%s\n", reason);
    /* cuDNN is there, or this would not be built; cuBLASLt need not be. */
    return strncmp(reason, "cuBLASLt (", 10) == 0 ? 77 : 1;
}
