//! Instructions that a simulator counted, as a file: what `bench --board --out` writes and `fit --counts` takes.

use super::Target;
use anyhow::{Result, ensure};
use fewstep_core::Model;
use fewstep_core::format::crc::crc32c;
use serde::Deserialize;

/// Most counts of a file that a message names.
const NAMED: usize = 4;

/// Instructions of one step, for one image on one CPU.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// As in [`Target::cpu`].
    pub cpu: String,
    /// CRC-32C of the image file.
    pub image: u32,
    pub instructions_per_step: u64,
}

impl Count {
    /// As a table of a file, under a line that says where it is from. Files put together are a file.
    pub fn table(&self, origin: &str) -> String {
        let Self { cpu, image, instructions_per_step } = self;
        format!(
            "# {}\n[[count]]\ncpu = {cpu:?}\nimage = {image:#010x}\ninstructions_per_step = {instructions_per_step}\n",
            origin.escape_debug()
        )
    }

    /// Whether it was counted with this image on this CPU.
    fn is_of(&self, image: u32, cpu: &str) -> bool {
        self.image == image && same(&self.cpu, cpu)
    }
}

/// Whether CPUs execute the same instructions: compressed ones and atomic ones change nothing in the kernels.
fn same(one: &str, other: &str) -> bool {
    one == other || [one, other].iter().all(|cpu| cpu.starts_with("rv32im"))
}

/// What a count names the image at the start of `bytes` by.
pub fn fingerprint(model: &Model, bytes: &[u8]) -> u32 {
    crc32c(bytes.get(..model.info().file_bytes as usize).unwrap_or(bytes))
}

/// Reads counts: TOML with tables `[[count]]`.
///
/// # Errors
/// The text is not such a file.
pub fn parse(text: &str) -> Result<Vec<Count>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        count: Vec<Count>,
    }
    let file: File = toml::from_str(text).map_err(|e| {
        anyhow::anyhow!("{}\ngive a file that `bench --board BOARD --out FILE` wrote", e.to_string().trim_end())
    })?;
    Ok(file.count)
}

/// The count of an image on a CPU.
pub fn find<'a>(counts: &'a [Count], image: u32, cpu: &str) -> Option<&'a Count> {
    counts.iter().find(|count| count.is_of(image, cpu))
}

/// The emulated board whose counts are those of this CPU.
pub fn board(cpu: &str) -> Option<&'static str> {
    Target::names().find(|name| Target::find(name).is_ok_and(|target| !target.slots.head && same(&target.cpu, cpu)))
}

/// Checks that a file of counts, `name`, serves one of the targets at least.
///
/// # Errors
/// It does not; what was looked for and what is there is said, and how to count.
pub fn check(counts: &[Count], name: &str, file: &str, image: u32, targets: &[Target]) -> Result<()> {
    let served = targets.iter().any(|target| find(counts, image, &target.cpu).is_some());
    let what = |cpu: &str, image: u32| format!("{cpu} with image {image:#010x}");
    let mut there: Vec<String> = counts.iter().take(NAMED).map(|count| what(&count.cpu, count.image)).collect();
    match counts.len() {
        0 => there.push("none".into()),
        all if all > NAMED => there.push(format!("{} more", all - NAMED)),
        _ => {}
    }
    let (wanted, board) = match targets {
        [target] => (what(&target.cpu, image), board(&target.cpu)),
        _ => (format!("image {image:#010x} on any target"), None),
    };
    ensure!(
        served,
        "{name}: has no count for {wanted}, but {}; `fewstep bench {file} --board {} --out counts.toml` counts",
        there.join(", "),
        board.unwrap_or("BOARD")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_come_back() {
        let text = "[[count]]\ncpu = \"cortex-m7\"\nimage = 0x1234\ninstructions_per_step = 35_900_000\n";
        let count = Count { cpu: "cortex-m7".into(), image: 0x1234, instructions_per_step: 35_900_000 };
        assert_eq!(parse(text).unwrap(), std::slice::from_ref(&count));
        let two = count.table("one\nof \u{7}a name") + &count.table("two");
        assert_eq!(parse(&two).unwrap(), [count.clone(), count]);
        assert!(parse("[[count]]\ncpu = 3\n").is_err());
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn boards_stand_for_cpus() {
        for (cpu, name) in [
            ("cortex-m4", Some("an386")),
            ("cortex-m7", Some("an500")),
            ("cortex-m33", Some("an505")),
            ("cortex-m55", Some("an547")),
            ("rv32imc", Some("riscv32")),
            ("cortex-m3", None),
        ] {
            assert_eq!(board(cpu), name, "{cpu}");
        }
    }

    #[test]
    fn what_matches_nothing_is_said() {
        let count = |cpu: &str, image| Count { cpu: cpu.into(), image, instructions_per_step: 1 };
        let targets = |names: &[&str]| names.iter().map(|name| Target::find(name).unwrap()).collect::<Vec<_>>();
        let says = |counts: &[Count], names: &[&str]| {
            check(counts, "c.toml", "s.fsw", 7, &targets(names)).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(says(&[count("cortex-m7", 7)], &["stm32h743"]), "");
        assert_eq!(says(&[count("rv32imac", 7)], &["esp32c3"]), "");
        assert_eq!(says(&[count("cortex-m4", 7)], &["stm32h743", "nrf52840"]), "");
        assert_eq!(
            says(&[count("cortex-m4", 7), count("cortex-m7", 8)], &["stm32h743"]),
            "c.toml: has no count for cortex-m7 with image 0x00000007, but cortex-m4 with image 0x00000007, cortex-m7 with \
             image 0x00000008; `fewstep bench s.fsw --board an500 --out counts.toml` counts"
        );
        assert!(says(&[], &["stm32h743"]).contains(", but none; "));
        assert!(
            says(&[count("x", 7), count("x", 8), count("x", 9), count("x", 1), count("x", 2)], &["rp2350"])
                .contains(", 1 more;")
        );
        assert!(
            says(&[count("cortex-m7", 8)], &["stm32h743", "esp32c3"]).contains("image 0x00000007 on any target, but")
        );
    }
}
