/* The products of mbx_fixed_point.h on a core: of each pair of a request's int32 numbers, for test_fixed_point_cores.py. */
#include "mbx_fixed_point.h"
#include "mbx_session.h"

int main(void)
{
    uint32_t count;
    int32_t pair[2];
    if (!mbx_session_read(&count, sizeof count)) {
        return 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!mbx_session_read(pair, sizeof pair)) {
            return 1;
        }
        const int32_t a = pair[0];
        const int32_t b = pair[1];
        const uint32_t first = (uint32_t)a;
        const uint32_t second = (uint32_t)b;
        const uint64_t wide[2] = {(uint64_t)mbx_multiply_s64(a, b), mbx_multiply_u64(first, second)};
        const int32_t narrow[4] = {mbx_multiply_high(a, b), mbx_multiply_high_add(3, a, b),
                                   mbx_multiply_high_subtract(3, a, b), mbx_multiply_q16(a, (int16_t)b)};
        if (!mbx_session_write(wide, sizeof wide) || !mbx_session_write(narrow, sizeof narrow)) {
            return 1;
        }
    }
    return 0;
}
