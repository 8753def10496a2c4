// Draws a picture, and another one whenever a character arrives: one operation a turn of loop(), then row by row.
//
// student.h and student.c: `fewstep flash STUDENT.fsw --target TARGET --slot a --out student.c`.

#include <fewstep.h>

#include "student.h"

// For a target with A/B slots 1024: the image lies behind the slot's head.
static const size_t HEAD = 0;

alignas(16) static uint8_t memory[60 * 1024];
static fewstep_session *session;
static fewstep_info info;
static fewstep_request request;
static bool drawing;

static void begin() {
  request.seed++;
  request.image_class = (request.image_class + 1) % info.classes;
  request.w = 1.0f;
  drawing = fewstep_begin(session, &request) == FEWSTEP_OK;
}

void setup() {
  Serial.begin(115200);
  int32_t status = fewstep_inspect(student + HEAD, STUDENT_BYTES - HEAD, &info);
  if (status == FEWSTEP_OK) {
    status = fewstep_open(student + HEAD, STUDENT_BYTES - HEAD, memory, sizeof memory, &session);
  }
  if (status != FEWSTEP_OK) {
    Serial.println(fewstep_message(status));
    return;
  }
  begin();
}

void loop() {
  if (session != nullptr && !drawing && Serial.read() >= 0) begin();
  if (!drawing) return;
  if (fewstep_step_op(session) == FEWSTEP_RUNNING) return;
  drawing = false;
  uint8_t row[64 * 3];
  if (info.row_bytes > sizeof row) return;
  for (uint16_t y = 0; y < info.height; y++) {
    fewstep_row(session, y, row, info.row_bytes);
    for (uint32_t i = 0; i < info.row_bytes; i++) {
      Serial.print(row[i]);
      Serial.print(' ');
    }
    Serial.println();
  }
}
