/* SPDX-License-Identifier: Apache-2.0 */
/* What is random about a training sample. Draw 0 decides on shift and flip and whether
 * to erase; draws 1 to 10 are attempts to place the rectangle. */
#include "core/random.h"
#include "data/transform.h"

#include <math.h>

#define DRAWS    16 /* numbers (of four words) kept for each sample */
#define ATTEMPTS 10 /* to find a rectangle that fits, as torchvision */

/* 0 to count - 1. The bias is below count / 2^32. */
static uint32_t below(uint32_t word, uint32_t count)
{
    return (uint32_t)((uint64_t)word * count >> 32);
}

/* e^x for |x| <= 1.2 from + and * alone: the C library's exp() may differ by a bit
 * between machines, and the place of a rectangle with it. */
static double exponential(double x)
{
    double term = 1.0, sum = 1.0;
    for (int n = 1; n <= 20; n++) {
        term *= x / n;
        sum += term;
    }
    return sum;
}

/* Zhong et al., "Random erasing data augmentation", 2017, with torchvision's
 * distribution: area uniform in 0.02 to 0.33 of the image, log of the ratio of height
 * to width uniform in log 0.3 to log 3.3. */
static bool draw_rectangle(const uint32_t word[4], uint32_t height, uint32_t width,
                           struct vgg__augment *out)
{
    const double log_low = -1.2039728043259361, log_high = 1.1939224684724346;
    const double area =
        (0.02 + 0.31 * vgg__uniform(word[0])) * (double)height * (double)width;
    const double ratio =
        exponential(log_low + (log_high - log_low) * vgg__uniform(word[1]));
    const uint32_t h = (uint32_t)rint(sqrt(area * ratio));
    const uint32_t w = (uint32_t)rint(sqrt(area / ratio));
    if (h == 0 || w == 0 || h >= height || w >= width) return false;
    out->erase.height = h;
    out->erase.width = w;
    out->erase.top = below(word[2], height - h + 1);
    out->erase.left = below(word[3], width - w + 1);
    return true;
}

void vgg__augment_draw(const vgg_transform *spec, uint32_t height, uint32_t width,
                       const struct vgg__sample_place *place, struct vgg__augment *out)
{
    uint32_t word[4];
    vgg__random(place->seed, VGG_RANDOM_AUGMENT, place->epoch, place->index * DRAWS,
                word);
    const uint32_t range = 2 * spec->shift + 1;
    *out = (struct vgg__augment){
        .down = (int32_t)below(word[0], range) - (int32_t)spec->shift,
        .right = (int32_t)below(word[1], range) - (int32_t)spec->shift,
        .flip = vgg__uniform(word[2]) < spec->flip,
    };
    if (vgg__uniform(word[3]) >= spec->erase) return;
    for (uint64_t attempt = 1; attempt <= ATTEMPTS; attempt++) {
        vgg__random(place->seed, VGG_RANDOM_AUGMENT, place->epoch,
                    place->index * DRAWS + attempt, word);
        if (draw_rectangle(word, height, width, out)) return;
    }
}
