//! HTTP/1.1 as the tests need it: one request on one connection, the answer in parts.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take before the connection counts as broken.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, without the chunks it may have come in.
    pub body: String,
}

/// A connection on which one request was sent.
#[derive(Debug)]
pub struct Exchange {
    /// Reading side; the raw stream is below it.
    pub reader: BufReader<TcpStream>,
}

// === impl Answer ===

impl Answer {
    /// The first header of that (lower case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

// === impl Exchange ===

impl Exchange {
    /// Connects to the router at `port` and sends a request for `host` (which gets the port appended).
    ///
    /// # Errors
    /// What the connection says.
    pub fn send(
        port: u16,
        method: &str,
        host: &str,
        path: &str,
        more: &str,
        body: &[u8],
    ) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        stream
            .write_all(format!("{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{more}\r\n").as_bytes())?;
        stream.write_all(body)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Reads status line and headers.
    ///
    /// # Errors
    /// The connection ended, or what came is not HTTP.
    pub fn head(&mut self) -> std::io::Result<Answer> {
        let invalid =
            |line: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, format!("not HTTP: {line:?}"));
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Answer { status: status.ok_or_else(|| invalid(&status_line))?, headers, body: String::new() })
    }

    /// Reads the whole answer.
    ///
    /// # Errors
    /// The connection ended early, or what came is not HTTP.
    pub fn answer(&mut self) -> std::io::Result<Answer> {
        let mut answer = self.head()?;
        let mut body = Vec::new();
        if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
        } else if let Some(length) = answer.header("content-length").and_then(|length| length.parse().ok()) {
            body.resize(length, 0);
            self.reader.read_exact(&mut body)?;
        } else if answer.status != 204 && answer.status != 304 {
            self.reader.read_to_end(&mut body)?;
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Ok(answer)
    }

    /// Reads one chunk, `None` at the end.
    ///
    /// # Errors
    /// The connection ended early.
    pub fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
        let mut chunk = vec![0; size];
        self.reader.read_exact(&mut chunk)?;
        self.line()?;
        Ok((size > 0).then_some(chunk))
    }

    /// Reads one line without its end.
    ///
    /// # Errors
    /// The connection ended.
    pub fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }
}

/// GETs `path` of `host` from the router at `port`.
///
/// # Errors
/// What the connection says.
pub fn get(port: u16, host: &str, path: &str) -> std::io::Result<Answer> {
    Exchange::send(port, "GET", host, path, "Connection: close\r\n", b"")?.answer()
}
