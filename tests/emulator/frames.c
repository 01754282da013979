/* The front end on a core, without an observer: the coefficients of each frame of a request, for test_frames_cores.py. */
#include "kws_data.h"
#include "mbx_session.h"

int main(void)
{
    static int16_t samples[MBX_SAMPLES_BEFORE_FRAME + 2048 + 1];
    static uint64_t scratch[1025 + MBX_MAX_MELS];
    static int32_t coefficients[MBX_MAX_MELS];
    const mbx_frontend *f = &kws_frontend;
    const mbx_frontend_memory memory = {(mbx_bin *)(void *)scratch, (mbx_mel *)(void *)&scratch[1025]};
    const mbx_extent extent = {-MBX_SAMPLES_BEFORE_FRAME - 1, INT32_MAX};
    const uint32_t bytes = f->window_length * (uint32_t)sizeof(int16_t);
    const uint32_t outputs = f->n_mfcc != 0u ? f->n_mfcc : f->n_mels;
    uint32_t count;
    if (!mbx_session_read(&count, sizeof count)) {
        return 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        int16_t *frame = samples + MBX_SAMPLES_BEFORE_FRAME + i % 2u; /* aligned to words, and not */
        if (!mbx_session_read(frame, bytes)) {
            return 1;
        }
        mbx_frame_coefficients(f, frame, extent, coefficients, memory, 0, 0);
        if (!mbx_session_write(coefficients, outputs * (uint32_t)sizeof(int32_t))) {
            return 1;
        }
    }
    return 0;
}
