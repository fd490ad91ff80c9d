/* SPDX-License-Identifier: Apache-2.0 */
/* Made by make_fit_fixtures.py with torchvision 0.14.1a0 and Pillow 9.4.0. */
static const struct {
    vgg_fit fit;
    uint32_t height, width, to_height, to_width;
    uint32_t crc;
} fixtures[] = {
    {VGG_FIT_COVER, 300, 400, 224, 224, 0xf217a82a},
    {VGG_FIT_COVER, 400, 300, 224, 224, 0x807d1dc8},
    {VGG_FIT_COVER, 375, 500, 256, 256, 0x8f10c023},
    {VGG_FIT_COVER, 500, 333, 256, 256, 0x47107c76},
    {VGG_FIT_COVER, 224, 224, 224, 224, 0x079aff9a},
    {VGG_FIT_COVER, 225, 224, 224, 224, 0x368c2cc4},
    {VGG_FIT_COVER, 224, 225, 224, 224, 0xb887c554},
    {VGG_FIT_COVER, 31, 57, 64, 64, 0x9178823f},
    {VGG_FIT_COVER, 57, 31, 64, 64, 0x9a4ce61d},
    {VGG_FIT_COVER, 1, 1, 8, 8, 0x9e9ca4c9},
    {VGG_FIT_COVER, 1, 7, 4, 4, 0xf269ff26},
    {VGG_FIT_COVER, 7, 1, 4, 4, 0xe1ac55eb},
    {VGG_FIT_COVER, 2, 333, 5, 5, 0xb08f60b3},
    {VGG_FIT_COVER, 333, 2, 5, 5, 0x58e6b5cc},
    {VGG_FIT_COVER, 480, 640, 32, 32, 0x8c6318ff},
    {VGG_FIT_COVER, 641, 479, 33, 33, 0x24f206b0},
    {VGG_FIT_COVER, 97, 89, 88, 88, 0xfe8ea723},
    {VGG_FIT_COVER, 10, 11, 10, 10, 0x15548c46},
    {VGG_FIT_COVER, 11, 10, 9, 9, 0x86a8b3ce},
    {VGG_FIT_COVER, 100, 151, 50, 50, 0x738c6055},
    {VGG_FIT_COVER, 101, 150, 51, 51, 0x509f1770},
    {VGG_FIT_COVER, 640, 427, 224, 224, 0x5d1cb829},
    {VGG_FIT_STRETCH, 300, 400, 224, 224, 0x72f26b7a},
    {VGG_FIT_STRETCH, 31, 57, 64, 48, 0x5d4e4261},
    {VGG_FIT_STRETCH, 57, 31, 5, 90, 0x5e51989c},
    {VGG_FIT_STRETCH, 1, 9, 4, 3, 0x90add04b},
    {VGG_FIT_STRETCH, 224, 224, 224, 224, 0x079aff9a},
    {VGG_FIT_STRETCH, 480, 640, 17, 23, 0xa2c8d44c},
};
