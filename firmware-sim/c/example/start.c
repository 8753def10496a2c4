/* Start-up, UART and end on the emulated boards: Cortex-M with the CMSDK UART, and RISC-V with a 16550. The linker
 * scripts give the memory; UART is the address of the UART's registers, STUDENT the file of the image. */
#include "board.h"

extern uint32_t stack_low[], stack_high[], bss_start[], bss_end[], data_start[], data_end[], data_stored[];

#define PAINT 0xccccccccu

int main(void);

/* The image, in flash. */
__asm__(".section .rodata.student, \"a\"\n"
        ".balign 16\n"
        ".global board_image\n"
        "board_image: .incbin \"" STUDENT "\"\n"
        "board_image_end:\n"
        ".balign 4\n"
        ".global board_image_bytes\n"
        "board_image_bytes: .word board_image_end - board_image\n"
        ".previous\n");

/* Semihosting: SYS_EXIT_EXTENDED. */
static void __attribute__((noreturn)) end(uint32_t code) {
  const uint32_t block[2] = {0x20026, code};
#ifdef __riscv
  register uint32_t operation __asm__("a0") = 0x20;
  register const uint32_t *argument __asm__("a1") = block;
  for (;;)
    __asm__ volatile(".option push\n.option norvc\n.balign 16\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop"
                     : "+r"(operation)
                     : "r"(argument)
                     : "memory");
#else
  register uint32_t operation __asm__("r0") = 0x20;
  register const uint32_t *argument __asm__("r1") = block;
  for (;;) __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
#endif
}

#ifdef __riscv
void board_put(uint8_t byte) {
  volatile uint8_t *uart = (volatile uint8_t *)UART;
  while ((uart[5] & 0x20) == 0) {
  }
  uart[0] = byte;
}
#else
static volatile uint32_t *word(uintptr_t address) { return (volatile uint32_t *)address; }

void board_put(uint8_t byte) {
  while (*word(UART + 4) & 1) {
  }
  *word(UART) = byte;
}
#endif

uint32_t board_stack_used(void) {
  const uint32_t *free = stack_low;
  while (free < stack_high && *free == PAINT) free++;
  return (uint32_t)((uintptr_t)stack_high - (uintptr_t)free);
}

/* Called with a painted stack. */
void __attribute__((noreturn)) start(void) {
  for (uint32_t *to = data_start, *from = data_stored; to < data_end;) *to++ = *from++;
  for (uint32_t *at = bss_start; at < bss_end;) *at++ = 0;
#ifndef __riscv
  *word(0xe000ed88) |= 0xfu << 20; /* The FPU (Armv7-M, B3.2.20). */
  __asm__ volatile("dsb\nisb");
  *word(UART + 0x10) = 217; /* 115,200 baud. */
  *word(UART + 8) = 1;
#endif
  end((uint32_t)main());
}

static void __attribute__((noreturn, used)) fault(void) { end(2); }

#ifdef __riscv
__asm__(".section .start, \"ax\"\n"
        ".global reset\n"
        "reset: la t0, trap\n"
        "csrw mtvec, t0\n"
        "la sp, stack_high\n"
        "la t0, stack_low\n"
        "li t1, 0xcccccccc\n"
        "1: sw t1, 0(t0)\n"
        "addi t0, t0, 4\n"
        "bltu t0, sp, 1b\n"
        "j start\n"
        ".balign 4\n"
        "trap: la sp, stack_high\n"
        "j fault\n"
        ".previous\n");
#else
__asm__(".section .start, \"ax\"\n"
        ".word stack_high, reset, 2f, 2f, 2f, 2f, 2f, 2f, 0, 0, 0, 2f, 2f, 0, 2f, 2f\n"
        ".thumb_func\n"
        ".global reset\n"
        "reset: ldr r0, =stack_low\n"
        "ldr r1, =stack_high\n"
        "ldr r2, =0xcccccccc\n"
        "1: str r2, [r0], #4\n"
        "cmp r0, r1\n"
        "bcc 1b\n"
        "bl start\n"
        ".thumb_func\n"
        "2: ldr r0, =stack_high\n"
        "mov sp, r0\n"
        "bl fault\n"
        ".pool\n"
        ".previous\n");
#endif
