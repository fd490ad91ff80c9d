/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes that a kernel and the function of its grid agree on. */
#ifndef VGG_CUDNN_TILES_H
#define VGG_CUDNN_TILES_H

#define VGG__THREADS 256 /* of a block, in every kernel of grids.c */

/* gather: output rows of one image that a block makes. */
#define VGG__GATHER_ROWS 56

/* sum_rows and its like: columns that a block sums at a time. */
#define VGG__SUM_COLUMNS 8

/* conv_first and its way back: 2x2 windows of a tile, channels that a block works on,
 * and blocks of a multiprocessor at a time. */
#define VGG__FIRST_ROWS     8
#define VGG__FIRST_COLUMNS  64
#define VGG__FIRST_CHANNELS 16
#define VGG__FIRST_BLOCKS   3

/* conv_first_rows and its way back: windows of a row that a warp works on at a time,
 * bytes of shared memory, and blocks of a multiprocessor (H100 and later data center
 * GPUs; of the way back two fit on an A100, and one where there are 100 KB). */
#define VGG__ROWS_WINDOWS      128
#define VGG__ROWS_SHARED       36864
#define VGG__ROWS_BACK_WINDOWS 64
#define VGG__ROWS_BACK_SHARED  69632
#define VGG__ROWS_BLOCKS       3

#endif
