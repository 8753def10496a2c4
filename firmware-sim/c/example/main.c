/* Draws one picture and sends its rows over the UART as a portable graymap (or pixmap) in text. What is not this board's
 * is here; start.c has the board. */
#include "board.h"
#include "fewstep.h"

/* Enough for the shipped students: fewstep_info.memory_bytes. */
static uint8_t memory[60 * 1024] __attribute__((aligned(16)));

static void send_text(const char *text) {
  while (*text) board_put((uint8_t)*text++);
}

static void send_number(uint32_t value) {
  char digits[11];
  char *at = digits + sizeof digits - 1;
  *at = 0;
  do {
    *--at = (char)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  send_text(at);
}

static int32_t draw(void) {
  fewstep_info info;
  fewstep_session *session;
  const fewstep_request request = {.seed = 2, .image_class = 1, .w = 1.0f};
  uint8_t row[64 * 3];

  int32_t status = fewstep_inspect(board_image, board_image_bytes, &info);
  if (status != FEWSTEP_OK) return status;
  status = fewstep_open(board_image, board_image_bytes, memory, sizeof memory, &session);
  if (status != FEWSTEP_OK) return status;
  if (info.row_bytes > sizeof row) return FEWSTEP_LENGTH;
  status = fewstep_begin(session, &request);
  if (status != FEWSTEP_OK) return status;
  do {
    /* One operation a turn: here is room for a watchdog, buttons, a radio. */
    status = fewstep_step_op(session);
  } while (status == FEWSTEP_RUNNING);
  if (status != FEWSTEP_OK) return status;

  send_text(info.channels == 3 ? "P3\n" : "P2\n");
  send_number(info.width);
  send_text("\n");
  send_number(info.height);
  send_text("\n255\n");
  for (uint16_t y = 0; y < info.height; y++) {
    status = fewstep_row(session, y, row, info.row_bytes);
    if (status != FEWSTEP_OK) return status;
    for (uint32_t i = 0; i < info.row_bytes; i++) {
      send_number(row[i]);
      send_text(" ");
    }
    send_text("\n");
  }
  return FEWSTEP_OK;
}

int main(void) {
  const int32_t status = draw();
  if (status == FEWSTEP_OK) {
    send_text("kernels ");
    send_text(fewstep_kernels());
    send_text("\nstack ");
    send_number(board_stack_used());
    send_text("\n");
  } else {
    send_text("error: ");
    send_text(fewstep_message(status));
    send_text("\n");
  }
  return status == FEWSTEP_OK ? 0 : 1;
}
