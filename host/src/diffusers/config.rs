//! What a folder of diffusers says about its network and its scheduler. Everything that is not supported is refused by
//! name.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Largest number of levels, of layers in one, and of channels.
const MAX_LEVELS: usize = 8;
const MAX_LAYERS: usize = 16;
const MAX_WIDTH: usize = 4096;
/// Largest number of embedded classes, as of the project's own networks.
const MAX_EMBEDDED: usize = crate::data::MAX_CLASSES + 1;

/// A level's blocks with or without attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    pub width: usize,
    /// On the way down.
    pub down_attention: bool,
    /// On the way up.
    pub up_attention: bool,
}

/// Shape of a `UNet2DModel`. Field names are diffusers' where it has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UNetConfig {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// From the picture's size down.
    pub levels: Vec<Level>,
    pub layers_per_block: usize,
    pub add_attention: bool,
    /// Channels of an attention head; None for one head.
    pub attention_head_dim: Option<usize>,
    pub norm_num_groups: usize,
    pub attn_norm_num_groups: Option<usize>,
    pub norm_eps: f64,
    /// Whether the time scales and shifts a normalization, or is added before it.
    pub scale_shift: bool,
    pub center_input_sample: bool,
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
    pub downsample_padding: usize,
    pub mid_block_scale_factor: f64,
    /// None for an unconditional network.
    pub num_class_embeds: Option<usize>,
}

/// The values of a JSON file, taken one by one; what is left over in the end is unknown.
pub struct Values<'a> {
    file: &'a str,
    map: Map<String, Value>,
}

impl<'a> Values<'a> {
    /// # Errors
    /// The text is no JSON object.
    pub fn parse(file: &'a str, text: &[u8]) -> Result<Values<'a>> {
        let map = serde_json::from_slice(text).with_context(|| format!("{file}: is not a JSON object"))?;
        Ok(Values { file, map })
    }

    /// A value that may be missing or null.
    pub fn take<T: for<'d> Deserialize<'d>>(&mut self, key: &str) -> Result<Option<T>> {
        match self.map.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|_| anyhow::anyhow!("{}: \"{key}\": {value} is not a value of its kind", self.file)),
        }
    }

    /// A name out of a few; the first stands for a missing one.
    pub fn one_of(&mut self, key: &str, supported: &[&str]) -> Result<usize> {
        let Some(found) = self.take::<String>(key)? else { return Ok(0) };
        match supported.iter().position(|name| *name == found) {
            Some(place) => Ok(place),
            None => bail!("{}: \"{key}\": {found:?} is not supported, {} is", self.file, supported.join(" or ")),
        }
    }

    /// A value that must be this one, if it is there.
    pub fn only(&mut self, key: &str, supported: Value) -> Result<()> {
        match self.map.remove(key) {
            Some(found) if found != supported && !found.is_null() => {
                bail!("{}: \"{key}\": {found} is not supported, {supported} is", self.file)
            }
            _ => Ok(()),
        }
    }

    /// Passes over values without meaning for evaluation.
    pub fn ignore(&mut self, keys: &[&str]) {
        self.map.retain(|key, _| !key.starts_with('_') && !keys.contains(&key.as_str()));
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// There is something left, and it is not null.
    pub fn finish(self) -> Result<()> {
        match self.map.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((key, value)) => bail!("{}: \"{key}\": {value} is not supported: it is unknown here", self.file),
        }
    }
}

fn within(file: &str, key: &str, value: usize, most: usize) -> Result<usize> {
    ensure!((1..=most).contains(&value), "{file}: \"{key}\": {value} is not supported, 1 to {most} is");
    Ok(value)
}

impl UNetConfig {
    /// Reads `unet/config.json`.
    ///
    /// # Errors
    /// The first thing that is not supported.
    pub fn parse(file: &str, text: &[u8]) -> Result<UNetConfig> {
        let mut v = Values::parse(file, text)?;
        v.one_of("_class_name", &["UNet2DModel"])?;
        let (height, width) = match v.take::<Value>("sample_size")? {
            Some(Value::Number(n)) => (n.as_u64().unwrap_or(0), n.as_u64().unwrap_or(0)),
            Some(Value::Array(sides)) if sides.len() == 2 => {
                (sides[0].as_u64().unwrap_or(0), sides[1].as_u64().unwrap_or(0))
            }
            other => bail!("{file}: \"sample_size\": {} is not supported, a number is", other.unwrap_or(Value::Null)),
        };
        let most = crate::data::MAX_SIDE;
        let (height, width) =
            (within(file, "sample_size", height as usize, most)?, within(file, "sample_size", width as usize, most)?);
        let channels = within(file, "in_channels", v.take("in_channels")?.unwrap_or(3), 4)?;
        let out: usize = v.take("out_channels")?.unwrap_or(3);
        ensure!(out == channels, "{file}: \"out_channels\": {out} is not supported, {channels} as \"in_channels\" is");

        let names = |v: &mut Values, key: &str, default: [&str; 4]| -> Result<Vec<String>> {
            Ok(v.take(key)?.unwrap_or(default.map(String::from).to_vec()))
        };
        let down = names(
            &mut v,
            "down_block_types",
            ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
        )?;
        let up = names(&mut v, "up_block_types", ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"])?;
        let widths: Vec<usize> = v.take("block_out_channels")?.unwrap_or(vec![224, 448, 672, 896]);
        within(file, "block_out_channels", widths.len(), MAX_LEVELS)?;
        ensure!(
            down.len() == widths.len() && up.len() == widths.len(),
            "{file}: {} \"block_out_channels\" for {} \"down_block_types\" and {} \"up_block_types\"",
            widths.len(),
            down.len(),
            up.len()
        );
        let attention = |key: &str, name: &str, plain: &str, attention: &str| -> Result<bool> {
            match name {
                n if n == plain => Ok(false),
                n if n == attention => Ok(true),
                other => bail!("{file}: \"{key}\": {other:?} is not supported, {plain} and {attention} are"),
            }
        };
        let levels = widths
            .iter()
            .enumerate()
            .map(|(i, width)| {
                Ok(Level {
                    width: within(file, "block_out_channels", *width, MAX_WIDTH)?,
                    down_attention: attention("down_block_types", &down[i], "DownBlock2D", "AttnDownBlock2D")?,
                    up_attention: attention("up_block_types", &up[widths.len() - 1 - i], "UpBlock2D", "AttnUpBlock2D")?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        v.one_of("mid_block_type", &["UNetMidBlock2D"])?;
        v.one_of("time_embedding_type", &["positional"])?;
        v.one_of("downsample_type", &["conv"])?;
        v.one_of("upsample_type", &["conv"])?;
        v.one_of("act_fn", &["silu", "swish"])?;
        let scale_shift = v.one_of("resnet_time_scale_shift", &["default", "scale_shift"])? == 1;
        // Null stands for a table of classes.
        v.only("class_embed_type", Value::Null)?;
        // Without a head's size attention has one head; a missing entry is diffusers' default.
        let attention_head_dim =
            if v.map.contains_key("attention_head_dim") { v.take("attention_head_dim")? } else { Some(8) };
        let groups: Option<usize> = v.take("norm_num_groups")?;
        let embeds: Option<usize> = v.take("num_class_embeds")?;
        let config = UNetConfig {
            height,
            width,
            channels,
            levels,
            layers_per_block: within(file, "layers_per_block", v.take("layers_per_block")?.unwrap_or(2), MAX_LAYERS)?,
            add_attention: v.take("add_attention")?.unwrap_or(true),
            attention_head_dim,
            norm_num_groups: within(file, "norm_num_groups", groups.unwrap_or(32), MAX_WIDTH)?,
            attn_norm_num_groups: v.take("attn_norm_num_groups")?,
            norm_eps: v.take("norm_eps")?.unwrap_or(1e-5),
            scale_shift,
            center_input_sample: v.take("center_input_sample")?.unwrap_or(false),
            flip_sin_to_cos: v.take("flip_sin_to_cos")?.unwrap_or(true),
            freq_shift: v.take("freq_shift")?.unwrap_or(0.0),
            downsample_padding: v.take("downsample_padding")?.unwrap_or(1),
            mid_block_scale_factor: v.take("mid_block_scale_factor")?.unwrap_or(1.0),
            num_class_embeds: embeds.map(|n| within(file, "num_class_embeds", n, MAX_EMBEDDED)).transpose()?,
        };
        // Dropout is for training, and the count of timesteps for learned embeddings of them.
        v.ignore(&["dropout", "num_train_timesteps"]);
        v.finish()?;
        config.check().map_err(|e| anyhow::anyhow!("{file}: {e}"))?;
        Ok(config)
    }

    /// Says what is wrong with the shape, if anything.
    pub fn check(&self) -> std::result::Result<(), String> {
        for (what, value, most) in [
            ("sample_size", self.height.max(self.width), crate::data::MAX_SIDE),
            ("in_channels", self.channels, 4),
            ("block_out_channels", self.levels.len(), MAX_LEVELS),
            ("layers_per_block", self.layers_per_block, MAX_LAYERS),
            ("num_class_embeds", self.num_class_embeds.unwrap_or(1), MAX_EMBEDDED),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("\"{what}\": {value} is not supported, 1 to {most} is"));
            }
        }
        let factor = 1 << (self.levels.len() - 1);
        if self.height == 0
            || self.width == 0
            || !self.height.is_multiple_of(factor)
            || !self.width.is_multiple_of(factor)
        {
            return Err(format!(
                "\"sample_size\": {}x{} does not halve {} times",
                self.height,
                self.width,
                self.levels.len() - 1
            ));
        }
        if self.downsample_padding > 1 {
            return Err(format!("\"downsample_padding\": {} is not supported, 0 and 1 are", self.downsample_padding));
        }
        // A shape is what the network's own layers are made of: every normalization and head must come out even.
        let mut above = self.levels[0].width;
        for (i, level) in self.levels.iter().enumerate() {
            let deeper = self.levels.get(i + 1).map_or(level.width, |l| l.width);
            for width in [level.width, above, level.width + deeper, level.width + above, 2 * level.width] {
                if width == 0 || width > 2 * MAX_WIDTH || self.norm_num_groups == 0 || width % self.norm_num_groups != 0
                {
                    return Err(format!(
                        "\"norm_num_groups\": {width} channels do not divide into {} groups",
                        self.norm_num_groups
                    ));
                }
            }
            let lowest = i + 1 == self.levels.len();
            let attends = level.down_attention || level.up_attention || (lowest && self.add_attention);
            let head = self.attention_head_dim.unwrap_or(level.width);
            if attends && (head == 0 || level.width % head != 0) {
                return Err(format!(
                    "\"attention_head_dim\": {} channels do not divide into heads of {head}",
                    level.width
                ));
            }
            above = level.width;
        }
        if self.attn_norm_num_groups.is_some_and(|g| g == 0 || !above.is_multiple_of(g)) {
            return Err(format!("\"attn_norm_num_groups\": {above} channels do not divide into them"));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(format!("\"norm_eps\": {} is not supported", self.norm_eps));
        }
        if !(self.mid_block_scale_factor.is_finite() && self.mid_block_scale_factor > 0.0) {
            return Err(format!("\"mid_block_scale_factor\": {} is not supported", self.mid_block_scale_factor));
        }
        if self.levels[0].width < 4 || self.freq_shift >= (self.levels[0].width / 2) as f64 || self.freq_shift < 0.0 {
            return Err(format!("\"freq_shift\": {} is not supported", self.freq_shift));
        }
        Ok(())
    }
}
