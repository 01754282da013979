/* The front end over many clips at once, for Python on the host. */
#include "mbx_frontend.h"

/* clips: [num_clips][clip_stride] samples, already extended by half a window at both ends where frames are centred;
 * coefficients_q16: [num_clips][frames][count]. */
void mbx_host_coefficients(const mbx_frontend *frontend, const int16_t *clips, int64_t num_clips, int64_t clip_stride,
                           int64_t frames, int32_t *coefficients_q16, uint64_t *scratch);

void mbx_host_coefficients(const mbx_frontend *frontend, const int16_t *clips, int64_t num_clips, int64_t clip_stride,
                           int64_t frames, int32_t *coefficients_q16, uint64_t *scratch)
{
    const mbx_frontend_memory memory = {(mbx_bin *)(void *)scratch,
                                        (mbx_mel *)(void *)&scratch[frontend->n_fft / 2u + 1u]};
    const int64_t count = frontend->n_mfcc != 0u ? frontend->n_mfcc : frontend->n_mels;
    for (int64_t clip = 0; clip < num_clips; clip++) {
        for (int64_t frame = 0; frame < frames; frame++) {
            const int64_t start = frame * frontend->hop_length;
            const mbx_extent extent = {(int32_t)(frontend->lead - start),
                                       (int32_t)(clip_stride - frontend->lead - start)};
            mbx_frame_coefficients(frontend, &clips[clip * clip_stride + start], extent,
                                   &coefficients_q16[(clip * frames + frame) * count], memory, 0, 0);
        }
    }
}
