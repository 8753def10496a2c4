/* Every way to use the interface wrongly that it can see, with the status that it must give. Exit code 0: all of them. */
#include "board.h"
#include "fewstep.h"

static uint8_t memory[60 * 1024] __attribute__((aligned(16)));
static uint8_t other[256] __attribute__((aligned(16)));
static uint8_t picture[64 * 64 * 3];

static int failures;

static void send_text(const char *text) {
  while (*text) board_put((uint8_t)*text++);
}

static void expect(const char *what, int32_t found, int32_t expected) {
  if (found == expected) return;
  failures++;
  send_text(what);
  send_text(": ");
  send_text(fewstep_message(found));
  send_text(", expected: ");
  send_text(fewstep_message(expected));
  send_text("\n");
}

#define EXPECT(call, status) expect(#call, call, status)

int main(void) {
  fewstep_info info;
  fewstep_session *session = (fewstep_session *)memory;
  fewstep_request request = {.seed = 1, .image_class = 1, .w = 1.0f};
  const void *image = board_image;
  const size_t bytes = board_image_bytes;

  EXPECT(fewstep_inspect(0, bytes, &info), FEWSTEP_NULL);
  EXPECT(fewstep_inspect(image, bytes, 0), FEWSTEP_NULL);
  EXPECT(fewstep_inspect(image, bytes, (fewstep_info *)((char *)&info + 1)), FEWSTEP_MISALIGNED);
  EXPECT(fewstep_inspect((const char *)image + 4, bytes - 4, &info), FEWSTEP_MISALIGNED);
  EXPECT(fewstep_inspect(image, bytes - 16, &info), FEWSTEP_IMAGE);
  EXPECT(fewstep_inspect(image, 0, &info), FEWSTEP_IMAGE);
  EXPECT(fewstep_inspect(image, SIZE_MAX, &info), FEWSTEP_IMAGE);
  EXPECT(fewstep_inspect(memory, sizeof memory, &info), FEWSTEP_IMAGE);
  EXPECT(fewstep_inspect(image, bytes, &info), FEWSTEP_OK);

  EXPECT(fewstep_open(image, bytes, memory, sizeof memory, 0), FEWSTEP_NULL);
  EXPECT(fewstep_open(0, bytes, memory, sizeof memory, &session), FEWSTEP_NULL);
  EXPECT(session == 0, 1);
  EXPECT(fewstep_open(image, bytes, 0, sizeof memory, &session), FEWSTEP_NULL);
  EXPECT(fewstep_open(image, bytes, memory + 8, sizeof memory - 8, &session), FEWSTEP_MISALIGNED);
  EXPECT(fewstep_open(image, bytes, memory, info.memory_bytes - 1, &session), FEWSTEP_MEMORY);
  EXPECT(fewstep_open(image, bytes, memory, 16, &session), FEWSTEP_MEMORY);
  EXPECT(fewstep_open(image, bytes, memory, 0, &session), FEWSTEP_MEMORY);
  EXPECT(fewstep_open(memory, sizeof memory, memory, sizeof memory, &session), FEWSTEP_IMAGE);
  EXPECT(session == 0, 1);

  EXPECT(fewstep_begin(0, &request), FEWSTEP_NULL);
  EXPECT(fewstep_begin((fewstep_session *)other, &request), FEWSTEP_NOT_OPEN);
  EXPECT(fewstep_step_op((fewstep_session *)memory), FEWSTEP_NOT_OPEN);
  EXPECT(fewstep_open(image, bytes, memory, info.memory_bytes, &session), FEWSTEP_OK);
  EXPECT(fewstep_begin((fewstep_session *)((char *)session + 1), &request), FEWSTEP_MISALIGNED);
  EXPECT(fewstep_begin(session, 0), FEWSTEP_NULL);
  EXPECT(fewstep_begin(session, (fewstep_request *)((char *)&request + 1)), FEWSTEP_MISALIGNED);
  /* A copy of a session is none. */
  for (unsigned i = 0; i < sizeof other; i++) other[i] = memory[i];
  EXPECT(fewstep_step((fewstep_session *)other), FEWSTEP_NOT_OPEN);

  EXPECT(fewstep_finish(session, picture, info.picture_bytes), FEWSTEP_NOT_FINISHED);
  request.image_class = info.classes;
  EXPECT(fewstep_begin(session, &request), FEWSTEP_CLASS);
  request.image_class = 1;
  request.w = info.w_max + 1.0f;
  EXPECT(fewstep_begin(session, &request), FEWSTEP_GUIDANCE);
  request.w = __builtin_nanf("");
  EXPECT(fewstep_begin(session, &request), FEWSTEP_GUIDANCE);
  request.w = 1.0f;
  request.steps = info.steps + 1;
  EXPECT(fewstep_begin(session, &request), FEWSTEP_STEPS);
  request.steps = 0;
  request.stochastic = 2;
  EXPECT(fewstep_begin(session, &request), FEWSTEP_SAMPLER);
  request.stochastic = 0;
  EXPECT(fewstep_begin_from(session, &request, 0, info.picture_bytes, 0), FEWSTEP_NULL);
  EXPECT(fewstep_begin_from(session, &request, picture, info.picture_bytes - 1, 0), FEWSTEP_LENGTH);
  EXPECT(fewstep_begin_from(session, &request, picture, info.picture_bytes, info.steps), FEWSTEP_START_STEP);

  EXPECT(fewstep_step_op(session), FEWSTEP_OK);
  EXPECT(fewstep_begin(session, &request), FEWSTEP_OK);
  EXPECT(fewstep_step_op(session), FEWSTEP_RUNNING);
  EXPECT(fewstep_set_guidance(session, info.w_min - 1.0f), FEWSTEP_GUIDANCE);
  EXPECT(fewstep_set_guidance(session, info.w_min), FEWSTEP_OK);
  EXPECT(fewstep_row(session, 0, picture, info.row_bytes), FEWSTEP_NOT_FINISHED);
  while (fewstep_step(session) == FEWSTEP_RUNNING) {
  }
  EXPECT(fewstep_row(session, 0, 0, info.row_bytes), FEWSTEP_NULL);
  EXPECT(fewstep_row(session, 0, picture, info.row_bytes + 1), FEWSTEP_LENGTH);
  EXPECT(fewstep_row(session, info.height, picture, info.row_bytes), FEWSTEP_ROW);
  EXPECT(fewstep_row(session, 0, picture, info.row_bytes), FEWSTEP_OK);
  EXPECT(fewstep_finish(session, picture, SIZE_MAX), FEWSTEP_LENGTH);
  EXPECT(fewstep_finish(session, 0, info.picture_bytes), FEWSTEP_NULL);
  EXPECT(fewstep_finish(session, picture, info.picture_bytes), FEWSTEP_OK);
  EXPECT(fewstep_begin_from(session, &request, picture, info.picture_bytes, info.steps - 1), FEWSTEP_OK);
  EXPECT(fewstep_step(session), FEWSTEP_OK);

  send_text(failures ? "failed\n" : "every error was seen\n");
  return failures ? 1 : 0;
}
