/* SPDX-License-Identifier: Apache-2.0 */
/* The libraries that are installed have all functions that the engine calls, and are
 * found without a GPU as they would be with one. This is built where they are: one that
 * is not found is a failure. */
#include <stdio.h>
#include <stdlib.h>

#include "cudnn/api.h"

int main(void)
{
    char reason[VGG__REASON];
    if (vgg__api_load(reason, sizeof reason)) return EXIT_SUCCESS;
    fprintf(stderr, "test-plans-libraries: %s\n", reason);
    return EXIT_FAILURE;
}
