//! A labelled grid of pictures of one size: rows and columns with names, one title.

use std::path::Path;

use anyhow::{Result, bail};

use super::{font, write_png};

/// Widest and highest grid, in pixels.
pub const MAX_GRID_SIDE: usize = 32_768;

const BACKGROUND: [u8; 3] = [250, 250, 248];
const INK: [u8; 3] = [38, 42, 50];
const FAINT_INK: [u8; 3] = [96, 102, 112];
/// Frame around a picture, so that one with a light border stays a picture.
const FRAME: [u8; 3] = [205, 206, 208];

/// Screen pixels a font pixel: labels, title.
const TEXT: usize = 2;
const TITLE_TEXT: usize = 3;
/// Distances in screen pixels: around everything, between pictures, between text and pictures, between lines of text.
const MARGIN: usize = 20;
const SPACE: usize = 6;
const TEXT_SPACE: usize = 10;
const LINE_SPACE: usize = 4;

/// A labelled grid of pictures. A label may have several lines, separated by `\n`; characters are printable ASCII.
pub struct Grid {
    /// Above everything; empty for none.
    pub title: String,
    /// Screen pixels a picture's pixel, from 1.
    pub scale: usize,
    height: usize,
    width: usize,
    channels: usize,
    columns: Vec<String>,
    rows: Vec<(String, Vec<Option<Vec<u8>>>)>,
}

impl Grid {
    /// An empty grid for pictures of `[height][width][channels]`, channels 1 or 3. `columns` are the labels above the
    /// columns (as many as there are columns; empty strings for none).
    pub fn new(height: usize, width: usize, channels: usize, columns: Vec<String>) -> Grid {
        Grid { title: String::new(), scale: 3, height, width, channels, columns, rows: Vec::new() }
    }

    /// `pictures` (each `[height][width][channels]`) in reading order in `columns` columns without labels.
    ///
    /// # Errors
    /// When a picture has another size.
    pub fn of(pictures: &[&[u8]], height: usize, width: usize, channels: usize, columns: usize) -> Result<Grid> {
        let columns = columns.max(1);
        let mut grid = Grid::new(height, width, channels, vec![String::new(); columns]);
        for row in pictures.chunks(columns) {
            grid.push_row("", row.iter().map(|picture| Some(*picture)))?;
        }
        Ok(grid)
    }

    /// Adds a row; None leaves a cell empty, as do cells that are not given.
    ///
    /// # Errors
    /// When there are more pictures than columns or a picture has another size.
    pub fn push_row<'a>(&mut self, label: &str, pictures: impl IntoIterator<Item = Option<&'a [u8]>>) -> Result<()> {
        let bytes = self.height * self.width * self.channels;
        let mut cells = Vec::new();
        for picture in pictures {
            if let Some(picture) = picture
                && picture.len() != bytes
            {
                bail!("row {label:?}: picture {} has {} bytes where {bytes} are wanted", cells.len(), picture.len());
            }
            cells.push(picture.map(<[u8]>::to_vec));
        }
        if cells.len() > self.columns.len() {
            bail!("row {label:?}: has {} pictures for {} columns", cells.len(), self.columns.len());
        }
        self.rows.push((label.to_owned(), cells));
        Ok(())
    }

    /// Draws the grid: height, width and pixels `[height][width][3]`.
    ///
    /// # Errors
    /// When pictures have neither 1 nor 3 channels, the grid is empty, or it would be larger than `MAX_GRID_SIDE`.
    pub fn render(&self) -> Result<(usize, usize, Vec<u8>)> {
        let scale = self.scale.max(1);
        if !matches!(self.channels, 1 | 3) || self.columns.is_empty() || self.rows.is_empty() {
            bail!("a grid needs at least one row and column, and pictures of 1 or 3 channels");
        }
        let row_text = self.rows.iter().map(|(label, _)| text_width(label, TEXT)).max().unwrap_or(0);
        let column_text = self.columns.iter().map(|label| text_width(label, TEXT)).max().unwrap_or(0);
        let column_lines = self.columns.iter().map(|label| text_height(label, TEXT)).max().unwrap_or(0);
        // A frame of one pixel around each picture. Long column labels push the columns apart.
        let (picture_width, picture_height) = (self.width * scale + 2, self.height * scale + 2);
        let pitch_x = picture_width.max(column_text) + if column_text > picture_width { TEXT_SPACE } else { SPACE };
        let line_height = self.rows.iter().map(|(label, _)| text_height(label, TEXT)).max().unwrap_or(0);
        let pitch_y = picture_height.max(line_height) + SPACE;

        let left = MARGIN + if row_text > 0 { row_text + TEXT_SPACE } else { 0 };
        let title_height =
            if self.title.is_empty() { 0 } else { text_height(&self.title, TITLE_TEXT) + 2 * TEXT_SPACE };
        let top = MARGIN + title_height + if column_lines > 0 { column_lines + TEXT_SPACE } else { 0 };
        let right_text = MARGIN + text_width(&self.title, TITLE_TEXT);
        let width = (left + self.columns.len() * pitch_x).max(right_text) + MARGIN;
        let height = top + self.rows.len() * pitch_y + MARGIN;
        if width > MAX_GRID_SIDE || height > MAX_GRID_SIDE {
            bail!("a grid of {width}x{height} pixels is too large; take fewer pictures or a smaller scale");
        }

        let mut canvas = Canvas::new(width, height);
        canvas.text(&self.title, MARGIN, MARGIN, TITLE_TEXT, [INK, FAINT_INK], Align::Left);
        for (column, label) in self.columns.iter().enumerate() {
            // Labels of fewer lines stand on the pictures.
            let y = top - TEXT_SPACE.min(top) - text_height(label, TEXT).min(top);
            canvas.text(label, left + column * pitch_x + pitch_x / 2, y, TEXT, [INK; 2], Align::Centre);
        }
        for (row, (label, cells)) in self.rows.iter().enumerate() {
            let y = top + row * pitch_y;
            let label_y = y + (pitch_y - text_height(label, TEXT).min(pitch_y)) / 2;
            canvas.text(label, left - TEXT_SPACE.min(left), label_y, TEXT, [INK, FAINT_INK], Align::Right);
            for (column, cell) in cells.iter().enumerate() {
                if let Some(picture) = cell {
                    let x = left + column * pitch_x + (pitch_x - picture_width) / 2;
                    self.draw_picture(&mut canvas, picture, x, y + (pitch_y - picture_height) / 2, scale);
                }
            }
        }
        Ok((height, width, canvas.pixels))
    }

    /// Writes the grid as a PNG file, whole or not at all.
    ///
    /// # Errors
    /// As [`render`](Grid::render), or when the file cannot be written.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        let (height, width, pixels) = self.render()?;
        write_png(path, &pixels, height, width, 3)
    }

    fn draw_picture(&self, canvas: &mut Canvas, picture: &[u8], left: usize, top: usize, scale: usize) {
        canvas.fill(left, top, self.width * scale + 2, self.height * scale + 2, FRAME);
        for (i, pixel) in picture.chunks_exact(self.channels).enumerate() {
            let (x, y) = (i % self.width, i / self.width);
            let color = match *pixel {
                [r, g, b] => [r, g, b],
                _ => [pixel[0]; 3],
            };
            canvas.fill(left + 1 + x * scale, top + 1 + y * scale, scale, scale, color);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Align {
    Left,
    Centre,
    Right,
}

fn text_width(text: &str, size: usize) -> usize {
    text.split('\n').map(|line| font::width(line) * size).max().unwrap_or(0)
}

/// From the first line's capitals to the last line's descenders; 0 for no text.
fn text_height(text: &str, size: usize) -> usize {
    match text {
        "" => 0,
        _ => text.split('\n').count() * (font::HEIGHT * size + LINE_SPACE) - LINE_SPACE,
    }
}

struct Canvas {
    width: usize,
    /// `[height][width][3]`.
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Canvas {
        Canvas { width, pixels: BACKGROUND.repeat(width * height) }
    }

    fn fill(&mut self, left: usize, top: usize, width: usize, height: usize, color: [u8; 3]) {
        for y in top..top + height {
            for pixel in self.pixels[3 * (y * self.width + left)..][..3 * width].as_chunks_mut::<3>().0 {
                *pixel = color;
            }
        }
    }

    /// Draws lines of text from `top` down, the first in `colors[0]`, the others in `colors[1]`; `x` is their left end,
    /// middle or right end.
    fn text(&mut self, text: &str, x: usize, top: usize, size: usize, colors: [[u8; 3]; 2], align: Align) {
        for (i, line) in text.split('\n').enumerate() {
            let width = font::width(line) * size;
            let left = match align {
                Align::Left => x,
                Align::Centre => x.saturating_sub(width / 2),
                Align::Right => x.saturating_sub(width),
            };
            let y = top + i * (font::HEIGHT * size + LINE_SPACE);
            let color = colors[i.min(1)];
            font::draw(line, |dx, dy| self.fill(left + dx * size, y + dy * size, size, size, color));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(width: usize, pixels: &[u8], x: usize, y: usize) -> [u8; 3] {
        pixels[3 * (y * width + x)..][..3].try_into().unwrap()
    }

    #[test]
    fn pictures_are_enlarged_in_place() {
        let mut grid = Grid::new(1, 2, 3, vec![String::new()]);
        grid.scale = 3;
        grid.push_row("", [Some(&[9, 8, 7, 1, 2, 3][..])]).unwrap();
        let (height, width, pixels) = grid.render().unwrap();
        assert_eq!(pixels.len(), height * width * 3);
        for (color, count) in [([9, 8, 7], 9), ([1, 2, 3], 9), (FRAME, 8 * 5 - 18)] {
            let found = (0..height * width).filter(|i| pixel(width, &pixels, i % width, i / width) == color).count();
            assert_eq!(found, count, "{color:?}");
        }
    }

    #[test]
    fn long_labels_of_every_kind_stay_inside() {
        for columns in [vec!["a very long label\nof two lines".into(), String::new()], vec!["x".into(); 2]] {
            let mut grid = Grid::new(4, 4, 1, columns);
            grid.title = "A title that is much wider than all the rest of this small grid together".into();
            grid.scale = 1;
            grid.push_row("one\ntwo\nthree", [None, Some(&[128; 16][..])]).unwrap();
            grid.push_row("a longer name of a row", [Some(&[255; 16][..])]).unwrap();
            let (height, width, pixels) = grid.render().unwrap();
            // Nothing is drawn in the outer margin.
            for i in 0..height * width {
                let (x, y) = (i % width, i / width);
                if x < MARGIN || y < MARGIN || x + MARGIN >= width || y + MARGIN >= height {
                    assert_eq!(pixel(width, &pixels, x, y), BACKGROUND, "at {x}, {y}");
                }
            }
        }
    }

    #[test]
    fn misfits_are_refused() {
        let mut grid = Grid::new(2, 2, 1, vec![String::new()]);
        assert!(grid.render().is_err());
        assert!(grid.push_row("short", [Some(&[0; 3][..])]).is_err());
        assert!(grid.push_row("many", [None, None]).is_err());
        grid.push_row("", [None]).unwrap();
        grid.scale = 100_000;
        assert!(grid.render().unwrap_err().to_string().contains("too large"));
        assert!(Grid::of(&[&[0; 4]], 1, 2, 2, 1).unwrap().render().is_err());
    }

    #[test]
    fn unlabelled_grid_wraps() {
        let grid = Grid::of(&[&[1u8][..]; 5], 1, 1, 1, 2).unwrap();
        assert_eq!((grid.rows.len(), grid.columns.len()), (3, 2));
    }
}
