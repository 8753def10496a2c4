//! C: an array in a `.c` file, which includes a `.h` file beside it.

use super::Region;
use anyhow::{Context, Result};
use std::fmt::Write;

/// A C identifier from a file's stem.
pub fn identifier(stem: &str) -> String {
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() { format!("fewstep_{name}") } else { name }
}

/// The header's text.
pub fn header(region: &Region, name: &str, target: &str) -> String {
    let upper = name.to_ascii_uppercase();
    format!(
        "/* A student image in its slot, for {target}. Written by `fewstep flash`. */\n\
         #ifndef {upper}_H\n#define {upper}_H\n\n#include <stdint.h>\n\n\
         /* Where the bytes belong in flash. Link the section .fewstep there, or copy them. */\n\
         #define {upper}_ADDRESS UINT32_C(0x{:08x})\n\
         #define {upper}_BYTES UINT32_C({})\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\
         extern const uint8_t {name}[{}];\n\
         #ifdef __cplusplus\n}}\n#endif\n\n#endif\n",
        region.address,
        region.bytes.len(),
        region.bytes.len()
    )
}

/// The array's text.
pub fn source(region: &Region, name: &str, header: &str) -> String {
    let mut text = format!(
        "#include \"{header}\"\n\n__attribute__((section(\".fewstep\"), aligned(16), used))\nconst uint8_t {name}[{}] = {{",
        region.bytes.len()
    );
    for (i, byte) in region.bytes.iter().enumerate() {
        text.push_str(if i % 20 == 0 { "\n    " } else { " " });
        let _ = write!(text, "{byte},");
    }
    text.push_str("\n};\n");
    text
}

/// Reads both texts back.
///
/// # Errors
/// They are not what [`source`] and [`header`] write.
pub fn read(source: &str, header: &str) -> Result<Region> {
    let (_, address) = header.split_once("_ADDRESS UINT32_C(0x").context("the header has no address")?;
    let (address, _) = address.split_once(')').context("the header's address has no end")?;
    let (_, list) = source.split_once("= {").context("the source has no array")?;
    let (list, _) = list.split_once("};").context("the array has no end")?;
    let values = list.split(',').map(str::trim).filter(|v| !v.is_empty());
    Ok(Region {
        address: u32::from_str_radix(address, 16)?,
        bytes: values
            .map(str::parse::<u8>)
            .collect::<Result<_, _>>()
            .context("the array holds something else than bytes")?,
    })
}
