//! What the page calls: [`image`] for memory, into which it copies the file; [`open`]; then, any number of times, a picture
//! and a mask to where [`picture`] and [`mask`] say, one of [`sample`], [`edit`], [`inpaint`], [`morph`], and the picture
//! from [`drawn`]. Calls that can be refused return 1 or 0. [`text`] has the reason then, and after [`open`] the
//! description.

#![allow(unsafe_code)]

use core::cell::RefCell;
use core::fmt::{Display, Write};
use core::ptr::null_mut;

use fewstep_core::{Inpaint, Morph, Request, RequestError, Sampler, Session};

use crate::{Student, Text, describe, room};

/// What the instance holds.
struct Page {
    /// Memory for the file, until it is opened.
    image: Option<&'static mut [u8]>,
    /// What is said about the last call.
    text: Option<Text>,
    student: Option<Student>,
}

struct OneThread(RefCell<Page>);

// SAFETY: the module is compiled without atomics: an instance has one thread.
unsafe impl Sync for OneThread {}

static PAGE: OneThread = OneThread(RefCell::new(Page { image: None, text: None, student: None }));

/// Nothing in the core panics; an instance that does all the same stops, which the page hears.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

impl Page {
    fn say(&mut self, what: impl Display) {
        if let Some(text) = &mut self.text {
            text.clear();
            let _ = write!(text, "{what}");
        }
    }

    fn open(&mut self) -> bool {
        let Some(image) = self.image.take() else { return false };
        match Student::open(image) {
            Ok(Some(student)) => {
                let text = self.text.as_mut();
                let said = text.is_some_and(|text| {
                    text.clear();
                    describe(&student.model, text).is_ok()
                });
                self.student = Some(student);
                return said;
            }
            Ok(None) => self.say("there is no memory to draw with it"),
            Err(error) => self.say(error),
        }
        false
    }
}

/// Memory for a file of `len` bytes; null where there is none.
// SAFETY (here and below): nothing else is linked that could have the name.
#[unsafe(no_mangle)]
pub extern "C" fn image(len: usize) -> *mut u8 {
    let mut page = PAGE.0.borrow_mut();
    let text = len.checked_mul(6).and_then(|len| room(len + 512));
    let (Some(text), Some(image)) = (text, room(len)) else { return null_mut() };
    page.text = Some(Text::new(text));
    page.image.insert(image).as_mut_ptr()
}

/// Checks the file that was copied to [`image`] and makes room for drawing with it. The text is its description.
#[unsafe(no_mangle)]
pub extern "C" fn open() -> u32 {
    PAGE.0.borrow_mut().open().into()
}

/// Where the text of the last call lies.
#[unsafe(no_mangle)]
pub extern "C" fn text() -> *const u8 {
    PAGE.0.borrow().text.as_ref().map_or(core::ptr::null(), |text| text.bytes().as_ptr())
}

/// Bytes of the text, UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn text_bytes() -> usize {
    PAGE.0.borrow().text.as_ref().map_or(0, |text| text.bytes().len())
}

fn place(of: impl FnOnce(&mut Student) -> &mut [u8]) -> *mut u8 {
    PAGE.0.borrow_mut().student.as_mut().map_or(null_mut(), |student| of(student).as_mut_ptr())
}

/// Where a picture to work on has to lie: [height][width][channels], bytes.
#[unsafe(no_mangle)]
pub extern "C" fn picture() -> *mut u8 {
    place(|student| student.picture)
}

/// Where a mask has to lie: [height][width], 0 keeps a pixel.
#[unsafe(no_mangle)]
pub extern "C" fn mask() -> *mut u8 {
    place(|student| student.mask)
}

/// Where the drawn picture lies: [height][width][channels], bytes.
#[unsafe(no_mangle)]
pub extern "C" fn drawn() -> *mut u8 {
    place(|student| student.drawn)
}

/// Begins by `begin`, draws to the end.
fn draw(
    (seed, class, w, steps): (u64, u32, f32, u32),
    begin: impl for<'s> FnOnce(&mut Session<'s>, &Request, &'s [u8], &'s [u8]) -> Result<(), RequestError>,
) -> u32 {
    let request = Request { seed, class: narrow(class), w, steps: narrow(steps), sampler: Sampler::Deterministic };
    let mut page = PAGE.0.borrow_mut();
    let Some(student) = &mut page.student else { return 0 };
    match student.draw(|session, picture, mask| begin(session, &request, picture, mask)) {
        Ok(()) => 1,
        Err(error) => {
            page.say(error);
            0
        }
    }
}

/// What is too large for the core's types is too large for every image.
fn narrow(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Draws from noise: [`Session::begin`].
#[unsafe(no_mangle)]
pub extern "C" fn sample(seed: u64, class: u32, w: f32, steps: u32) -> u32 {
    draw((seed, class, w, steps), |session, request, _, _| session.begin(request))
}

/// Draws from the picture at [`picture`], noised to step `start`: [`Session::begin_from`].
#[unsafe(no_mangle)]
pub extern "C" fn edit(seed: u64, class: u32, w: f32, steps: u32, start: u32) -> u32 {
    draw((seed, class, w, steps), |session, request, picture, _| session.begin_from(request, picture, narrow(start)))
}

/// Draws the part of the picture that the mask marks: [`Session::begin_inpaint`].
#[unsafe(no_mangle)]
pub extern "C" fn inpaint(seed: u64, class: u32, w: f32, steps: u32, start: u32, passes: u32) -> u32 {
    draw((seed, class, w, steps), |session, request, picture, mask| {
        let inpaint = Inpaint { picture, mask, start_step: narrow(start), passes: narrow(passes) };
        session.begin_inpaint(request, inpaint)
    })
}

/// Draws the picture at share `at` of the way to another seed and class: [`Session::begin_morph`].
#[unsafe(no_mangle)]
pub extern "C" fn morph(seed: u64, class: u32, w: f32, steps: u32, to_seed: u64, to_class: u32, at: f32) -> u32 {
    draw((seed, class, w, steps), |session, request, _, _| {
        session.begin_morph(request, &Morph { seed: to_seed, class: narrow(to_class), at })
    })
}
