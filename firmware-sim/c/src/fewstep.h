/* fewstep for C: draws pictures from a student image (.fsw) on a microcontroller. No heap, no statics that are written,
 * no file system; the image is read in place from flash.
 *
 *   static uint8_t memory[MEMORY_BYTES] __attribute__((aligned(16)));   // fewstep_info.memory_bytes, or more
 *   fewstep_session *session;
 *   fewstep_request request = { .seed = 1, .image_class = 3, .w = 1.5f };
 *   if (fewstep_open(image, image_bytes, memory, sizeof memory, &session) != FEWSTEP_OK) ...
 *   if (fewstep_begin(session, &request) != FEWSTEP_OK) ...
 *   while (fewstep_step_op(session) == FEWSTEP_RUNNING) {
 *     // one operation done, a few milliseconds: feed the watchdog, look at the buttons
 *   }
 *   for (uint16_t y = 0; y < info.height; y++) fewstep_row(session, y, row, sizeof row);
 *
 * The same image, seed, class, w and steps give the same bytes on every target.
 *
 * Rules that the library cannot check: image and memory stay where they are, and nothing else writes them, as long as the
 * session is used; a session is used by one thread or interrupt level at a time (two sessions in two memories are
 * independent); pointers are to as many bytes as is said with them. There is nothing to close: forget the session.
 */
#ifndef FEWSTEP_H
#define FEWSTEP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What functions return: 0 or 1 is good, a negative number an error that changed nothing. */
enum {
  FEWSTEP_OK = 0,
  FEWSTEP_RUNNING = 1,           /* operations are left */
  FEWSTEP_NULL = -1,             /* a pointer is null */
  FEWSTEP_MISALIGNED = -2,       /* image and memory want multiples of 16, structures what C gives them */
  FEWSTEP_MEMORY = -3,           /* less than fewstep_info.memory_bytes */
  FEWSTEP_IMAGE = -4,            /* damaged, cut off, or of another version */
  FEWSTEP_NOT_OPEN = -5,         /* no session lies here */
  FEWSTEP_CLASS = -6,            /* not below fewstep_info.classes */
  FEWSTEP_GUIDANCE = -7,         /* outside w_min to w_max, or not a number */
  FEWSTEP_STEPS = -8,            /* does not divide fewstep_info.steps */
  FEWSTEP_SAMPLER = -9,          /* neither 0 nor 1 */
  FEWSTEP_START_STEP = -10,      /* not below the request's steps */
  FEWSTEP_LENGTH = -11,          /* a buffer of another length than row_bytes or picture_bytes */
  FEWSTEP_ROW = -12,             /* not below fewstep_info.height */
  FEWSTEP_NOT_FINISHED = -13     /* nothing was begun, or steps are left */
};

/* A session: lies in the memory given to fewstep_open. */
typedef struct fewstep_session fewstep_session;

/* What an image says about itself. */
typedef struct fewstep_info {
  uint16_t height;               /* of the picture, in pixels */
  uint16_t width;
  uint16_t channels;             /* 1 or 3, interleaved */
  uint16_t classes;
  uint16_t steps;                /* denoising steps */
  uint16_t ops;                  /* operations of a step; fewstep_step_op is called ops + 2 times a step */
  float w_min;                   /* range of the guidance strength */
  float w_max;
  uint32_t image_bytes;
  uint32_t memory_bytes;         /* that a session needs, at a multiple of 16 */
  uint32_t row_bytes;            /* width x channels */
  uint32_t picture_bytes;        /* height x width x channels */
} fewstep_info;

/* What to draw. Zero what you do not set. */
typedef struct fewstep_request {
  uint64_t seed;                 /* the noise */
  uint16_t image_class;          /* below fewstep_info.classes */
  uint16_t steps;                /* a divisor of fewstep_info.steps; 0: all of them */
  float w;                       /* guidance strength, 0: unguided */
  uint32_t stochastic;           /* 0: straight to the next angle; 1: twice as far and noise back */
} fewstep_request;

/* Checks an image and says what it is. Bytes after its end are ignored. */
int32_t fewstep_inspect(const void *image, size_t image_bytes, fewstep_info *info);

/* Checks an image and makes a session in `memory`. On an error *session is null. */
int32_t fewstep_open(const void *image, size_t image_bytes, void *memory, size_t memory_bytes,
                     fewstep_session **session);

/* Starts a picture from noise. One that was under way is dropped. */
int32_t fewstep_begin(fewstep_session *session, const fewstep_request *request);

/* Starts from a picture (picture_bytes), noised to the angle of step `start_step`: 0 forgets it, later steps keep more. */
int32_t fewstep_begin_from(fewstep_session *session, const fewstep_request *request, const uint8_t *picture,
                           size_t picture_bytes, uint16_t start_step);

/* One operation: FEWSTEP_RUNNING, or FEWSTEP_OK when the picture is done (or none was begun). */
int32_t fewstep_step_op(fewstep_session *session);

/* The rest of a denoising step; the same results. */
int32_t fewstep_step(fewstep_session *session);

/* Guidance strength from the next step on, while a picture is drawn. */
int32_t fewstep_set_guidance(fewstep_session *session, float w);

/* Row `y` of the finished picture, from 0 at the top, into `row_bytes` bytes. In any order, as often as wanted. */
int32_t fewstep_row(fewstep_session *session, uint16_t y, uint8_t *row, size_t row_bytes);

/* The finished picture into `picture_bytes` bytes. */
int32_t fewstep_finish(fewstep_session *session, uint8_t *picture, size_t picture_bytes);

/* A sentence for a status. */
const char *fewstep_message(int32_t status);

/* Name of the kernels in use: "arm-dsp", "helium", "riscv32" or "scalar". */
const char *fewstep_kernels(void);

#ifdef __cplusplus
}
#endif

#endif
