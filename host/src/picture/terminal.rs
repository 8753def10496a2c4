//! Pictures in a terminal: half blocks in colour, the protocols of kitty and of sixel, or plain characters.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
#[cfg(unix)]
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fewstep_scenario::base64;
use png::{BitDepth, ColorType, Encoder};

use super::enlarge;

/// How pictures are drawn in a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Display {
    /// What the terminal says it can; plain characters where the output is no terminal
    Auto,
    /// Two pixels a character, in colour
    Blocks,
    /// Kitty's graphics protocol
    Kitty,
    /// Sixel graphics
    Sixel,
    /// Characters by brightness
    Ascii,
}

/// Screen pixels a picture's pixel where the terminal draws pixels.
const SCALE: usize = 3;
/// Time that a terminal has for its answer.
#[cfg(unix)]
const ANSWER: Duration = Duration::from_millis(300);
/// From dark to bright.
const RAMP: &[u8] = b" .:-=+*#%@";

/// A picture in 24-bit colour.
struct Canvas {
    width: usize,
    height: usize,
    /// [height][width][3].
    pixels: Vec<u8>,
}

impl Canvas {
    /// Pictures (height, width, channels) side by side, `space` pixels apart.
    fn of(pictures: &[&[u8]], (h, w, c): (usize, usize, usize), space: usize) -> Canvas {
        let width = pictures.len() * (w + space) - space.min(pictures.len() * (w + space));
        let mut pixels = vec![0; h * width * 3];
        for (i, picture) in pictures.iter().enumerate() {
            for (y, row) in picture.chunks_exact(w * c).enumerate() {
                for (x, pixel) in row.chunks_exact(c).enumerate() {
                    let rgb = match *pixel {
                        [r, g, b, ..] => [r, g, b],
                        _ => [pixel[0]; 3],
                    };
                    pixels[(y * width + i * (w + space) + x) * 3..][..3].copy_from_slice(&rgb);
                }
            }
        }
        Canvas { width, height: h, pixels }
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        self.pixels.get((y * self.width + x) * 3..).and_then(|p| p.first_chunk()).copied().unwrap_or([0; 3])
    }

    /// Two rows of pixels a line: the upper one the colour of U+2580, the lower one its ground.
    fn blocks(&self, truecolor: bool) -> String {
        let mut text = String::new();
        for y in (0..self.height).step_by(2) {
            for x in 0..self.width {
                let (upper, lower) = (self.at(x, y), if y + 1 < self.height { self.at(x, y + 1) } else { [0; 3] });
                let _ = match truecolor {
                    true => {
                        let ([r, g, b], [s, h, c]) = (upper, lower);
                        write!(text, "\x1b[38;2;{r};{g};{b};48;2;{s};{h};{c}m\u{2580}")
                    }
                    false => write!(text, "\x1b[38;5;{};48;5;{}m\u{2580}", palette(upper), palette(lower)),
                };
            }
            text.push_str("\x1b[0m\n");
        }
        text
    }

    /// Two characters a pixel, which is about square.
    fn ascii(&self) -> String {
        let mut text = String::new();
        for y in 0..self.height {
            let mut line = String::new();
            for x in 0..self.width {
                let [r, g, b] = self.at(x, y).map(usize::from);
                let step = (299 * r + 587 * g + 114 * b) * (RAMP.len() - 1) / (1000 * 255);
                line.extend([char::from(RAMP[step]); 2]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The canvas as PNG in pieces of base64 (kitty's graphics protocol, "the transmission medium" d, format 100).
    fn kitty(&self) -> Result<String> {
        let mut png = Vec::new();
        let mut encoder = Encoder::new(&mut png, (self.width * SCALE) as u32, (self.height * SCALE) as u32);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&enlarge(&self.pixels, self.width, 3, SCALE))?;
        writer.finish()?;
        let data = base64::encode(&png);
        let pieces: Vec<&[u8]> = data.as_bytes().chunks(4096).collect();
        let mut text = String::new();
        for (i, piece) in pieces.iter().enumerate() {
            let more = u8::from(i + 1 < pieces.len());
            let head = if i == 0 { format!("a=T,f=100,m={more}") } else { format!("m={more}") };
            let _ = write!(text, "\x1b_G{head};{}\x1b\\", std::str::from_utf8(piece)?);
        }
        text.push('\n');
        Ok(text)
    }

    /// The canvas as sixel graphics: bands of six rows, a run-length coded line a colour.
    fn sixel(&self) -> String {
        let large = Canvas {
            width: self.width * SCALE,
            height: self.height * SCALE,
            pixels: enlarge(&self.pixels, self.width, 3, SCALE),
        };
        let mut text = format!("\x1bPq\"1;1;{};{}", large.width, large.height);
        let mut known = [false; 256];
        for top in (0..large.height).step_by(6) {
            let rows = 6.min(large.height - top);
            let index = |x: usize, dy: usize| palette(large.at(x, top + dy));
            let mut used: Vec<u8> = (0..rows).flat_map(|dy| (0..large.width).map(move |x| index(x, dy))).collect();
            used.sort_unstable();
            used.dedup();
            for color in used {
                if !std::mem::replace(&mut known[usize::from(color)], true) {
                    let [r, g, b] = palette_color(color).map(|v| (u32::from(v) * 100 + 127) / 255);
                    let _ = write!(text, "#{color};2;{r};{g};{b}");
                }
                let _ = write!(text, "#{color}");
                let bits = |x: usize| (0..rows).filter(|dy| index(x, *dy) == color).fold(0u8, |b, dy| b | 1 << dy);
                let mut x = 0;
                while x < large.width {
                    let (value, start) = (bits(x), x);
                    while x < large.width && bits(x) == value {
                        x += 1;
                    }
                    let _ = write!(text, "!{}{}", x - start, char::from(63 + value));
                }
                text.push('$');
            }
            text.push('-');
        }
        text.push_str("\x1b\\\n");
        text
    }
}

/// The nearest of the 256 colours of xterm: greys 232 to 255 with black and white, or the 6x6x6 cube from 16 on.
fn palette([r, g, b]: [u8; 3]) -> u8 {
    if r == g && g == b {
        return match r {
            0..4 => 16,
            247.. => 231,
            _ => 232 + ((r.max(3) - 3) / 10).min(23),
        };
    }
    // Levels of the cube: 0, 95, 135, 175, 215, 255.
    let level = |v: u8| if v < 48 { 0 } else { ((v.max(75) - 75 + 20) / 40).clamp(1, 5) };
    16 + 36 * level(r) + 6 * level(g) + level(b)
}

/// The colour of number 16 to 255 of xterm's palette.
fn palette_color(index: u8) -> [u8; 3] {
    if index >= 232 {
        return [8 + 10 * (index - 232); 3];
    }
    let cube = index.saturating_sub(16);
    [cube / 36, cube / 6 % 6, cube % 6].map(|level| if level == 0 { 0 } else { 55 + 40 * level })
}

/// The pictures as text for a terminal of `columns` characters; `display` is not Auto.
fn render(
    pictures: &[&[u8]],
    shape: (usize, usize, usize),
    display: Display,
    columns: usize,
    truecolor: bool,
) -> Result<String> {
    let (_, w, c) = shape;
    if !matches!(c, 1 | 3) {
        bail!("pictures of {c} channels cannot be shown");
    }
    // Characters are taken to be 8 screen pixels wide.
    let room = match display {
        Display::Kitty | Display::Sixel => columns * 8 / SCALE,
        Display::Ascii => columns / 2,
        Display::Auto | Display::Blocks => columns,
    };
    let space = 2;
    let a_row = ((room + space) / (w + space)).max(1);
    let mut text = String::new();
    for row in pictures.chunks(a_row) {
        let canvas = Canvas::of(row, shape, space);
        text.push_str(&match display {
            Display::Auto | Display::Blocks => canvas.blocks(truecolor),
            Display::Ascii => canvas.ascii(),
            Display::Kitty => canvas.kitty()?,
            Display::Sixel => canvas.sixel(),
        });
        text.push('\n');
    }
    Ok(text)
}

/// Prints pictures of one shape (height, width, channels) to standard output.
///
/// # Errors
/// When there are other than 1 or 3 channels, or printing fails.
pub fn show(pictures: &[&[u8]], shape: (usize, usize, usize), display: Display) -> Result<()> {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let terminal = std::io::stdout().is_terminal();
    let plain = !terminal || env("TERM") == "dumb" || !env("NO_COLOR").is_empty();
    let display = match display {
        Display::Auto if plain => Display::Ascii,
        Display::Auto => ask().unwrap_or(Display::Blocks),
        asked => asked,
    };
    let columns = columns().or_else(|| env("COLUMNS").parse().ok()).filter(|n| *n > 0).unwrap_or(100);
    let truecolor = ["truecolor", "24bit"].contains(&env("COLORTERM").as_str());
    let text = render(pictures, shape, display, columns, truecolor)?;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// What the terminal's answer says: kitty's own acknowledgement, or attribute 4 (sixel) of its device attributes.
fn understood(answer: &str) -> Option<Display> {
    if answer.contains("\x1b_Gi=31;OK") {
        return Some(Display::Kitty);
    }
    let attributes = answer.split("\x1b[?").nth(1)?.split('c').next()?;
    attributes.split(';').skip(1).any(|a| a == "4").then_some(Display::Sixel)
}

/// Columns of the terminal.
#[cfg(unix)]
fn columns() -> Option<usize> {
    // SAFETY: the structure is plain numbers, for which zeros are valid, and the call fills it.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) == 0).then_some(size)
    };
    size.map(|size| usize::from(size.ws_col)).filter(|n| *n > 0)
}

#[cfg(not(unix))]
fn columns() -> Option<usize> {
    None
}

/// Asks the terminal for kitty's protocol and for its device attributes, which every terminal answers.
#[cfg(unix)]
fn ask() -> Option<Display> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    // SAFETY: as in `columns`; the descriptor is the process's own standard input.
    let before = unsafe {
        let mut state: libc::termios = std::mem::zeroed();
        (libc::tcgetattr(libc::STDIN_FILENO, &mut state) == 0).then_some(state)?
    };
    let mut raw = before;
    raw.c_lflag &= !(libc::ICANON | libc::ECHO);
    raw.c_cc[libc::VMIN] = 0;
    raw.c_cc[libc::VTIME] = 0;
    // SAFETY: a state that the terminal gave, without line editing and echo.
    unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw) };
    let answer = question_and_answer();
    // SAFETY: the state as it was.
    unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &before) };
    understood(&answer)
}

#[cfg(not(unix))]
fn ask() -> Option<Display> {
    None
}

/// The terminal's answer, up to the end of its device attributes or the time limit.
#[cfg(unix)]
fn question_and_answer() -> String {
    let mut out = std::io::stdout();
    let asked = out.write_all(b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c").and_then(|()| out.flush());
    let mut answer = Vec::new();
    let began = Instant::now();
    while asked.is_ok() && began.elapsed() < ANSWER {
        let mut byte = 0u8;
        // SAFETY: one byte is read into one byte.
        let n = unsafe { libc::read(libc::STDIN_FILENO, (&raw mut byte).cast(), 1) };
        if n != 1 {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        answer.push(byte);
        if byte == b'c' && answer.windows(3).any(|w| w == b"\x1b[?") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_say_what_they_can() {
        assert_eq!(understood("\x1b_Gi=31;OK\x1b\\\x1b[?62;4c"), Some(Display::Kitty));
        assert_eq!(understood("\x1b[?62;4;22c"), Some(Display::Sixel));
        for answer in ["", "\x1b[?62;22c", "\x1b[?4c", "\x1b_Gi=31;ENOTSUPPORTED\x1b\\\x1b[?1;44c", "4;4c"] {
            assert_eq!(understood(answer), None, "{answer:?}");
        }
    }

    #[test]
    fn palette_indices_are_near_their_colours() {
        for r in (0..=255u8).step_by(5) {
            for g in (0..=255u8).step_by(15) {
                let color = [r, g, g];
                let near = palette_color(palette(color));
                let far = color.iter().zip(near).map(|(a, b)| a.abs_diff(b)).max().unwrap();
                assert!(far <= if r == g { 9 } else { 48 }, "{color:?} as {near:?}");
            }
        }
    }

    #[test]
    fn blocks_hold_two_rows_a_line_and_wrap() {
        let picture: &[u8] = &[10, 20, 30, 40, 50, 60];
        let text = render(&[picture; 3], (3, 2, 1), Display::Blocks, 6, true).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // Two lines of two pictures, then two of one, each with an empty line after.
        assert_eq!(lines.len(), 6);
        assert!(
            lines[0].starts_with("\x1b[38;2;10;10;10;48;2;30;30;30m\u{2580}\x1b[38;2;20;20;20;48;2;40;40;40m\u{2580}")
        );
        assert!(lines[1].starts_with("\x1b[38;2;50;50;50;48;2;0;0;0m"));
        assert_eq!([0, 3].map(|i| lines[i].matches('\u{2580}').count()), [6, 2]);
        assert!(lines.iter().filter(|l| !l.is_empty()).all(|l| l.ends_with("\x1b[0m")));
    }

    #[test]
    fn plain_characters_go_by_brightness() {
        let text = render(&[&[0, 255, 255, 0]], (2, 2, 1), Display::Ascii, 80, false).unwrap();
        assert_eq!(text, "  @@\n@@\n\n");
        let red = render(&[&[255, 0, 0]], (1, 1, 3), Display::Ascii, 80, false).unwrap();
        assert_eq!(red, "::\n\n");
    }

    /// The PNG inside kitty's escapes is the picture, enlarged.
    #[test]
    fn kitty_gets_the_picture() {
        // Mixed bits, which do not shrink: more than one piece.
        let mixed =
            |i: u32| (i.wrapping_mul(0x9e37_79b9) ^ (i.wrapping_mul(0x9e37_79b9) >> 15)).wrapping_mul(0x2c1b_3c6d);
        let picture: Vec<u8> = (0..48 * 48 * 3).map(|i| (mixed(i) >> 24) as u8).collect();
        let text = render(&[&picture], (48, 48, 3), Display::Kitty, 200, true).unwrap();
        let pieces: Vec<&str> = text.trim_end().split("\x1b\\").filter(|p| !p.is_empty()).collect();
        assert!(pieces.len() > 1 && pieces[0].starts_with("\x1b_Ga=T,f=100,m=1;"));
        assert!(pieces.last().unwrap().starts_with("\x1b_Gm=0;"));
        let data: String = pieces.iter().map(|p| p.split(';').nth(1).unwrap()).collect();
        let value = |c: u8| "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".find(char::from(c));
        let bits: Vec<usize> = data.bytes().filter_map(value).collect();
        let png: Vec<u8> = bits
            .chunks(4)
            .filter(|q| q.len() > 1)
            .flat_map(|q| {
                let word = q.iter().fold(0usize, |w, v| w << 6 | v) << (6 * (4 - q.len()));
                [(word >> 16) as u8, (word >> 8) as u8, word as u8].into_iter().take(q.len() - 1)
            })
            .collect();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, enlarge(&picture, 48, 3, SCALE));
    }

    /// Decodes the sixels again, as a terminal does.
    #[test]
    fn sixels_are_the_picture_in_palette_colours() {
        let picture: Vec<u8> = (0..5 * 7).map(|i| (i * 7) as u8).collect();
        let text = render(&[&picture], (5, 7, 1), Display::Sixel, 200, false).unwrap();
        let body = text.strip_prefix("\x1bPq\"1;1;21;15").unwrap().strip_suffix("\x1b\\\n\n").unwrap();
        let mut pixels = vec![0u8; 21 * 15];
        let (mut x, mut top, mut color) = (0, 0, 0u8);
        let mut rest = body;
        while let Some(c) = rest.chars().next() {
            rest = &rest[1..];
            let mut number = || {
                let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
                let value: usize = rest[..end].parse().unwrap();
                rest = &rest[end..];
                value
            };
            match c {
                '#' => {
                    color = number() as u8;
                    if let Some(after) = rest.strip_prefix(";2;") {
                        rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
                    }
                }
                '!' => {
                    let count = number();
                    let value = rest.as_bytes()[0] - 63;
                    rest = &rest[1..];
                    for x in x..x + count {
                        (0..6).filter(|dy| value >> dy & 1 == 1).for_each(|dy| pixels[(top + dy) * 21 + x] = color);
                    }
                    x += count;
                }
                '$' => x = 0,
                '-' => (x, top) = (0, top + 6),
                other => panic!("{other:?}"),
            }
        }
        let expected: Vec<u8> = enlarge(&picture, 7, 1, SCALE).iter().map(|v| palette([*v; 3])).collect();
        assert_eq!(pixels, expected);
    }
}
