/* Two models with prefixes of their own in one program. Prints the logits of each, then whether they disturb each other. */
#include <stdio.h>

#include "left.h"
#include "right.h"

static left_t left;
static right_t right;

static void print(const char *name, const mbx_result *result, const char *label, int classes)
{
    printf("%s %s", name, label);
    for (int i = 0; i < classes; i++) {
        printf(" %d", result->logits[i]);
    }
    printf("\n");
}

/* Both at once, a sample to each in turn. */
int main(void)
{
    mbx_result left_result;
    mbx_result right_result;
    if (left_init(&left) != MBX_OK || right_init(&right) != MBX_OK) {
        return 1;
    }
    uint32_t random = 1;
    for (int i = 0; i < LEFT_CLIP_SAMPLES || i < RIGHT_CLIP_SAMPLES; i++) {
        size_t consumed = 0;
        random = random * 1664525u + 1013904223u;
        const int16_t sample = (int16_t)((int32_t)(random >> 16) - 32768);
        if (i < LEFT_CLIP_SAMPLES && left_feed(&left, &sample, 1, &consumed) != MBX_OK) {
            return 2;
        }
        if (i < RIGHT_CLIP_SAMPLES && right_feed(&right, &sample, 1, &consumed) != MBX_OK) {
            return 3;
        }
    }
    if (left_finish_clip(&left) != MBX_WINDOW_READY || right_finish_clip(&right) != MBX_WINDOW_READY ||
        left_run(&left, &left_result) != MBX_OK || right_run(&right, &right_result) != MBX_OK) {
        return 4;
    }
    print("left", &left_result, left_label(left_result.label), LEFT_NUM_CLASSES);
    print("right", &right_result, right_label(right_result.label), RIGHT_NUM_CLASSES);
    return 0;
}
