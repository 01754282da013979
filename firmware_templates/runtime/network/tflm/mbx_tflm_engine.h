/* The interpreter, its ops, and the hook behind each op: what <prefix>_tflm.cc makes in an instance's memory. C++17. */
#ifndef MBX_TFLM_ENGINE_H
#define MBX_TFLM_ENGINE_H

#include <cstddef>
#include <cstdint>
#include <new>

#include "mbx_tflm.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/micro_profiler_interface.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace mbx {

/* MicroInterpreter::GetTensor() is for interpreters that share no memory between layers; while an op runs, its context
 * tells the same. */
class Interpreter : public tflite::MicroInterpreter {
  public:
    using tflite::MicroInterpreter::MicroInterpreter;
    const void *tensor_data(int32_t tensor) const
    {
        return context().GetEvalTensor(&context(), tensor)->data.data;
    }
};

/* Shows an observer what each op wrote, before the arena's memory is used again. */
class LayerObserver : public tflite::MicroProfilerInterface {
  public:
    explicit LayerObserver(const mbx_tflm_layer *layers) : layers_(layers)
    {
    }
    uint32_t BeginEvent(const char *) override
    {
        return op_++;
    }
    void EndEvent(uint32_t op) override;
    void start(const Interpreter *interpreter, mbx_observer observe, void *context);

  private:
    const mbx_tflm_layer *layers_;
    const Interpreter *interpreter_ = nullptr;
    mbx_observer observe_ = nullptr;
    void *context_ = nullptr;
    uint32_t op_ = 0;
    TF_LITE_REMOVE_VIRTUAL_DELETE
};

/* What the C functions see of an engine. */
struct EngineBase {
    LayerObserver observer;
    Interpreter *interpreter;
};

template <unsigned ops> struct Engine : EngineBase {
    using Resolver = tflite::MicroMutableOpResolver<ops>;
    Resolver resolver;
    alignas(Interpreter) unsigned char storage[sizeof(Interpreter)];

    explicit Engine(const mbx_tflm_layer *layers) : EngineBase{LayerObserver(layers), nullptr}
    {
    }

    /* Returns 1 where the arena is large enough and the model is what this runtime knows. */
    int start(const void *model, uint8_t *arena, uint32_t arena_bytes)
    {
        const tflite::Model *network = tflite::GetModel(model);
        if (network->version() != TFLITE_SCHEMA_VERSION) {
            return 0;
        }
        interpreter = new (storage) Interpreter(network, resolver, arena, arena_bytes, nullptr, &observer);
        return interpreter->AllocateTensors() == kTfLiteOk && interpreter->arena_used_bytes() <= arena_bytes;
    }
};

} // namespace mbx

#endif
