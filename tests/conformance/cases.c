/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes that VGG has, and those that break kernels: single pixels, single channels,
 * odd and lopsided maps, counts that no vector or tile divides, maps smaller than a
 * tile. */
#include "cases.h"

const struct test_case test_cases[] = {
    /* Convolutions alone. */
    {"1x1x1 conv3:1", 1, 0},
    {"8x1x1 conv3:8", 3, 0},
    {"1x1x9 conv3:2", 2, 0},
    {"2x9x1 conv3:3", 2, 0},
    {"1x2x2 conv3:1", 5, 0},
    {"3x7x5 conv3:4", 1, 0},
    {"1x12x12 conv3:16", 9, 0},
    {"3x13x10 conv3:16", 2, 0},
    {"4x4x4 conv3:8", 7, 0},
    {"5x6x6 conv1:7", 3, 0},
    {"16x15x17 conv3:24", 2, 0},
    {"17x9x11 conv3:33", 3, 0},
    {"64x8x8 conv3:64", 3, 0},
    {"128x14x14 conv3:128", 1, 0},
    {"48x5x3 conv1:40", 4, 0},
    /* So many pixels that a part of a weight's gradient is summed in several steps. */
    {"8x61x61 conv3:8", 16, 0},
    /* With what an engine may fold into them. */
    {"3x8x8 conv3:8 relu", 3, 0},
    {"1x16x16 conv3:16 relu max", 3, 0},
    {"3x9x7 conv3:8 relu max", 2, 0},
    {"8x10x10 conv3:8 relu avg", 3, 0},
    {"24x7x9 conv3:40 relu max", 5, 0},
    {"32x12x12 conv3:32 relu conv3:32 relu max", 2, 0},
    {"4x6x6 conv3:8 bn", 4, 0},
    {"16x11x8 conv3:16 bn relu", 4, 0},
    {"16x12x12 conv3:24 bn relu max", 3, 0},
    {"8x6x6 conv1:16 relu max conv3:16 relu", 3, 0},
    {"6x8x8 conv3:8 max", 3, 0},
    {"6x8x8 conv3:8 relu relu max max", 3, 0},
    {"32x6x6 conv3:32 relu conv3:64 relu max", 1, 0},
    {"64x5x4 conv3:64 relu", 1, 0},
    {"128x4x2 conv3:128 relu max", 1, 0},
    /* The others alone. */
    {"5x6x7 bn", 3, 0},
    {"12x1x1 bn", 16, 0},
    {"7x4x5 bn relu", 3, 0},
    {"3x5x7 relu", 3, 0},
    {"3x8x6 max", 3, 0},
    {"5x7x9 max", 2, 0},
    {"2x2x2 max", 1, 0},
    {"3x8x6 avg", 3, 0},
    {"1x5x3 avg", 2, 0},
    {"4x8x8 adaptive:7x7", 2, 0},
    {"4x1x1 adaptive:7x7", 2, 0},
    {"3x14x14 adaptive:7x7", 2, 0},
    {"3x3x5 adaptive:2x1", 2, 0},
    {"3x4x5 flatten", 2, 0},
    {"6x1x1 linear:5", 3, 0},
    {"1x1x1 linear:1", 1, 0},
    {"37x1x1 linear:29", 11, 0},
    {"3x5x4 linear:17", 6, 0},
    {"300x1x1 linear:130 relu", 9, 0},
    {"40x1x1 linear:64 relu dropout:0.5", 13, 0},
    {"40x1x1 linear:30 dropout:0.75", 3, 0},
    {"6x3x5 dropout:0.5", 3, 0},
    {"10x1x1 loss", 9, 0},
    {"1000x1x1 loss", 2, 0},
    /* Whole networks. */
    {"1x8x8 conv3:4 relu max conv3:8 relu max flatten linear:16 relu dropout:0.5 "
     "linear:10 loss",
     6, 0},
    {"3x16x16 conv3:8 bn relu max conv3:16 bn relu conv3:16 bn relu max adaptive:3x3 "
     "linear:24 relu dropout:0.5 linear:10 loss",
     5, 0},
    {"3x9x9 conv1:6 relu avg conv3:5 max", 3, 0},
    /* The layers of VGG-11 at ratio 4, on half of its 224 x 224; timed at its full
       size. */
    {"1x112x112 conv3:16 relu max", 1, 0},
    {"16x56x56 conv3:32 relu max", 1, 0},
    {"32x28x28 conv3:64 relu conv3:64 relu max", 1, 0},
    {"1x224x224 conv3:16 relu max", 0, 16},
    {"16x112x112 conv3:32 relu max", 0, 16},
    {"32x56x56 conv3:64 relu", 0, 16},
    {"64x56x56 conv3:64 relu max", 0, 16},
    {"64x28x28 conv3:128 relu", 0, 16},
    {"128x28x28 conv3:128 relu max", 0, 16},
    {"128x14x14 conv3:128 relu", 0, 16},
    {"128x7x7 linear:4096 relu", 0, 16},
    {"4096x1x1 linear:4096 relu", 0, 16},
    {"4096x1x1 linear:10 loss", 0, 16},
    {"64x56x56 bn", 0, 16},
    {"64x56x56 max", 0, 16},
};

const uint32_t test_case_count = sizeof test_cases / sizeof *test_cases;
