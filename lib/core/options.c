/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that reads and fills sized options; see options.h for the rule. */
#include "core/options.h"

#include "core/error.h"

#include <string.h>

#define MOST_BYTES 65536 /* no options struct is larger; more is a size never set */

static vgg_status check_size(const char *name, size_t given, size_t first_size,
                             size_t size)
{
    if (given >= first_size && given <= MOST_BYTES) return VGG_OK;
    return vgg__fail(VGG_EINVAL,
                     "%s.size: expected %zu, found %zu; start from its INIT macro",
                     name, size, given);
}

vgg_status vgg__options_read(const char *name, const void *source, size_t first_size,
                             void *out, size_t size)
{
    if (source == NULL) {
        memcpy(out, &size, sizeof size);
        return VGG_OK;
    }
    size_t given;
    memcpy(&given, source, sizeof given);
    VGG_TRY(check_size(name, given, first_size, size));
    const unsigned char *bytes = source;
    for (size_t i = size; i < given; i++)
        if (bytes[i] != 0)
            return vgg__fail(VGG_EUNSUPPORTED,
                             "%s: byte %zu is set, this release knows %zu bytes", name,
                             i, size);
    memset(out, 0, size);
    memcpy(out, source, given < size ? given : size);
    memcpy(out, &size, sizeof size);
    return VGG_OK;
}

vgg_status vgg__options_write(const char *name, const void *source, size_t size,
                              size_t first_size, void *out)
{
    size_t given;
    memcpy(&given, out, sizeof given);
    VGG_TRY(check_size(name, given, first_size, size));
    memcpy(out, source, given < size ? given : size);
    memcpy(out, &given, sizeof given);
    return VGG_OK;
}
