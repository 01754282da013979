/* Listens to continuous audio and prints the words in it, as an application on a board would, but from a file.
 *
 *     listen RECORDING.wav      16 kHz, mono, 16 bit
 *
 * A word counts when two windows in a row agree on it with a score of at least 0.6. Then there is silence for a second:
 * the end of a word, alone in a window, may sound like another one.
 */
#include <stdio.h>
#include <string.h>

#include "kws.h"

#define BLOCK_SAMPLES 160u   /* what a microphone driver would deliver every 10 ms */
#define WAV_HEADER_BYTES 44u
#define MIN_SCORE_Q15 19661u /* 0.6 */

static int is_word(uint16_t label)
{
    return label != KWS_LABEL_UNKNOWN && label != KWS_LABEL_SILENCE;
}

int main(int argc, char **argv)
{
    static kws_t recognizer;
    int16_t block[BLOCK_SAMPLES];
    char header[WAV_HEADER_BYTES];
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;

    if (file == NULL || fread(header, 1, sizeof header, file) != sizeof header || memcmp(header, "RIFF", 4) != 0) {
        fprintf(stderr, "usage: listen RECORDING.wav (16 kHz, mono, 16 bit)\n");
        return 2;
    }
    if (kws_init(&recognizer) != MBX_OK) {
        return 1;
    }
    uint16_t last = KWS_NUM_CLASSES;
    unsigned long heard = 0; /* samples */
    unsigned long quiet_until = 0;
    size_t count = 0;
    while ((count = fread(block, sizeof block[0], BLOCK_SAMPLES, file)) != 0) {
        const int16_t *samples = block;
        while (count != 0) {
            size_t consumed = 0;
            const mbx_status status = kws_feed(&recognizer, samples, count, &consumed);
            samples += consumed;
            count -= consumed;
            heard += (unsigned long)consumed;
            if (status != MBX_WINDOW_READY) {
                continue;
            }
            mbx_result result;
            if (kws_run(&recognizer, &result) != MBX_OK) {
                return 1;
            }
            const int sure = is_word(result.label) && result.score_q15 >= MIN_SCORE_Q15;
            if (sure && result.label == last && heard >= quiet_until) {
                printf("%5.2f s  %s  %.2f\n", (double)heard / KWS_SAMPLE_RATE_HZ, kws_label(result.label),
                       result.score_q15 / 32768.0);
                quiet_until = heard + KWS_SAMPLE_RATE_HZ;
            }
            last = sure ? result.label : KWS_NUM_CLASSES;
        }
    }
    fclose(file);
    return 0;
}
