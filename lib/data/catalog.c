/* SPDX-License-Identifier: Apache-2.0 */
/* The data sets that the library knows by name: their files, as published, and the
 * names of their classes.
 *
 * A file may be plain or gzip; where both are there, the plain one is read. */
#include "core/error.h"
#include "core/memory.h"
#include "data/dataset.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MOST_FILES 5

static const char *const fashion_classes[10] = {
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal",  "shirt",   "sneaker",  "bag",   "ankle boot",
};

static const char *const cifar10_classes[10] = {
    "airplane", "automobile", "bird",  "cat",  "deer",
    "dog",      "frog",       "horse", "ship", "truck",
};

static const char *const cifar100_classes[100] = {
    "apple",    "aquarium fish", "baby",       "bear",         "beaver",
    "bed",      "bee",           "beetle",     "bicycle",      "bottle",
    "bowl",     "boy",           "bridge",     "bus",          "butterfly",
    "camel",    "can",           "castle",     "caterpillar",  "cattle",
    "chair",    "chimpanzee",    "clock",      "cloud",        "cockroach",
    "couch",    "crab",          "crocodile",  "cup",          "dinosaur",
    "dolphin",  "elephant",      "flatfish",   "forest",       "fox",
    "girl",     "hamster",       "house",      "kangaroo",     "keyboard",
    "lamp",     "lawn mower",    "leopard",    "lion",         "lizard",
    "lobster",  "man",           "maple tree", "motorcycle",   "mountain",
    "mouse",    "mushroom",      "oak tree",   "orange",       "orchid",
    "otter",    "palm tree",     "pear",       "pickup truck", "pine tree",
    "plain",    "plate",         "poppy",      "porcupine",    "possum",
    "rabbit",   "raccoon",       "ray",        "road",         "rocket",
    "rose",     "sea",           "seal",       "shark",        "shrew",
    "skunk",    "skyscraper",    "snail",      "snake",        "spider",
    "squirrel", "streetcar",     "sunflower",  "sweet pepper", "table",
    "tank",     "telephone",     "television", "tiger",        "tractor",
    "train",    "trout",         "tulip",      "turtle",       "wardrobe",
    "whale",    "willow tree",   "wolf",       "woman",        "worm",
};

/* The files of one split: of IDX, images and labels. */
struct split {
    uint32_t count;
    const char *files[MOST_FILES];
    uint64_t records; /* of each CIFAR file */
};

static const struct known {
    const char *name;
    bool is_cifar;
    uint32_t classes;
    const char *const *class_names; /* NULL: they are numbers */
    const char *remedy;             /* where the files come from */
    struct split splits[2];         /* train, test */
} catalog[] = {
    {"fashion-mnist",
     false,
     10,
     fashion_classes,
     "Debian's package dataset-fashion-mnist puts it into "
     "/usr/share/datasets/fashion-mnist",
     {{2, {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"}, 0},
      {2, {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}, 0}}},
    {"mnist",
     false,
     10,
     NULL,
     "it is published at yann.lecun.com/exdb/mnist",
     {{2, {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"}, 0},
      {2, {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}, 0}}},
    {"cifar10",
     true,
     10,
     cifar10_classes,
     "the binary version at cs.toronto.edu/~kriz/cifar.html has it",
     {{5,
       {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
        "data_batch_5.bin"},
       10000},
      {1, {"test_batch.bin"}, 10000}}},
    {"cifar100",
     true,
     100,
     cifar100_classes,
     "the binary version at cs.toronto.edu/~kriz/cifar.html has it",
     {{1, {"train.bin"}, 50000}, {1, {"test.bin"}, 10000}}},
};

#define KNOWN (sizeof catalog / sizeof catalog[0])

/* A path that can't be looked at counts as being there: opening it tells why. */
static bool is_there(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/* DIR/FILE, or DIR/FILE.gz where only that is there. */
static vgg_status find_file(vgg_context *ctx, const struct known *known,
                            const char *dir, const char *file, char **out)
{
    const size_t size = strlen(dir) + strlen(file) + sizeof "/.gz";
    char *const path = vgg__alloc(ctx, size);
    if (path == NULL) return VGG_ENOMEM;
    *out = path;
    snprintf(path, size, "%s/%s", dir, file);
    if (is_there(path)) return VGG_OK;
    snprintf(path, size, "%s/%s.gz", dir, file);
    if (is_there(path)) return VGG_OK;
    return vgg__fail(VGG_EIO, "%s: neither %s nor %s.gz is in %.200s; %s", known->name,
                     file, file, dir, known->remedy);
}

static vgg_status open_split(vgg_context *ctx, const struct known *known,
                             const struct split *split, char *const *paths,
                             vgg_dataset **out)
{
    const char *const *const files = (const char *const *)paths;
    if (known->is_cifar)
        VGG_TRY(vgg__cifar_open(ctx, files, split->count, known->classes,
                                split->records, out));
    else
        VGG_TRY(vgg_dataset_open_idx(ctx, files[0], files[1], known->classes, out));
    if (known->class_names != NULL) vgg__dataset_set_names(*out, known->class_names);
    return VGG_OK;
}

static const struct known *find_known(const char *name)
{
    for (size_t i = 0; i < KNOWN; i++)
        if (strcmp(name, catalog[i].name) == 0) return &catalog[i];
    return NULL;
}

vgg_status vgg_dataset_open(vgg_context *ctx, const char *name, const char *dir,
                            const char *split, vgg_dataset **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(name != NULL && dir != NULL && split != NULL);
    const struct known *const known = find_known(name);
    if (known == NULL)
        return vgg__fail(VGG_EINVAL,
                         "data set %.64s is unknown, expected fashion-mnist, mnist, "
                         "cifar10 or cifar100",
                         name);
    const bool test = strcmp(split, "test") == 0;
    if (!test && strcmp(split, "train") != 0)
        return vgg__fail(VGG_EINVAL,
                         "%s: split %.64s is unknown, expected train or test", name,
                         split);
    const struct split *const files = &known->splits[test];
    char *paths[MOST_FILES] = {NULL};
    vgg_status status = VGG_OK;
    for (uint32_t i = 0; i < files->count && status == VGG_OK; i++)
        status = find_file(ctx, known, dir, files->files[i], &paths[i]);
    if (status == VGG_OK) status = open_split(ctx, known, files, paths, out);
    for (uint32_t i = 0; i < files->count; i++) vgg__free(paths[i]);
    return status;
}
