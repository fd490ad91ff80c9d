/* SPDX-License-Identifier: Apache-2.0 */
/* Dropout's random numbers: element e of the step's batch takes word e % 4 of block
 * e / 4, and is dropped if the word as a number in [0, 1) is below the rate. */
#include "common/dropout.h"

#include "common/machine.h"
#include "core/random.h"

void vgg__dropout_keep(const vgg_stage *stage, const vgg_run *run, uint64_t begin,
                       size_t count, uint8_t *keep)
{
    const uint32_t purpose = VGG_RANDOM_DROPOUT + stage->dropout_layer;
    uint64_t element = (uint64_t)run->first * vgg__extent_count(stage->out) + begin;
    uint32_t words[4];
    for (size_t i = 0; i < count; i++, element++) {
        if (i == 0 || element % 4 == 0)
            vgg__random(run->seed, purpose, run->step, element / 4, words);
        keep[i] = vgg__uniform(words[element % 4]) >= stage->dropout;
    }
}
