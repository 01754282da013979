/* Listens to continuous audio and prints the words in it, as an application on a board would, but from a file.
 *
 *     listen RECORDING.wav      16 kHz, mono, 16 bit
 *
 * When a word counts is the model's own rule (kws.h): result.event says so, once a word.
 */
#include <stdio.h>
#include <string.h>

#include "kws.h"

#define BLOCK_SAMPLES 160u   /* what a microphone driver would deliver every 10 ms */
#define WAV_HEADER_BYTES 44u

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
    size_t count = 0;
    while ((count = fread(block, sizeof block[0], BLOCK_SAMPLES, file)) != 0) {
        const int16_t *samples = block;
        while (count != 0) {
            size_t consumed = 0;
            const mbx_status status = kws_feed(&recognizer, samples, count, &consumed);
            samples += consumed;
            count -= consumed;
            if (status != MBX_WINDOW_READY) {
                continue;
            }
            mbx_result result;
            if (kws_run(&recognizer, &result) != MBX_OK) {
                return 1;
            }
            if (result.event.word != MBX_NO_WORD) {
                printf("%5.2f s  %s  %.2f\n", (double)result.event.samples / KWS_SAMPLE_RATE_HZ,
                       kws_label(result.event.word), result.event.score_q15 / 32768.0);
            }
        }
    }
    fclose(file);
    return 0;
}
