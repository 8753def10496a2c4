//! A display of the poorest kind: a portable graymap or pixmap in text, over the UART.

use fewstep_core::Session;

use crate::{Reason, uart};

/// The longest row: 64 pixels in three channels.
const ROW: usize = 64 * 3;

/// Sends the finished picture row by row, with memory for one row; `between` is called after each.
pub fn show(session: &mut Session<'_>, mut between: impl FnMut()) -> Result<(), Reason> {
    let (info, bytes) = (session.model().info(), session.model().row_bytes());
    let mut row = [0; ROW];
    let row = row.get_mut(..bytes).ok_or("the picture's rows are too long")?;
    uart::text(if info.channels == 3 { "P3\n" } else { "P2\n" });
    for value in [info.width, info.height, 255] {
        uart::number(value.into());
        uart::text("\n");
    }
    for y in 0..info.height {
        session.finish_row(y, row).map_err(|_| "the picture is not finished")?;
        for &value in row.iter() {
            uart::number(value.into());
            uart::text(" ");
        }
        uart::text("\n");
        between();
    }
    Ok(())
}
