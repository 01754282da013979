/* The weight gradient of a depthwise 1 x k convolution with "same" padding or without. PyTorch's own takes two to five times as
 * long on a CPU, and is a third of a training step. Called by depthwise.py. */
#include <stdlib.h>
#include <string.h>

#define LANES 8 /* channels at a time: one AVX register */
#define TAPS 8  /* taps at a time: as many sums as stay in registers */

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));

#define ROW(tap) (*(const lanes *)&row[(tap) * dilation * LANES])

#if defined(__x86_64__) && defined(__linux__)
__attribute__((target_clones("arch=haswell", "default")))
#endif
/* x: (clips, frames, channels). gradient: (clips, frames - 2 * crop, channels), where crop is 0 ("same") or reach, that is
 * dilation * (taps - 1) / 2 (valid). out: (taps, channels), out[j][c] = sum over n and t of
 * gradient[n][t][c] * x[n][t + crop - reach + j * dilation][c]. channels is a multiple of 8, taps is odd. The order of the sums depends on nothing but the sizes. Returns 0, or 1 without memory. */
int mbx_depthwise_weight_gradient(const float *x, const float *gradient, float *out, long clips, long frames,
                                  long channels, long taps, long dilation, long crop)
{
    const long reach = dilation * (taps - 1) / 2;
    const long frames_out = frames - 2 * crop;
    const long groups = (taps + TAPS - 1) / TAPS;
    /* Eight channels of one clip, with zeros on both ends and for the taps that fill up the last group. */
    float *rows = calloc((size_t)((frames + 2 * reach + TAPS * dilation) * LANES), sizeof(float));
    float *totals = calloc((size_t)(groups * TAPS * LANES), sizeof(float));
    const int failed = rows == NULL || totals == NULL;
    for (long c = 0; c < channels && !failed; c += LANES) {
        memset(totals, 0, (size_t)(groups * TAPS * LANES) * sizeof(float));
        for (long n = 0; n < clips; n++) {
            const float *clip = &x[n * frames * channels + c];
            const float *clip_gradient = &gradient[n * frames_out * channels + c];
            for (long t = 0; t < frames; t++) {
                *(lanes *)&rows[(reach + t) * LANES] = *(const lanes *)&clip[t * channels];
            }
            for (long j = 0; j < taps; j += TAPS) {
                lanes *total = (lanes *)&totals[j * LANES];
                lanes s0 = total[0], s1 = total[1], s2 = total[2], s3 = total[3];
                lanes s4 = total[4], s5 = total[5], s6 = total[6], s7 = total[7];
                const float *row = &rows[(crop + j * dilation) * LANES];
                for (long t = 0; t < frames_out; t++, row += LANES) {
                    const lanes g = *(const lanes *)&clip_gradient[t * channels];
                    s0 += g * ROW(0);
                    s1 += g * ROW(1);
                    s2 += g * ROW(2);
                    s3 += g * ROW(3);
                    s4 += g * ROW(4);
                    s5 += g * ROW(5);
                    s6 += g * ROW(6);
                    s7 += g * ROW(7);
                }
                total[0] = s0, total[1] = s1, total[2] = s2, total[3] = s3;
                total[4] = s4, total[5] = s5, total[6] = s6, total[7] = s7;
            }
        }
        for (long j = 0; j < taps; j++) {
            memcpy(&out[j * channels + c], &totals[j * LANES], LANES * sizeof(float));
        }
    }
    free(rows);
    free(totals);
    return failed;
}
