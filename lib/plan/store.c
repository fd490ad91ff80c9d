/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters of a model on a device: one store for each (model, device, precision),
 * shared by all plans.
 *
 * Who has the newest values is written on the model: its own copy, or one store
 * (model->newest). A store that trained makes itself the newest; reading the model, or
 * running on another store, first pulls the values back. Everything is under the
 * model's lock, so that inference plans in several threads may find out at once that
 * their common store is out of date. */
#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "plan/plan.h"

vgg_param_desc *vgg__store_describe(vgg_model *model)
{
    vgg_param_desc *descs = vgg__calloc(model->ctx, model->param_count, sizeof *descs);
    if (descs == NULL) return NULL;
    for (uint32_t i = 0; i < model->param_count; i++) {
        const vgg_param *param = model->params[i];
        descs[i] = (vgg_param_desc){
            .shape = param->shape,
            .count = param->count,
            .linear = param->role == VGG_ROLE_WEIGHT && param->shape.rank == 2,
            .buffer = param->role == VGG_ROLE_MEAN || param->role == VGG_ROLE_VAR,
            .trainable = param->trainable,
        };
    }
    return descs;
}

/* Copy a store's values to the model's host copy. Called with the model's lock held. */
static vgg_status pull(vgg_model *model, void *newest)
{
    struct vgg__store *store = newest;
    const vgg_engine *engine = store->device->engine;
    for (uint32_t i = 0; i < model->param_count; i++)
        VGG_TRY(engine->store_read(store->handle, i, VGG_SLOT_VALUE,
                                   model->params[i]->value, VGG_F32));
    store->version = ++model->version;
    model->newest = NULL;
    return VGG_OK;
}

/* Copy the model's host copy to a store. Called with the model's lock held. */
static vgg_status push(vgg_model *model, struct vgg__store *store)
{
    const vgg_engine *engine = store->device->engine;
    for (uint32_t i = 0; i < model->param_count; i++)
        VGG_TRY(engine->store_write(store->handle, i, VGG_SLOT_VALUE,
                                    model->params[i]->value, VGG_F32));
    store->version = model->version;
    return VGG_OK;
}

static vgg_status refresh_locked(struct vgg__store *store)
{
    vgg_model *model = store->model;
    if (model->newest == store) return VGG_OK;
    if (model->newest != NULL) VGG_TRY(pull(model, model->newest));
    if (store->version != model->version) VGG_TRY(push(model, store));
    return VGG_OK;
}

vgg_status vgg__store_refresh(struct vgg__store *store)
{
    pthread_mutex_lock(&store->model->lock);
    const vgg_status status = refresh_locked(store);
    pthread_mutex_unlock(&store->model->lock);
    return status;
}

void vgg__store_touched(struct vgg__store *store)
{
    pthread_mutex_lock(&store->model->lock);
    store->model->newest = store;
    store->model->pull = pull;
    pthread_mutex_unlock(&store->model->lock);
}

static struct vgg__store *find(vgg_model *model, vgg_device *device, uint32_t precision)
{
    for (struct vgg__store *at = model->stores; at != NULL; at = at->next)
        if (at->device == device && at->precision == precision) return at;
    return NULL;
}

/* A store that no list knows yet. */
static vgg_status create(vgg_model *model, vgg_device *device, uint32_t precision,
                         struct vgg__store **out)
{
    struct vgg__store *store = vgg__calloc(model->ctx, 1, sizeof *store);
    uint8_t *trained = vgg__calloc(model->ctx, model->param_count, sizeof *trained);
    vgg_param_desc *descs = vgg__store_describe(model);
    vgg_status status = store && trained && descs ? VGG_OK : VGG_ENOMEM;
    if (status == VGG_OK) {
        *store = (struct vgg__store){.model = model,
                                     .device = device,
                                     .precision = precision,
                                     .trained = trained,
                                     .version = model->version - 1};
        status = device->engine->store_create(device->state, descs, model->param_count,
                                              precision, &store->handle);
    }
    vgg__free(descs);
    if (status != VGG_OK) {
        vgg__free(trained);
        vgg__free(store);
        return status;
    }
    *out = store;
    return VGG_OK;
}

static void destroy(struct vgg__store *store)
{
    store->device->engine->store_free(store->handle);
    vgg__free(store->trained);
    vgg__free(store);
}

/* One plan more that needs gradients. */
static vgg_status add_gradients(vgg_model *model, struct vgg__store *store)
{
    for (uint32_t i = 0; store->training > 0 && i < model->param_count; i++)
        if (model->params[i]->trainable != (store->trained[i] != 0))
            return vgg__fail(VGG_ESTATE,
                             "%s was %s for a plan or trainer of this model that is "
                             "still there: free that first",
                             model->params[i]->name,
                             store->trained[i] ? "not frozen" : "frozen");
    if (store->training == 0) {
        vgg_param_desc *descs = vgg__store_describe(model);
        if (descs == NULL) return VGG_ENOMEM;
        const vgg_status status =
            store->device->engine->store_gradients(store->handle, descs);
        for (uint32_t i = 0; status == VGG_OK && i < model->param_count; i++)
            store->trained[i] = descs[i].trainable != 0;
        vgg__free(descs);
        VGG_TRY(status);
    }
    store->training++;
    return VGG_OK;
}

vgg_status vgg__store_acquire(vgg_model *model, vgg_device *device, uint32_t precision,
                              bool gradients, struct vgg__store **out)
{
    *out = NULL;
    pthread_mutex_lock(&model->lock);
    struct vgg__store *store = find(model, device, precision);
    const bool is_new = store == NULL;
    vgg_status status = VGG_OK;
    if (is_new) status = create(model, device, precision, &store);
    if (status == VGG_OK && gradients) {
        status = add_gradients(model, store);
        if (status != VGG_OK && is_new) destroy(store);
    }
    if (status == VGG_OK) {
        if (is_new) {
            store->next = model->stores;
            model->stores = store;
        }
        store->plans++;
        *out = store;
    }
    pthread_mutex_unlock(&model->lock);
    return status;
}

void vgg__store_release(struct vgg__store *store, bool gradients)
{
    if (store == NULL) return;
    vgg_model *model = store->model;
    pthread_mutex_lock(&model->lock);
    if (gradients) store->training--;
    if (--store->plans == 0) {
        const uint64_t mode = vgg__fpmode_enter();
        if (model->newest == store && pull(model, store) != VGG_OK)
            model->newest = NULL;
        vgg__fpmode_leave(mode);
        struct vgg__store **link = (struct vgg__store **)&model->stores;
        while (*link != store) link = &(*link)->next;
        *link = store->next;
        destroy(store);
    }
    pthread_mutex_unlock(&model->lock);
}
