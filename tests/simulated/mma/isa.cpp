/* SPDX-License-Identifier: Apache-2.0 */
/* What C asks about the instructions that launches have carried out. */
#include "host_cuda.h"

#include "arrays.h"

void launch_counts(uint64_t *loads, uint64_t *conflicts)
{
    *loads = vgg__isa_count.loads;
    *conflicts = vgg__isa_count.conflicts;
}

size_t launch_forgotten(uint32_t threads)
{
    return vgg__isa_forget_copies(threads);
}
