//! Random requests and answers, cut anywhere: whatever the pieces, each request gets its own answer.
use super::harness::{App, Bench, Conn};
use tokio::net::UnixStream;

/// A small generator, so that a failing seed can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn body(&mut self) -> Vec<u8> {
        let length = [0, 1, 10, 1000, 16_384, 40_000, 150_000][self.roll(7)];
        (0..length).map(|_| b"abc\r\n0"[self.roll(6)]).collect()
    }

    fn chunks(&mut self, body: &[u8]) -> Vec<u8> {
        let mut framed = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(1 + self.roll(30_000)));
            framed.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            framed.extend_from_slice(piece);
            framed.extend_from_slice(b"\r\n");
            rest = after;
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        framed
    }

    async fn send<S>(&mut self, conn: &mut Conn<S>, mut bytes: &[u8])
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        while !bytes.is_empty() {
            let most = [1, 7, 500, 100_000][self.roll(4)];
            let (piece, rest) = bytes.split_at(bytes.len().min(1 + self.roll(most)));
            conn.send(piece).await;
            for _ in 0..self.roll(3) {
                tokio::task::yield_now().await;
            }
            bytes = rest;
        }
    }
}

fn unchunk(mut framed: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = framed.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&framed[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&framed[end + 2..end + 2 + size]);
        framed = &framed[end + 4 + size..];
    }
}

/// Reads a message whose chunked body may contain what looks like its end.
async fn message<S>(conn: &mut Conn<S>) -> (String, Vec<u8>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let head = conn.head().await;
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let mut body = Vec::new();
    if let Some(length) = header("Content-Length: ") {
        body = conn.exactly(length.parse().unwrap()).await;
    } else if header("Transfer-Encoding: ").is_some() {
        let mut framed = Vec::new();
        loop {
            let line = conn.until("\r\n").await;
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            framed.extend(line);
            framed.extend(conn.exactly(size + 2).await);
            if size == 0 {
                break;
            }
        }
        body = unchunk(&framed);
    }
    (head, body)
}

/// Answers each request with its own body, framed in a random way.
async fn echo(mut conn: Conn<UnixStream>, mut dice: Dice) {
    loop {
        if conn.buffer.is_empty() {
            let count = tokio::io::AsyncReadExt::read_buf(&mut conn.stream, &mut conn.buffer).await;
            if !matches!(count, Ok(1..)) {
                return;
            }
        }
        let (head, body) = message(&mut conn).await;
        let number = head.split(' ').nth(1).unwrap().to_owned();
        if dice.roll(4) == 0 {
            dice.send(&mut conn, b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n").await;
        }
        let (framing, body, ends) = match dice.roll(3) {
            0 => (format!("Content-Length: {}\r\n", body.len()), body, dice.roll(3) == 0),
            1 => ("Transfer-Encoding: chunked\r\n".to_owned(), dice.chunks(&body), dice.roll(3) == 0),
            _ => (String::new(), body, true),
        };
        let close = if ends { "Connection: close\r\n" } else { "" };
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nX-Number: {number}\r\n{framing}{close}\r\n").into_bytes();
        answer.extend(body);
        dice.send(&mut conn, &answer).await;
        if ends {
            return;
        }
    }
}

async fn accept_all(app: App, seed: u64) {
    let mut count = 0;
    loop {
        let conn = app.accept().await;
        count += 1;
        tokio::spawn(echo(conn, Dice(seed ^ count << 32)));
    }
}

#[tokio::test]
async fn every_request_gets_its_own_answer() {
    for seed in 0..10 {
        let (bench, app) = Bench::with_app().await;
        let serving = tokio::spawn(accept_all(app, seed));
        let mut dice = Dice(seed);
        let mut client = bench.client().await;
        for round in 0..5 {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for part in 0..1 + dice.roll(3) {
                let (number, body) = (format!("/{round}/{part}"), dice.body());
                let (framing, framed) = match dice.roll(2) {
                    0 => (format!("Content-Length: {}", body.len()), body.clone()),
                    _ => ("Transfer-Encoding: chunked".to_owned(), dice.chunks(&body)),
                };
                bytes.extend_from_slice(
                    format!("POST {number} HTTP/1.1\r\nHost: app.localhost\r\n{framing}\r\n\r\n").as_bytes(),
                );
                bytes.extend(framed);
                expected.push((number, body));
            }
            dice.send(&mut client, &bytes).await;
            for (number, body) in expected {
                let (mut head, mut got) = message(&mut client).await;
                while head.starts_with("HTTP/1.1 103") {
                    (head, got) = message(&mut client).await;
                }
                assert!(head.starts_with("HTTP/1.1 200"), "seed {seed}: {head}");
                assert!(head.contains(&format!("X-Number: {number}\r\n")), "seed {seed}, {number}: {head}");
                assert!(got == body, "seed {seed}, {number}: {} bytes instead of {}", got.len(), body.len());
            }
        }
        serving.abort();
        bench.stop().await;
    }
}
