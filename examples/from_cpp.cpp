/* SPDX-License-Identifier: Apache-2.0 */
/* The library from C++11: an owner for each object, a failure as an exception. */
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
#include <vgg/vgg.h>

namespace
{

void check(vgg_status status)
{
    if (status == VGG_OK) return;
    throw std::runtime_error(std::string(vgg_status_name(status)) + ": " +
                             vgg_last_error());
}

/* Gives a vgg_thing back with vgg_thing_free(). */
template <typename T, void (*give_back)(T *)> struct Deleter {
    void operator()(T *object) const
    {
        give_back(object);
    }
};
template <typename T, void (*give_back)(T *)>
using Owner = std::unique_ptr<T, Deleter<T, give_back>>;

using Model = Owner<vgg_model, vgg_model_free>;
using Device = Owner<vgg_device, vgg_device_free>;
using Plan = Owner<vgg_plan, vgg_plan_free>;
using Tensor = Owner<vgg_tensor, vgg_tensor_free>;

Model build(const std::string &preset, uint32_t ratio)
{
    vgg_arch arch = VGG_ARCH_INIT;
    check(vgg_arch_preset(preset.c_str(), &arch));
    arch.height = arch.width = 64;
    arch.hidden = 256;
    vgg_model *model = nullptr;
    check(vgg_model_create(nullptr, &arch, ratio, nullptr, &model));
    return Model(model);
}

Device open_device(const std::string &name)
{
    vgg_device *device = nullptr;
    check(vgg_device_open(nullptr, name.c_str(), &device));
    return Device(device);
}

/* A tensor of the vector's memory, which must outlive it. */
Tensor wrap(std::vector<float> &values, const vgg_shape &shape)
{
    vgg_tensor *tensor = nullptr;
    check(vgg_tensor_wrap(nullptr, VGG_F32, &shape, values.data(), nullptr, nullptr,
                          &tensor));
    return Tensor(tensor);
}

void run()
{
    const Model model = build("vgg13_bn", 4);
    const Device device = open_device("auto");
    vgg_plan *made = nullptr;
    check(vgg_plan_create(model.get(), device.get(), nullptr, &made));
    const Plan plan(made);

    std::vector<float> image(3 * 64 * 64, 0.5f), logits(1000);
    const Tensor input = wrap(image, vgg_shape{4, {1, 3, 64, 64}});
    const Tensor output = wrap(logits, vgg_shape{2, {1, 1000}});
    check(vgg_plan_forward(plan.get(), input.get(), output.get()));
    std::cout << "on " << vgg_device_name(device.get()) << ": "
              << vgg_model_parameters(model.get()) << " parameters, first logit "
              << logits[0] << "\n";

    try {
        build("vgg12", 4);
    } catch (const std::runtime_error &error) {
        std::cout << "as expected, " << error.what() << "\n";
    }
}

} // namespace

int main()
{
    try {
        run();
    } catch (const std::exception &error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
    return 0;
}
