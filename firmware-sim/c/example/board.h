/* What an example needs of a board: start.c. */
#ifndef BOARD_H
#define BOARD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The student image in flash, at a multiple of 16. */
extern const uint8_t board_image[];
extern const size_t board_image_bytes;

/* Sends a byte over the UART. */
void board_put(uint8_t byte);

/* Bytes of stack that were ever used: start-up has painted all of it. */
uint32_t board_stack_used(void);

#ifdef __cplusplus
}
#endif

#endif
