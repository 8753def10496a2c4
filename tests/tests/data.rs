//! Data sets as they lie on a disk: round trips, every form, and hostile files.

use std::fs;
use std::path::{Path, PathBuf};

use fewstep::data::{self, Dataset, FASHION_MNIST_CLASSES, Split, idx, npz, subset};
use fewstep::picture::write_png;

/// An own empty folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fewstep-data-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.at(name), bytes).unwrap();
    }

    fn open(&self, split: Split) -> Opened {
        open(&self.0, split)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The data, or the sentence that a user sees.
type Opened = Result<Dataset, String>;

fn open(path: &Path, split: Split) -> Opened {
    data::open(path, split).map_err(|e| format!("{e:#}"))
}

/// The sentence names the file and each of `parts`.
#[track_caller]
fn assert_says(opened: Opened, file: &str, parts: &[&str]) {
    let message = opened.expect_err("must be refused");
    for part in [&[file], parts].concat() {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    assert!(!message.contains('\n'), "{message:?} is more than one line");
}

/// Small numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.below(256) as u8).collect()
    }
}

fn pictures(seed: u64, n: usize, height: usize, width: usize, channels: usize, classes: u16) -> Dataset {
    Dataset {
        height,
        width,
        channels,
        class_names: (0..classes).map(|c| format!("class {c}")).collect(),
        pictures: Random(seed).bytes(n * height * width * channels),
        labels: (0..n).map(|i| i as u16 % classes).collect(),
    }
}

fn idx_bytes(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|s| s.to_be_bytes()));
    bytes.extend(elements);
    bytes
}

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

// ---- forms

#[test]
fn shipped_piece_is_small_and_balanced() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/fashion-mnist-small");
    let bytes: u64 = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 3_000_000, "{bytes}");
    for (split, per_class) in [(Split::Train, 600), (Split::Test, 50)] {
        let data = open(&folder, split).unwrap();
        assert_eq!((data.height, data.width, data.channels), (28, 28, 1));
        assert_eq!(data.class_names, FASHION_MNIST_CLASSES);
        for class in 0..10 {
            assert_eq!(data.labels.iter().filter(|&&l| l == class).count(), per_class, "class {class}");
        }
    }
}

#[test]
fn grey_and_colour_sets_survive_writing_and_reading() {
    let folder = Folder::new("round-trip");
    for (name, channels, classes) in [("grey", 1, 3), ("colour", 3, 4), ("many-classes", 1, 300)] {
        let path = folder.at(&format!("{name}/classes.txt")).parent().unwrap().to_owned();
        let train = pictures(1, 600, 5, 7, channels, classes);
        let test = Dataset { labels: vec![1; 4], ..pictures(2, 4, 5, 7, channels, classes) };
        subset::write_split(&path, Split::Train, &train).unwrap();
        subset::write_split(&path, Split::Test, &test).unwrap();
        subset::write_class_names(&path, &train.class_names).unwrap();
        assert!(open(&path, Split::Train).unwrap() == train, "{name}");
        assert!(open(&path, Split::Test).unwrap() == test, "{name}");
    }
}

#[test]
fn idx_is_read_under_all_published_names() {
    let (elements, labels) = (Random(3).bytes(3 * 2 * 2), [0, 1, 2]);
    for separator in ["-", "."] {
        for gz in [false, true] {
            let folder = Folder::new("names");
            let name = |stem: &str, dims: u8| format!("{stem}{separator}idx{dims}-ubyte");
            if gz {
                let path = |stem, dims| folder.at(&(name(stem, dims) + ".gz"));
                idx::write_gz(&path("t10k-images", 3), &[3, 2, 2], &elements).unwrap();
                idx::write_gz(&path("t10k-labels", 1), &[3], &labels).unwrap();
            } else {
                folder.write(&name("t10k-images", 3), idx_bytes(&[3, 2, 2], &elements));
                folder.write(&name("t10k-labels", 1), idx_bytes(&[3], &labels));
            }
            let data = folder.open(Split::Test).unwrap();
            assert_eq!((&data.pictures, data.labels.as_slice()), (&elements, &[0, 1, 2][..]));
            assert_eq!(data.picture(1), &elements[4..8]);
            assert_eq!(data.class_names, ["0", "1", "2"]);
            assert_says(folder.open(Split::Train), IMAGES, &["no train split"]);
        }
    }
}

#[test]
fn test_split_without_the_last_class_has_all_classes() {
    let folder = Folder::new("classes");
    for (split, labels) in [("train", [0, 9]), ("t10k", [0, 1])] {
        folder.write(&format!("{split}-images-idx3-ubyte"), idx_bytes(&[2, 28, 28], &[7; 2 * 784]));
        folder.write(&format!("{split}-labels-idx1-ubyte"), idx_bytes(&[2], &labels));
    }
    assert_eq!(folder.open(Split::Test).unwrap().class_names, FASHION_MNIST_CLASSES);
    folder.write("classes.txt", "a\nb\r\nc\nd\ne\nf\ng\nh\ni\nj\n\n");
    assert_eq!(folder.open(Split::Test).unwrap().class_names.concat(), "abcdefghij");
}

/// Made by numpy 2.4.6:
/// `np.savez_compressed('pictures.npz', np.arange(108, dtype=np.uint8).reshape(3, 3, 4, 3), np.array([2, 0, 1]))`
#[test]
fn npz_of_numpy_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/pictures.npz");
    let data = open(&path, Split::Train).unwrap();
    assert_eq!((data.height, data.width, data.channels), (3, 4, 3));
    assert_eq!(data.pictures, (0..108).collect::<Vec<u8>>());
    assert_eq!(data.labels, [2, 0, 1]);
    assert_says(open(&path, Split::Test), "pictures.npz", &["no test split"]);
}

#[test]
fn npz_is_written_the_same_each_time() {
    let folder = Folder::new("npz-same");
    let write = |name: &str| {
        npz::write_npz(&folder.at(name), &[1, 2, 3, 4, 5, 6], 2, 1, 1, 3, &[5, 0]).unwrap();
        fs::read(folder.at(name)).unwrap()
    };
    assert_eq!(write("a.npz"), write("b.npz"));
    assert!(npz::write_npz(&folder.at("c.npz"), &[1, 2, 3], 2, 1, 1, 3, &[5, 0]).is_err());
    assert!(!folder.0.join("c.npz").exists());
}

#[test]
fn class_folders_are_sorted_by_name() {
    let folder = Folder::new("png");
    for (name, value) in [("b/2.png", 20), ("b/10.PNG", 21), ("a/x.png", 10), ("c/1.png", 30)] {
        write_png(&folder.at(name), &[value; 6], 2, 3, 1).unwrap();
    }
    folder.write(".hidden/file", "ignored");
    folder.write("README", "ignored");
    let data = folder.open(Split::Train).unwrap();
    assert_eq!((data.height, data.width, data.channels), (2, 3, 1));
    assert_eq!(data.class_names, ["a", "b", "c"]);
    assert_eq!(data.labels, [0, 1, 1, 2]);
    assert_eq!(data.pictures, [[10; 6], [21; 6], [20; 6], [30; 6]].concat());
    assert_says(folder.open(Split::Test), "fewstep-data-png", &["no test split", "train/"]);
    folder.write("classes.txt", "Ah\nBe\n");
    assert_says(folder.open(Split::Train), "fewstep-data-png", &["names 2 classes but there are 3"]);
    folder.write("classes.txt", "Ah\nBe\nCe\n");
    assert_eq!(folder.open(Split::Train).unwrap().class_names, ["Ah", "Be", "Ce"]);
}

#[test]
fn split_class_folders_share_the_classes_of_training() {
    let folder = Folder::new("png-split");
    for (name, value) in [("train/a/1.png", 1), ("train/b/1.png", 2), ("test/b/1.png", 3)] {
        write_png(&folder.at(name), &[value; 3], 1, 1, 3).unwrap();
    }
    assert_eq!(folder.open(Split::Train).unwrap().labels, [0, 1]);
    let test = folder.open(Split::Test).unwrap();
    assert_eq!((test.classes(), test.labels, test.pictures), (2, vec![1], vec![3; 3]));
    write_png(&folder.at("test/z/1.png"), &[1; 3], 1, 1, 3).unwrap();
    assert_says(folder.open(Split::Test), "test/z", &["no such class in train/"]);
    fs::remove_dir_all(folder.0.join("test")).unwrap();
    assert_says(folder.open(Split::Test), "fewstep-data-png-split", &["no test split"]);
}

#[test]
fn piece_is_balanced_and_the_same_each_time() {
    let folder = Folder::new("subset");
    let data = Dataset { labels: vec![0, 0, 1, 0, 1, 1, 0], ..pictures(4, 7, 3, 3, 1, 2) };
    let piece = subset::subset(&data, 2).unwrap();
    assert_eq!(piece.labels, [0, 0, 1, 1]);
    assert_eq!(piece.pictures, [data.picture(0), data.picture(1), data.picture(2), data.picture(4)].concat());
    let write = |name: &str| {
        let path = folder.at(&format!("{name}/{IMAGES}.gz"));
        subset::write_split(path.parent().unwrap(), Split::Train, &piece).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(write("once"), write("again"));
    assert!(subset::subset(&data, 0).is_err());
    assert!(subset::subset(&data, 4).unwrap_err().to_string().contains("class 1 (class 1) has only 3"));
}

// ---- hostile files

#[test]
fn places_without_data_are_named() {
    let folder = Folder::new("places");
    assert_says(folder.open(Split::Train), "fewstep-data-places", &["IDX", "PNG", ".npz"]);
    assert_says(open(&folder.0.join("none"), Split::Train), "none", &["nothing there"]);
    folder.write("a.txt", "x");
    assert_says(open(&folder.0.join("a.txt"), Split::Train), "a.txt", &["neither a folder nor an .npz"]);
}

#[test]
fn idx_headers_that_lie_are_refused() {
    let folder = Folder::new("idx-lies");
    folder.write(LABELS, idx_bytes(&[2], &[0, 1]));
    let refused = |bytes: Vec<u8>, parts: &[&str]| {
        folder.write(IMAGES, bytes);
        assert_says(folder.open(Split::Train), IMAGES, parts);
    };
    refused(vec![], &["truncated"]);
    refused(idx_bytes(&[2], &[1, 2]), &["begins with 0x00000801", "0x00000803"]);
    refused([0, 0, 13, 3].repeat(20), &["0x00000d03"]);
    refused(idx_bytes(&[0, 2, 2], &[]), &["no pictures"]);
    refused(idx_bytes(&[u32::MAX, 28, 28], &[]), &["4294967295 pictures"]);
    refused(idx_bytes(&[60_000, 28, 28], &[0; 100]), &["truncated", "47040000"]);
    refused(idx_bytes(&[2, 0, 2], &[]), &["0x2 pixels"]);
    refused(idx_bytes(&[2, 2, 1025], &[]), &["2x1025 pixels"]);
    refused(idx_bytes(&[1 << 26, 1024, 1024], &[]), &["bytes of pixels"]);
    refused(idx_bytes(&[2, 2, 2], &[0; 7]), &["truncated", "8 elements but 7"]);
    refused(idx_bytes(&[2, 2, 2], &[0; 9]), &["goes on after"]);
    refused(idx_bytes(&[3, 2, 2], &[0; 12]), &["3 pictures", LABELS, "2 labels"]);

    folder.write(IMAGES, idx_bytes(&[2, 2, 2], &[0; 8]));
    folder.write("classes.txt", "only\n");
    assert_says(folder.open(Split::Train), LABELS, &["label 1 is 1", "classes 0 to 0"]);
    folder.write("classes.txt", [0xff, 0xfe]);
    assert_says(folder.open(Split::Train), "classes.txt", &["UTF-8"]);
    folder.write("classes.txt", "a\n\nb\n");
    assert_says(folder.open(Split::Train), "classes.txt", &["line 2 is empty"]);
}

#[test]
fn gzipped_idx_that_lies_is_refused() {
    let folder = Folder::new("gz-lies");
    folder.write(LABELS, idx_bytes(&[2], &[0, 1]));
    idx::write_gz(&folder.at("good"), &[2, 2, 2], &[9; 8]).unwrap();
    let good = fs::read(folder.at("good")).unwrap();
    // Unpacked names and packed content, as servers make them, are fine.
    folder.write(IMAGES, &good);
    assert_eq!(folder.open(Split::Train).unwrap().pictures, [9; 8]);
    folder.write(IMAGES, [&good[..], b"tail"].concat());
    assert_says(folder.open(Split::Train), IMAGES, &["fetch it again"]);
    folder.write(IMAGES, [&good[..], &good[..]].concat());
    assert_says(folder.open(Split::Train), IMAGES, &["goes on after"]);
}

#[test]
fn every_truncation_is_refused() {
    let folder = Folder::new("truncated");
    let data = pictures(5, 4, 3, 3, 1, 4);
    subset::write_split(&folder.0, Split::Train, &data).unwrap();
    folder.write(&format!("plain/{IMAGES}"), idx_bytes(&[4, 3, 3], &data.pictures));
    folder.write(&format!("plain/{LABELS}"), idx_bytes(&[4], &[0, 1, 2, 3]));
    npz::write_npz(&folder.at("a.npz"), &data.pictures, 4, 3, 3, 1, &[0, 1, 2, 3]).unwrap();
    write_png(&folder.at("png/a/1.png"), data.picture(0), 3, 3, 1).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/pictures.npz");
    fs::copy(golden, folder.at("b.npz")).unwrap();
    for (file, opened) in [
        (format!("{IMAGES}.gz"), "."),
        (format!("{LABELS}.gz"), "."),
        (format!("plain/{IMAGES}"), "plain"),
        (format!("plain/{LABELS}"), "plain"),
        ("a.npz".into(), "a.npz"),
        ("b.npz".into(), "b.npz"),
        ("png/a/1.png".into(), "png"),
    ] {
        let whole = fs::read(folder.at(&file)).unwrap();
        assert!(open(&folder.0.join(opened), Split::Train).is_ok(), "{file}");
        for len in 0..whole.len() {
            folder.write(&file, &whole[..len]);
            let opened = open(&folder.0.join(opened), Split::Train);
            assert!(opened.is_err(), "{file} of {len} bytes");
        }
        folder.write(&file, whole);
    }
}

#[test]
fn corrupted_files_never_give_other_pictures() {
    let folder = Folder::new("corrupt");
    let data = pictures(6, 4, 3, 3, 1, 4);
    subset::write_split(&folder.0, Split::Train, &data).unwrap();
    npz::write_npz(&folder.at("a.npz"), &data.pictures, 4, 3, 3, 1, &[0, 1, 2, 3]).unwrap();
    write_png(&folder.at("png/a/1.png"), data.picture(0), 3, 3, 1).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/pictures.npz");
    fs::copy(golden, folder.at("b.npz")).unwrap();
    // All of these carry checksums, so what is still read must be what was written.
    for (file, opened) in [
        (format!("{IMAGES}.gz"), "."),
        ("a.npz".into(), "a.npz"),
        ("b.npz".into(), "b.npz"),
        ("png/a/1.png".into(), "png"),
    ] {
        let whole = fs::read(folder.at(&file)).unwrap();
        let path = folder.0.join(opened);
        let wanted = open(&path, Split::Train).unwrap();
        let mut random = Random(7);
        let mut refused = 0;
        for round in 0..900 {
            let mut bytes = whole.clone();
            for _ in 0..=round % 3 {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 + random.below(255) as u8;
            }
            folder.write(&file, &bytes);
            match open(&path, Split::Train) {
                Ok(read) => assert!(read == wanted, "{file}, round {round}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 300, "{file}: only {refused}");
        folder.write(&file, whole);
    }
}

#[test]
fn corrupted_plain_idx_is_refused_or_consistent() {
    let folder = Folder::new("corrupt-plain");
    let whole = idx_bytes(&[4, 3, 3], &Random(8).bytes(36));
    folder.write(LABELS, idx_bytes(&[4], &[0, 1, 2, 3]));
    let mut random = Random(9);
    for _ in 0..1000 {
        let mut bytes = whole.clone();
        let at = random.below(16);
        bytes[at] = random.below(256) as u8;
        folder.write(IMAGES, &bytes);
        if let Ok(data) = folder.open(Split::Train) {
            assert_eq!((data.len(), data.pictures.len()), (4, 4 * data.picture_bytes()));
        }
    }
}

#[test]
fn npz_of_another_kind_is_refused() {
    let folder = Folder::new("npz-kinds");
    let path = folder.at("a.npz");
    npz::write_npz(&path, &[0; 8], 2, 2, 2, 1, &[0, 1]).unwrap();
    let whole = fs::read(&path).unwrap();
    // The patterns have the same length, so only the patched field is wrong (and the checksum, which is checked last).
    let patched = |from: &str, to: &str, parts: &[&str]| {
        assert_eq!(from.len(), to.len());
        let at: Vec<_> = (0..whole.len()).filter(|&i| whole[i..].starts_with(from.as_bytes())).collect();
        assert!(!at.is_empty(), "{from}");
        let mut bytes = whole.clone();
        for at in at {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        fs::write(&path, bytes).unwrap();
        assert_says(open(&path, Split::Train), "a.npz", parts);
    };
    patched("|u1", "<f4", &["arr_0", "\"<f4\"", "uint8"]);
    patched("<i8", "<i4", &["arr_1", "\"<i4\"", "int64"]);
    patched("<i8", ">i8", &["arr_1", "\">i8\"", "int64"]);
    patched("False", "True ", &["Fortran"]);
    patched("(2, 2, 2, 1)", "(2, 2, 2, 2)", &["2 channels"]);
    patched("(2, 2, 2, 1)", "(4, 2, 1)   ", &["3 dimension(s)", "N, H, W, C"]);
    patched("(2, 2, 2, 1)", "(1, 2, 2, 1)", &["goes on after"]);
    patched("(2, 2, 2, 1)", "(99, 9,99,1)", &["truncated"]);
    patched("(2,)", "(3,)", &["3 labels", "2 pictures"]);
    patched("(2,)", "2   ", &["header that is not understood"]);
    patched("arr_1", "other", &["arr_1", "numpy.savez"]);

    npz::write_npz(&path, &[0; 8], 2, 2, 2, 1, &[0, -1]).unwrap();
    assert_says(open(&path, Split::Train), "a.npz", &["label 1 is -1"]);
    npz::write_npz(&path, &[0; 8], 2, 2, 2, 1, &[i64::MAX, 0]).unwrap();
    assert_says(open(&path, Split::Train), "a.npz", &["label 0 is 9223372036854775807"]);
    npz::write_npz(&path, &[0; 8], 2, 2, 2, 1, &[3, 0]).unwrap();
    folder.write("classes.txt", "a\nb\n");
    assert_says(open(&path, Split::Train), "a.npz", &["label 0 is 3", "classes 0 to 1"]);
}

#[test]
fn odd_files_in_class_folders_are_named() {
    let folder = Folder::new("png-odd");
    write_png(&folder.at("a/1.png"), &[0; 4], 2, 2, 1).unwrap();
    write_png(&folder.at("b/2.png"), &[0; 6], 2, 3, 1).unwrap();
    assert_says(folder.open(Split::Train), "b/2.png", &["2x3 grey", "2x2 grey"]);
    write_png(&folder.at("b/2.png"), &[0; 12], 2, 2, 3).unwrap();
    assert_says(folder.open(Split::Train), "b/2.png", &["2x2 RGB", "2x2 grey"]);
    write_png(&folder.at("b/2.png"), &[0; 1025], 1025, 1, 1).unwrap();
    assert_says(folder.open(Split::Train), "b/2.png", &["1025x1 pixels"]);
    folder.write("b/2.png", "not a picture");
    assert_says(folder.open(Split::Train), "b/2.png", &["no whole PNG"]);
    fs::remove_file(folder.0.join("b/2.png")).unwrap();
    assert_says(folder.open(Split::Train), "png-odd", &["holds no PNG files"]);
    folder.write("b/2.jpg", "");
    assert_says(folder.open(Split::Train), "b/2.jpg", &["is no PNG file"]);
}
