/* Twin: mbx_deploy/sim/frontend.py. Each function's formats, ranges and reasons are told there. */
#include "mbx_frontend_options.h"

#define ROOT_BITS 24

/* The root of a number of two words, at least 2^62, without its last 16 bits: rounded down, 24 bits. Each turn takes two
 * bits of the number and gives one of the root; the remainder is at most twice the root. */
static uint32_t mbx_root(uint32_t high, uint32_t low)
{
    uint32_t root = 0;
    uint32_t remainder = 0;
    for (uint32_t bit = 0; bit < ROOT_BITS; bit++) {
        const uint32_t trial = (root << 2) | 1u;
        if (bit == 16u) {
            high = low;
        }
        remainder = (remainder << 2) | (high >> 30);
        high <<= 2;
        root <<= 1;
        if (remainder >= trial) {
            remainder -= trial;
            root |= 1u;
        }
    }
    return root;
}

/* Twin: magnitude_spectrum(), of one line. */
static uint64_t mbx_magnitude(uint64_t power)
{
    uint32_t halved = 0;
    if (power == 0u) {
        return 0;
    }
    for (uint32_t step = 32; step >= 2u; step /= 2u) {
        if ((power >> (64u - step)) == 0u) {
            power <<= step;
            halved += step / 2u;
        }
    }
    return (uint64_t)mbx_root((uint32_t)(power >> 32), (uint32_t)power) << (MBX_MAGNITUDE_FRACTION_BITS + 8u - halved);
}

/* Twin: magnitude_spectrum(). In place. */
void mbx_magnitude_spectrum(const mbx_frontend *f, mbx_bin *bins)
{
    uint32_t first = f->n_fft / 2u + 1u;
    uint32_t end = 0;
    for (uint32_t m = 0; m < f->n_mels; m++) {
        const uint32_t behind = (uint32_t)f->mel_first[m] + f->mel_count[m];
        if (f->mel_count[m] != 0u && f->mel_first[m] < first) {
            first = f->mel_first[m];
        }
        end = behind > end ? behind : end;
    }
    for (uint32_t k = first; k < end; k++) {
        bins[k].power = mbx_magnitude(bins[k].power);
    }
}
