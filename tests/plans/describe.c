/* SPDX-License-Identifier: Apache-2.0 */
/* gpu-describe [ORDINAL]: a GPU's description as cuDNN has it, on stdout: what a file
 * in devices/ holds. The libraries are found as the engine finds them. */
#include <stdio.h>
#include <stdlib.h>

#include "cudnn/api.h"

#define MOST_TEXT 16384

static cudnnStatus_t describe(const struct vgg__api *api, int32_t ordinal,
                              char text[MOST_TEXT], int64_t *length)
{
    cudnnBackendDescriptor_t properties = NULL;
    cudnnStatus_t status =
        api->dnnCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &properties);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    status = api->dnnSetAttribute(properties, CUDNN_ATTR_DEVICEPROP_DEVICE_ID,
                                  CUDNN_TYPE_INT32, 1, &ordinal);
    if (status == CUDNN_STATUS_SUCCESS) status = api->dnnFinalize(properties);
    if (status == CUDNN_STATUS_SUCCESS)
        status =
            api->dnnGetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                 CUDNN_TYPE_CHAR, MOST_TEXT, length, text);
    api->dnnDestroyDescriptor(properties);
    return status;
}

int main(int argc, char **argv)
{
    char reason[256], text[MOST_TEXT];
    int64_t length = 0;
    const struct vgg__api *api = vgg__api_open(reason, sizeof reason);
    if (api == NULL) {
        fprintf(stderr, "gpu-describe: %s\n", reason);
        return EXIT_FAILURE;
    }
    const cudnnStatus_t status =
        describe(api, argc > 1 ? atoi(argv[1]) : 0, text, &length);
    if (status != CUDNN_STATUS_SUCCESS) {
        char more[512] = "";
        api->dnnGetLastErrorString(more, sizeof more);
        fprintf(stderr, "gpu-describe: cuDNN %zu: %s: %s\n", api->dnnGetVersion(),
                api->dnnGetErrorString(status), more);
        return EXIT_FAILURE;
    }
    while (length > 0 && text[length - 1] == '\0') length--;
    printf("%.*s\n", (int)length, text);
    return EXIT_SUCCESS;
}
