//! Zone files as they are sent: from a file or stdin, plain or gzip'd, and never whole in memory.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::failure::Failure;

/// So much of a file is looked at to find out which zone it is of.
const HEAD_BYTES: u64 = 256 * 1024;

/// What a gzip'd file starts with (RFC 1952 §2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A zone file that is about to be sent.
pub struct Upload {
    head: Vec<u8>,
    rest: Box<dyn Read>,
    total_bytes: Option<u64>,
}

impl Upload {
    /// Opens a file, or stdin for `-`.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn open(path: &Path) -> Result<Upload, Failure> {
        let error = |source| Failure::File { path: path.to_owned(), source };
        let (mut rest, total_bytes): (Box<dyn Read>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).map_err(error)?;
            let about = file.metadata().map_err(error)?;
            (Box::new(file), about.is_file().then_some(about.len()))
        };
        let mut head = Vec::new();
        rest.by_ref().take(HEAD_BYTES).read_to_end(&mut head).map_err(error)?;
        Ok(Upload { head, rest, total_bytes })
    }

    /// The start of the text.
    pub fn head(&self) -> Vec<u8> {
        if self.encoding().is_none() {
            return self.head.clone();
        }
        let mut text = Vec::new();
        // It is cut off most of the time; what comes until then is good.
        _ = MultiGzDecoder::new(self.head.as_slice()).take(HEAD_BYTES).read_to_end(&mut text);
        text
    }

    /// How it is compressed.
    pub fn encoding(&self) -> Option<&'static str> {
        self.head.starts_with(&GZIP_MAGIC).then_some("gzip")
    }

    /// How large it is, if that is known.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// The text, if it is small and not compressed.
    pub fn small_text(&self) -> Option<String> {
        let is_whole = self.total_bytes == Some(self.head.len() as u64) && self.encoding().is_none();
        is_whole.then(|| String::from_utf8(self.head.clone()).ok()).flatten()
    }

    /// All of it.
    pub fn into_reader(self) -> impl Read {
        Cursor::new(self.head).chain(self.rest)
    }
}

/// The files that were named, those of a folder by name and without hidden ones.
///
/// # Errors
/// If a folder can't be read, or has no files.
pub fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let error = |source| Failure::File { path: path.clone(), source };
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(error)? {
            let entry = entry.map_err(error)?;
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !is_hidden && entry.path().is_file() {
                inside.push(entry.path());
            }
        }
        if inside.is_empty() {
            return Err(Failure::FileContent {
                path: path.clone(),
                reason: "there are no files in it".into(),
            });
        }
        inside.sort();
        files.append(&mut inside);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn the_head_of_a_compressed_file_is_text() {
        let folder = tempfile::tempdir().unwrap();
        let text = "www A 192.0.2.1\n".repeat(100_000);
        let path = folder.path().join("example.com.gz");
        let mut encoder = GzEncoder::new(File::create(&path).unwrap(), Compression::none());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
        let upload = Upload::open(&path).unwrap();
        assert_eq!((upload.encoding(), upload.small_text()), (Some("gzip"), None));
        assert!(text.as_bytes().starts_with(&upload.head()) && upload.head().len() > 100_000);
        let mut sent = Vec::new();
        upload.into_reader().read_to_end(&mut sent).unwrap();
        assert_eq!(sent, std::fs::read(&path).unwrap());
    }

    #[test]
    fn folders_are_their_files() {
        let folder = tempfile::tempdir().unwrap();
        assert!(files(&[folder.path().to_owned()]).is_err());
        for name in ["b.example", "a.example", ".hidden"] {
            std::fs::write(folder.path().join(name), "text").unwrap();
        }
        let found = files(&[folder.path().to_owned(), "-".into()]).unwrap();
        assert_eq!(found, [folder.path().join("a.example"), folder.path().join("b.example"), "-".into()]);
        assert_eq!(Upload::open(&found[0]).unwrap().small_text().as_deref(), Some("text"));
    }
}
