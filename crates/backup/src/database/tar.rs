//! Reads a tar piece by piece, as far as PostgreSQL writes it: plain files and folders.

/// Bytes of a header, and what every file is filled up to.
const BLOCK: usize = 512;

/// Why a tar cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// A header is none.
    #[error("the base backup is damaged: a header of its tar is none")]
    Header,
    /// It holds something else than files and folders.
    #[error("the base backup holds '{0}', which is neither a file nor a folder")]
    Kind(String),
    /// A name leads out of the folder.
    #[error("the base backup holds '{0}', which would lie outside of its folder")]
    Outside(String),
    /// It ends too early.
    #[error("the base backup is not complete")]
    Incomplete,
}

/// What comes next in a tar.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A folder, by its path without a slash at the end.
    Folder(&'a str),
    /// A file begins.
    File {
        /// Its path.
        path: &'a str,
        /// Its bytes.
        bytes: u64,
    },
    /// Bytes of the file that began last.
    Bytes(&'a [u8]),
    /// The file that began last has ended.
    End,
}

/// Takes a tar apart.
#[derive(Debug, Default)]
pub struct TarReader {
    header: Vec<u8>,
    /// Bytes of the file that are still to come.
    content: u64,
    /// Bytes behind it that fill up its last block.
    filling: usize,
    in_file: bool,
    /// Two empty blocks end a tar.
    empty: u32,
}

impl TarReader {
    /// Takes bytes and hands what they hold to `each`.
    ///
    /// # Errors
    /// [`TarError`], or what `each` returns.
    pub fn feed<E: From<TarError>>(
        &mut self,
        mut piece: &[u8],
        mut each: impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !piece.is_empty() {
            if self.in_file {
                let length = usize::try_from(self.content).unwrap_or(usize::MAX);
                let (content, rest) = piece.split_at(length.min(piece.len()));
                self.content -= content.len() as u64;
                piece = rest;
                each(Entry::Bytes(content))?;
                self.end_of_file(&mut each)?;
            } else if self.filling > 0 {
                let skipped = self.filling.min(piece.len());
                self.filling -= skipped;
                piece = &piece[skipped..];
            } else {
                let taken = (BLOCK - self.header.len()).min(piece.len());
                self.header.extend_from_slice(&piece[..taken]);
                piece = &piece[taken..];
                if self.header.len() == BLOCK {
                    let header = std::mem::take(&mut self.header);
                    self.begin(&header, &mut each)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the tar.
    ///
    /// # Errors
    /// [`TarError::Incomplete`].
    pub fn finish(self) -> Result<(), TarError> {
        if self.empty >= 2 && self.header.is_empty() && !self.in_file {
            Ok(())
        } else {
            Err(TarError::Incomplete)
        }
    }

    fn begin<E: From<TarError>>(
        &mut self,
        header: &[u8],
        each: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if header.iter().all(|byte| *byte == 0) {
            self.empty += 1;
            return Ok(());
        }
        let sum: u64 = (0..BLOCK)
            .map(|at| match at {
                148..156 => u64::from(b' '),
                _ => u64::from(header[at]),
            })
            .sum();
        if self.empty > 0 || number(&header[148..156]) != Some(sum) {
            return Err(TarError::Header.into());
        }
        let (name, prefix) = (text(&header[..100])?, text(&header[345..500])?);
        let path = match prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        let path = path.trim_start_matches("./").trim_end_matches('/');
        let safe = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !path.split('/').all(safe) && !path.is_empty() {
            return Err(TarError::Outside(path.to_owned()).into());
        }
        match header[156] {
            b'5' if path.is_empty() => Ok(()),
            b'5' => each(Entry::Folder(path)),
            b'0' | 0 if !path.is_empty() => {
                let bytes = number(&header[124..136]).ok_or(TarError::Header)?;
                each(Entry::File { path, bytes })?;
                self.content = bytes;
                self.in_file = true;
                self.filling = (BLOCK - (bytes % BLOCK as u64) as usize) % BLOCK;
                self.end_of_file(each)
            }
            _ => Err(TarError::Kind(path.to_owned()).into()),
        }
    }

    fn end_of_file<E: From<TarError>>(
        &mut self,
        each: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.content > 0 {
            return Ok(());
        }
        self.in_file = false;
        each(Entry::End)
    }
}

/// Reads a number: octal digits, or big-endian bytes behind a set bit where those are too few.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let mut bytes = field[1..].iter();
        return bytes.try_fold(u64::from(field[0] & 0x7f), |sum, byte| {
            sum.checked_mul(256)?.checked_add(u64::from(*byte))
        });
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|it| it == ' ' || it == '\0');
    u64::from_str_radix(text, 8).ok()
}

fn text(field: &[u8]) -> Result<&str, TarError> {
    let length = field.iter().position(|byte| *byte == 0);
    let field = &field[..length.unwrap_or(field.len())];
    std::str::from_utf8(field).map_err(|_| TarError::Header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(path: &str, kind: u8, size: &str) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[124..124 + size.len()].copy_from_slice(size.as_bytes());
        header[148..156].fill(b' ');
        header[156] = kind;
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }

    fn file(path: &str, content: &[u8]) -> Vec<u8> {
        let mut whole = header(path, b'0', &format!("{:o}", content.len()));
        whole.extend_from_slice(content);
        whole.resize(whole.len().next_multiple_of(BLOCK), 0);
        whole
    }

    fn read(tar: &[u8], piece: usize) -> Result<Vec<String>, TarError> {
        let (mut reader, mut seen) = (TarReader::default(), Vec::<String>::new());
        let mut each = |entry: Entry<'_>| {
            match entry {
                Entry::Folder(path) => seen.push(format!("{path}/")),
                Entry::File { path, bytes } => seen.push(format!("{path} {bytes} ")),
                Entry::Bytes(bytes) => {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    seen.last_mut().unwrap().push_str(&text);
                }
                Entry::End => seen.last_mut().unwrap().push('.'),
            }
            Ok::<_, TarError>(())
        };
        for piece in tar.chunks(piece) {
            reader.feed(piece, &mut each)?;
        }
        reader.finish().map(|()| seen)
    }

    #[test]
    fn files_and_folders_come_in_pieces_of_any_size() {
        let mut tar = file("backup_label", b"START");
        tar.extend(header("base/", b'5', "0"));
        tar.extend(file("base/1", &[b'x'; BLOCK]));
        tar.extend(file("empty", b""));
        tar.extend([0; 2 * BLOCK]);
        let wanted = [
            "backup_label 5 START.".to_owned(),
            "base/".to_owned(),
            format!("base/1 512 {}.", "x".repeat(BLOCK)),
            "empty 0 .".to_owned(),
        ];
        for piece in [1, 7, BLOCK, 1000, tar.len()] {
            assert_eq!(read(&tar, piece).unwrap(), wanted, "{piece}");
        }
        for cut in [0, 100, BLOCK, tar.len() - BLOCK, tar.len() - 1] {
            assert_eq!(read(&tar[..cut], 100), Err(TarError::Incomplete), "{cut}");
        }
    }

    #[test]
    fn what_does_not_belong_into_the_folder_is_refused() {
        for path in ["../x", "a/../../x", "/etc/x", "a//b"] {
            let read = read(&file(path, b"x"), 100);
            assert!(
                matches!(read, Err(TarError::Outside(_))),
                "{path}: {read:?}"
            );
        }
        let link = read(&header("pg_tblspc/1", b'2', "0"), 100);
        assert!(matches!(link, Err(TarError::Kind(_))), "{link:?}");
        let mut damaged = file("a", b"x");
        damaged[3] ^= 1;
        assert_eq!(read(&damaged, 100), Err(TarError::Header));
    }

    #[test]
    fn sizes_beyond_eight_gibibytes_are_read() {
        let mut field = [0_u8; 12];
        field[0] = 0x80;
        field[7] = 2;
        assert_eq!(number(&field), Some(2 << 32));
        assert_eq!(number(b"00000000777\0"), Some(0o777));
        assert_eq!(number(b"0000000000x\0"), None);
    }
}
