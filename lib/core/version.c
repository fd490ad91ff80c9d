/* SPDX-License-Identifier: Apache-2.0 */
/* The release and the binary interface that this library was built as. */
#include <vgg/version.h>

const char *vgg_version(void)
{
    return VGG_VERSION;
}

uint32_t vgg_abi_version(void)
{
    return VGG_ABI_VERSION;
}
