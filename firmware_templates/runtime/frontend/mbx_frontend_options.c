/* Twin: mbx_deploy/sim/frontend.py. Each function's formats, ranges and reasons are told there. */
#include "mbx_frontend_options.h"

#include "mbx_fixed_point.h"

/* The root of a number of two words, at least 2^62, without its last 16 bits: rounded down, 24 bits. */
#if MBX_HAS_LONG_MULTIPLY /* such cores divide, too */
static uint32_t mbx_root(uint32_t high, uint32_t low)
{
    const uint64_t number = ((uint64_t)high << 16) | (low >> 16);
    /* Of 16 bits: a line that is off by 6 % at most, two of Newton's steps, which leave 1, and 2 less: it is below. */
    uint32_t root = (high >> 17) + (high >> 19) + 24379u;
    root = (root + high / root) >> 1;
    root = ((root + high / root) >> 1) - 2u;
    /* 8 bits more, too large by 1 at most, since their square is left out. */
    const uint64_t rest = number - (((uint64_t)root * root) << 16);
    root = (root << 8) + (uint32_t)(rest >> 9) / root;
    if ((uint64_t)root * root > number) {
        return root - 1u;
    }
    return (uint64_t)(root + 1u) * (root + 1u) <= number ? root + 1u : root;
}
#else
static uint32_t mbx_root(uint32_t high, uint32_t low)
{
    uint32_t root = 0;
    for (uint32_t bit = UINT32_C(1) << 30; bit != 0u; bit >>= 2) {
        const uint32_t trial = root + bit;
        root >>= 1;
        if (high >= trial) {
            high -= trial; /* what is left: at most twice the root */
            root += bit;
        }
    }
    for (uint32_t bit = 0; bit < 8u; bit++) {
        const uint32_t trial = (root << 2) | 1u;
        high = (high << 2) | (low >> 30);
        low <<= 2;
        root <<= 1;
        if (high >= trial) {
            high -= trial;
            root |= 1u;
        }
    }
    return root;
}
#endif

/* Twin: magnitude_spectrum(), of one line. */
static uint64_t mbx_magnitude(uint64_t power)
{
    if (power == 0u) {
        return 0;
    }
    const uint32_t halved = (uint32_t)mbx_leading_zeros(power) / 2u;
    power <<= 2u * halved;
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
