/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the fixtures that make_fixtures.py writes. */
#include "fixture.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One record's values, widened to double. */
static double *read_values(FILE *file, char type, uint64_t count)
{
    double *values = malloc(count * sizeof *values + 1);
    ck_assert_ptr_nonnull(values);
    for (uint64_t i = 0; i < count; i++) {
        float single = 0.0f;
        if (type == 'f') {
            ck_assert_uint_eq(fread(&single, sizeof single, 1, file), 1);
            values[i] = single;
        } else {
            ck_assert_uint_eq(fread(&values[i], sizeof values[i], 1, file), 1);
        }
    }
    return values;
}

struct fixture fixture_read(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.bin", GOLDEN_FIXTURES, name);
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s: can't be opened", path);
    struct fixture fixture = {NULL, 0};
    struct record record;
    while (fread(record.name, sizeof record.name, 1, file) == 1) {
        ck_assert_uint_eq(fread(&record.count, sizeof record.count, 1, file), 1);
        ck_assert_uint_lt(record.count, 1 << 20);
        const char type = record.name[55];
        record.name[55] = '\0';
        record.values = read_values(file, type, record.count);
        const size_t size = (fixture.count + 1) * sizeof record;
        fixture.records = realloc(fixture.records, size);
        ck_assert_ptr_nonnull(fixture.records);
        fixture.records[fixture.count++] = record;
    }
    fclose(file);
    ck_assert_uint_gt(fixture.count, 0);
    return fixture;
}

void fixture_free(struct fixture *fixture)
{
    for (uint32_t i = 0; i < fixture->count; i++) free(fixture->records[i].values);
    free(fixture->records);
}

static const struct record *find(const struct fixture *fixture, const char *name)
{
    for (uint32_t i = 0; i < fixture->count; i++)
        if (strcmp(fixture->records[i].name, name) == 0) return &fixture->records[i];
    return NULL;
}

int fixture_has(const struct fixture *fixture, const char *name)
{
    return find(fixture, name) != NULL;
}

const double *fixture_get(const struct fixture *fixture, const char *name,
                          uint64_t count)
{
    const struct record *record = find(fixture, name);
    ck_assert_msg(record != NULL, "%s: not in the fixture", name);
    ck_assert_msg(count == 0 || record->count == count,
                  "%s: %llu values, expected %llu", name,
                  (unsigned long long)record->count, (unsigned long long)count);
    return record->values;
}

vgg_arch fixture_arch(const struct fixture *fixture)
{
    const double *value = fixture_get(fixture, "arch", 0);
    vgg_arch arch = VGG_ARCH_INIT;
    arch.channels = (uint32_t)value[0];
    arch.height = (uint32_t)value[1];
    arch.width = (uint32_t)value[2];
    arch.classes = (uint32_t)value[3];
    arch.hidden = (uint32_t)value[4];
    arch.head = (uint32_t)value[5];
    arch.pool = (uint32_t)value[6];
    arch.batch_norm = (uint32_t)value[7];
    arch.block_count = (uint32_t)value[8];
    arch.dropout = 0.0f;
    for (uint32_t i = 0; i < arch.block_count; i++) {
        const double *block = value + 9 + 3 * (size_t)i;
        arch.blocks[i] =
            (vgg_block){(uint32_t)block[0], (uint32_t)block[1], (uint32_t)block[2]};
    }
    return arch;
}

/* The records init/KEY stand in the order of PyTorch's state_dict(), which must be the
 * order of the model's parameters, and KEY their torchvision names. */
vgg_model *fixture_model(const struct fixture *fixture)
{
    const vgg_arch arch = fixture_arch(fixture);
    vgg_model *model = vgg_build(&arch, 1);
    ck_assert_msg(model != NULL, "%s", vgg_last_error());
    const double keys = *fixture_get(fixture, "keys", 1);
    ck_assert_uint_eq(vgg_model_param_count(model), (uint32_t)keys);
    const struct record *first = NULL;
    for (uint32_t i = 0; first == NULL; i++)
        if (strncmp(fixture->records[i].name, "init/", 5) == 0)
            first = &fixture->records[i];
    for (uint32_t i = 0; i < vgg_model_param_count(model); i++) {
        vgg_param *param = vgg_model_param(model, i);
        ck_assert_str_eq(first[i].name + 5, vgg_param_alias(param));
        vgg_tensor *tensor = NULL;
        ck_ok(vgg_tensor_create(NULL, VGG_F64, vgg_param_shape(param), &tensor));
        ck_assert_uint_eq(vgg_tensor_bytes(tensor), first[i].count * sizeof(double));
        memcpy(vgg_tensor_data(tensor), first[i].values, vgg_tensor_bytes(tensor));
        ck_ok(vgg_param_write(param, tensor));
        vgg_tensor_free(tensor);
    }
    return model;
}

vgg_tensor *fixture_tensor(const vgg_shape *shape, uint32_t rows, const double *values)
{
    vgg_shape full = {shape->rank + 1, {rows}};
    memcpy(full.dim + 1, shape->dim, shape->rank * sizeof shape->dim[0]);
    vgg_tensor *tensor = NULL;
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &full, &tensor));
    float *data = vgg_tensor_data(tensor);
    const uint64_t count = vgg_tensor_bytes(tensor) / sizeof *data;
    for (uint64_t i = 0; values != NULL && i < count; i++) data[i] = (float)values[i];
    return tensor;
}
