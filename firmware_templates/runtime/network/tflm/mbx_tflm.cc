/* TFLite Micro behind the recogniser, and what it asks of its platform. */
#include "mbx_tflm_engine.h"

#include <cstdarg>
#include <cstdlib>

#include "tensorflow/lite/micro/debug_log.h"

namespace mbx {

void LayerObserver::start(const Interpreter *interpreter, mbx_observer observe, void *context)
{
    interpreter_ = interpreter;
    observe_ = observe;
    context_ = context;
    op_ = 0;
}

void LayerObserver::EndEvent(uint32_t op)
{
    if (observe_ != nullptr && layers_[op].layer >= 0) {
        const mbx_tflm_layer &layer = layers_[op];
        observe_(context_, MBX_STAGE_LAYERS + layer.layer, interpreter_->tensor_data(layer.tensor), layer.bytes);
    }
}

} // namespace mbx

int8_t *mbx_tflm_input(void *engine)
{
    return static_cast<mbx::EngineBase *>(engine)->interpreter->typed_input_tensor<int8_t>(0);
}

int8_t *mbx_tflm_output(void *engine)
{
    return static_cast<mbx::EngineBase *>(engine)->interpreter->typed_output_tensor<int8_t>(0);
}

void mbx_tflm_invoke(void *engine, mbx_observer observe, void *context)
{
    mbx::EngineBase *self = static_cast<mbx::EngineBase *>(engine);
    self->observer.start(self->interpreter, observe, context);
    if (self->interpreter->Invoke() != kTfLiteOk) {
        __builtin_trap(); /* what lies in the output is no result, and must not be taken for one */
    }
}

uint32_t mbx_tflm_used_bytes(const void *engine)
{
    return static_cast<uint32_t>(static_cast<const mbx::EngineBase *>(engine)->interpreter->arena_used_bytes());
}

/* TFLite Micro's messages go nowhere: the status of init tells what an application can act on. */
void DebugLog(const char *, va_list)
{
}

int DebugVsnprintf(char *, size_t, const char *, va_list)
{
    return 0;
}

#if defined(__arm__)
/* Of libc's, which would bring its streams and heap. */
extern "C" [[noreturn]] void abort(void)
{
    for (;;) {
        __builtin_trap();
    }
}
#endif
