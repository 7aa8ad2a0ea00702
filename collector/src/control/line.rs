//! Reads lines of bounded length.
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// One attempt to read a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its newline. The last line may have none.
    Whole(Vec<u8>),
    /// The line is longer than the limit. The connection cannot be used any more.
    TooLong,
    /// The other end has closed.
    End,
}

/// Reads a line of at most `limit` bytes.
pub(super) async fn read(input: &mut (impl AsyncBufRead + Unpin), limit: usize) -> io::Result<Line> {
    let mut line = Vec::new();
    loop {
        let part = input.fill_buf().await?;
        if part.is_empty() {
            return Ok(if line.is_empty() { Line::End } else { Line::Whole(line) });
        }
        let newline = part.iter().position(|byte| *byte == b'\n');
        let text = part.get(..newline.unwrap_or(part.len())).unwrap_or_default();
        if line.len() + text.len() > limit {
            return Ok(Line::TooLong);
        }
        line.reserve(text.len());
        line.extend_from_slice(text);
        let used = newline.map_or(part.len(), |at| at + 1);
        input.consume(used);
        if newline.is_some() {
            return Ok(Line::Whole(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    #[tokio::test]
    async fn lines_end_where_they_should() {
        let mut input = BufReader::with_capacity(4, &b"one\n\nlonger line\nlast"[..]);
        for expected in ["one", "", "longer line", "last"] {
            assert_eq!(read(&mut input, 11).await.unwrap(), Line::Whole(expected.into()));
        }
        assert_eq!(read(&mut input, 11).await.unwrap(), Line::End);
    }

    #[tokio::test]
    async fn a_long_line_is_refused_before_it_is_kept() {
        let mut input = BufReader::with_capacity(4, &b"123456789\n"[..]);
        assert_eq!(read(&mut input, 8).await.unwrap(), Line::TooLong);
    }
}
